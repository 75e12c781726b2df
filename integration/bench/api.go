package bench

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	_ "github.com/mattn/go-sqlite3" // registers the driver
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

const (
	// writers is how many clients write at once.
	writers = 64
	// valueBytes is the size of a small pod.
	valueBytes = 1 << 10
	// slice is how long subject and yardstick run before they change places, rounds how often they do.
	slice, rounds = 2 * time.Second, 3
)

// load calls write from all writers for d and returns how many calls succeeded.
func load(d time.Duration, write func(writer, n int) error) (int, error) {
	deadline := time.Now().Add(d)
	var count atomic.Int64
	var group errgroup.Group
	for w := range writers {
		group.Go(func() error {
			for n := 0; time.Now().Before(deadline); n++ {
				if err := write(w, n); err != nil {
					return err
				}
				count.Add(1)
			}
			return nil
		})
	}
	err := group.Wait()
	return int(count.Load()), err
}

// side is one of the things that are measured in turns.
type side struct {
	// run does the work for a slice and returns how many operations that were. Rounds count from 0.
	run func(round int) (int, error)
	// servers are the processes whose CPU time is told apart from this one's, which is the load generator.
	servers []process

	ops  int
	took time.Duration
	// used is the CPU time of the servers, load that of this process.
	used []time.Duration
	load time.Duration
}

// process is a server that CPU time is counted of.
type process struct {
	name string
	pid  int
}

func (s *side) rate() float64 { return perSecond(s.ops, s.took) }

// String is the rate and the CPU time that an operation took, on the servers' side and on the load generator's.
func (s *side) String() string {
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(max(s.ops, 1)) }
	var parts []string
	for i, p := range s.servers {
		parts = append(parts, fmt.Sprintf("%s %.0f µs", p.name, each(s.used[i])))
	}
	parts = append(parts, fmt.Sprintf("load %.0f µs", each(s.load)))
	return fmt.Sprintf("%.0f/s (CPU each: %s)", s.rate(), strings.Join(parts, ", "))
}

// turns runs all sides in turns, several times.
func turns(sides ...*side) error {
	for round := range rounds {
		for _, s := range sides {
			if err := s.turn(round); err != nil {
				return err
			}
		}
	}
	return nil
}

// turn runs one slice and adds it up.
func (s *side) turn(round int) error {
	s.used = append(s.used, make([]time.Duration, len(s.servers)-len(s.used))...)
	for i, p := range s.servers {
		s.used[i] -= cpuTime([]int{p.pid})
	}
	s.load -= cpuTime([]int{os.Getpid()})
	start := time.Now()
	n, err := s.run(round)
	s.took += time.Since(start)
	s.load += cpuTime([]int{os.Getpid()})
	for i, p := range s.servers {
		s.used[i] += cpuTime([]int{p.pid})
	}
	s.ops += n
	return err
}

// template is an encoded request in which the name varies.
type template struct {
	data []byte
	at   int
}

// nameMark stands for the name in a template; it is as long as any name.
const nameMark = "r0-w00-n00000000"

func newTemplate(data []byte) template { return template{data, bytes.Index(data, []byte(nameMark))} }

// with appends the request for a caller's nth call in a round.
func (t template) with(b []byte, round, caller, n int) []byte {
	start := len(b)
	b = append(b, t.data...)
	name := b[start+t.at : start+t.at+len(nameMark)]
	name[1] = byte('0' + round)
	digits(name[4:6], caller)
	digits(name[8:], n)
	return b
}

// digits writes a number into a field of fixed width.
func digits(field []byte, n int) {
	for i := len(field) - 1; i >= 0; i-- {
		field[i] = byte('0' + n%10)
		n /= 10
	}
}

// creates is a side that creates config maps of a KiB through the gRPC door.
func creates(e *Env, s *server, store ...process) *side {
	return createsIn(e, s, metav1.NamespaceDefault, store...)
}

// createsIn is creates in a namespace.
func createsIn(e *Env, s *server, namespace string, store ...process) *side {
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: nameMark}, Data: map[string]string{"v": strings.Repeat("x", valueBytes)}}
	raw, err := m.Marshal()
	if err != nil {
		e.Fatal(err)
	}
	request, err := proto.Marshal(&apiv1.CreateRequest{
		Ref:    &apiv1.ResourceRef{Version: "v1", Resource: "configmaps", Namespace: namespace},
		Object: &anypb.Any{TypeUrl: "type.googleapis.com/k8s.io.api.core.v1.ConfigMap", Value: raw},
	})
	if err != nil {
		e.Fatal(err)
	}
	g, t := s.generator(e, "h2"), newTemplate(request)
	return &side{servers: append([]process{{"apiserver", s.pid}}, store...), run: func(round int) (int, error) {
		go s.profile(e, fmt.Sprintf("creates-%s-%s-%d", s.store, namespace, round), slice)
		return g.run(grpcCall(s.address(), apiv1.ResourceService_Create_FullMethodName, func(b []byte, caller, n int) []byte { return t.with(b, round, caller, n) }), writers, slice)
	}}
}

// limitedCreates is a side that creates the same in a namespace whose quota counts them.
func limitedCreates(e *Env, s *server) *side {
	const namespace, plenty = "limited", "1G"
	ctx, c := context.Background(), s.dial(e)
	if _, err := client.Of(c, client.Namespaces()).Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		e.Fatal(err)
	}
	quotas, hard := client.Of(c, client.ResourceQuotas()), corev1.ResourceList{"count/configmaps": resource.MustParse(plenty)}
	q, err := quotas.Create(ctx, &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}})
	if err != nil {
		e.Fatal(err)
	}
	// What the quota controller would find out.
	q.Status = corev1.ResourceQuotaStatus{Hard: hard, Used: corev1.ResourceList{"count/configmaps": resource.MustParse("0")}}
	if _, err := quotas.UpdateStatus(ctx, q); err != nil {
		e.Fatal(err)
	}
	return createsIn(e, s, namespace)
}

// restCreates is a side that creates the same through the REST door, in JSON, as most clients write.
func restCreates(e *Env, s *server) *side {
	body := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":"default","name":%q},"data":{"v":%q}}`, "rest-"+nameMark, strings.Repeat("x", valueBytes))
	g, t := s.generator(e, "h2", "http/1.1"), newTemplate([]byte(body))
	return &side{servers: []process{{"apiserver", s.pid}}, run: func(round int) (int, error) {
		go s.profile(e, fmt.Sprintf("creates-rest-%d", round), slice)
		c := restCall(s.address(), "POST", "/api/v1/namespaces/default/configmaps", "application/json")
		c.ok = map[string]string{":status": "201"}
		c.body = func(b []byte, caller, n int) []byte { return t.with(b, round, caller, n) }
		return g.run(c, writers, slice)
	}}
}

// restCall is a call of the REST door that is to be answered in a media type.
func restCall(authority, method, path, media string) call {
	return call{
		headers: []hpack.HeaderField{
			{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"}, {Name: ":path", Value: path}, {Name: ":authority", Value: authority},
			{Name: "content-type", Value: media}, {Name: "accept", Value: media}, {Name: "user-agent", Value: "bench"},
		},
		ok:   map[string]string{":status": "200"},
		body: func(b []byte, _, _ int) []byte { return b },
	}
}

// puts is a side that puts values of the same size into etcd, with the same load generator.
func puts(e *Env, etcd *etcdServer) *side {
	request, err := proto.Marshal(&etcdserverpb.PutRequest{Key: []byte("/raw/" + nameMark), Value: []byte(strings.Repeat("x", valueBytes))})
	if err != nil {
		e.Fatal(err)
	}
	g, t := dialGenerator(e, etcd.address, nil), newTemplate(request)
	return &side{servers: []process{{"etcd", etcd.pid}}, run: func(round int) (int, error) {
		return g.run(grpcCall(etcd.address, "/etcdserverpb.KV/Put", func(b []byte, caller, n int) []byte { return t.with(b, round, caller, n) }), writers, slice)
	}}
}

// apiWrites measures creates through each door against the store alone. The load generator does next to nothing for a call, on both
// sides of a comparison; with clients as programs have them, on both sides again, the clients take their share of the CPUs.
func apiWrites(e *Env) ([]Row, error) {
	value := strings.Repeat("x", valueBytes)
	sqlite := startServer(e, "")
	lite, raw, programs, rest, limited := creates(e, sqlite), rawSQLite(e, value), programCreates(e, sqlite), restCreates(e, sqlite), limitedCreates(e, sqlite)
	if err := turns(lite, raw, programs, rest, limited); err != nil {
		return nil, err
	}
	etcd := startEtcd(e)
	s, store := startServer(e, etcd.url), process{"etcd", etcd.pid}
	onEtcd, rawEtcd, programsOnEtcd, programPuts := creates(e, s, store), puts(e, etcd), programCreates(e, s, store), programPuts(e, etcd, value)
	if err := turns(onEtcd, rawEtcd, programsOnEtcd, programPuts); err != nil {
		return nil, err
	}
	row := func(path string, subject *side, name string, yardstick *side, aim string) Row {
		return Row{path, subject.String(), name + " " + yardstick.String(), fmt.Sprintf("%.2f", subject.rate()/yardstick.rate()), aim}
	}
	return []Row{
		row("API creates/s, gRPC, 64 clients, SQLite", lite, "raw group commits", raw, "≥ 0.3"),
		row("the same with the Go client", programs, "raw group commits", raw, ""),
		row("API creates/s, REST with JSON, 64 clients, SQLite", rest, "gRPC", lite, ""),
		row("API creates/s, gRPC, 64 clients, SQLite, all in one namespace with a quota", limited, "without a quota", lite, ""),
		row("API creates/s, gRPC, 64 clients, etcd", onEtcd, "raw etcd puts", rawEtcd, "≥ 0.7"),
		row("the same with the Go clients of the API and of etcd", programsOnEtcd, "raw etcd puts", programPuts, "≥ 0.7"),
	}, nil
}

// programCreates is a side that creates the same objects as Go programs do, with the typed client.
func programCreates(e *Env, s *server, store ...process) *side {
	maps, value := client.Of(s.dial(e), client.ConfigMaps()), strings.Repeat("x", valueBytes)
	return &side{servers: append([]process{{"apiserver", s.pid}}, store...), run: func(round int) (int, error) {
		return load(slice, func(w, n int) error {
			_, err := maps.Create(context.Background(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("program-r%d-w%d-n%d", round, w, n)}, Data: map[string]string{"v": value}})
			return err
		})
	}}
}

// programPuts is a side that puts the same values into etcd with etcd's own client.
func programPuts(e *Env, etcd *etcdServer, value string) *side {
	c := dialEtcd(e, etcd.url)
	return &side{servers: []process{{"etcd", etcd.pid}}, run: func(round int) (int, error) {
		return load(slice, func(w, n int) error {
			_, err := c.Put(context.Background(), fmt.Sprintf("/raw/program-r%d-w%d-n%d", round, w, n), value)
			return err
		})
	}}
}

// rawSQLite commits the same values durably with nothing around SQLite: whatever is waiting goes into one transaction.
func rawSQLite(e *Env, value string) *side {
	dir, err := os.MkdirTemp("", "bench-sqlite-")
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { os.RemoveAll(dir) })
	db, err := sql.Open("sqlite3", filepath.Join(dir, "raw.db")+"?_journal_mode=WAL&_synchronous=FULL")
	if err == nil {
		db.SetMaxOpenConns(1)
		_, err = db.Exec("CREATE TABLE t (id INTEGER PRIMARY KEY, k TEXT, v BLOB)")
	}
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { db.Close() })
	type put struct {
		key  string
		done chan error
	}
	queue := make(chan put, writers)
	go func() {
		for first := range queue {
			group := []put{first}
			for len(queue) > 0 {
				group = append(group, <-queue)
			}
			err := commitGroup(db, value, len(group), func(i int) string { return group[i].key })
			for _, p := range group {
				p.done <- err
			}
		}
	}()
	e.Cleanup(func() { close(queue) })
	return &side{run: func(round int) (int, error) {
		return load(slice, func(w, n int) error {
			p := put{fmt.Sprintf("r%d-w%d-n%d", round, w, n), make(chan error, 1)}
			queue <- p
			return <-p.done
		})
	}}
}

func commitGroup(db *sql.DB, value string, n int, key func(int) string) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	stmt, err := tx.Prepare("INSERT INTO t (k, v) VALUES (?, ?)")
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	for i := range n {
		if _, err := stmt.Exec(key(i), value); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

func createPods(c *client.Client, n int) error {
	var ops []client.Op
	for i := range n {
		ops = append(ops, client.CreateOp(client.Pods(), benchPod(fmt.Sprintf("pod-%05d", i), "")))
	}
	results, err := c.BatchOmit(context.Background(), ops...)
	for _, r := range results {
		if err == nil {
			err = r.Err
		}
	}
	return err
}

// benchPod is a small but ordinary pod.
func benchPod(name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "bench", "tier": "pod"}},
		Spec: corev1.PodSpec{
			NodeName: node, TerminationGracePeriodSeconds: new(int64),
			Containers: []corev1.Container{{Name: "main", Image: "docker.io/bareboat/guestbook-redis:v1", ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"/bin/busybox", "sleep", "100000"}}},
		},
	}
}

package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	_ "github.com/mattn/go-sqlite3" // registers the driver
	corev1 "k8s.io/api/core/v1"
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

// load calls write from all writers for d and returns how many calls succeeded per second.
func load(e *Env, d time.Duration, write func(ctx context.Context, writer, n int) error) float64 {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var count atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	start := time.Now()
	for w := range writers {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := write(context.WithoutCancel(ctx), w, n); err != nil {
					failed.Store(&err)
					return
				}
				count.Add(1)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		e.Fatal(*err)
	}
	return perSecond(int(count.Load()), time.Since(start))
}

// alternate runs subject and yardstick in turns and returns the mean rate of each.
func alternate(e *Env, subject, yardstick func(round int) float64) (s, y float64) {
	for r := range rounds {
		s += subject(r) / rounds
		y += yardstick(r) / rounds
	}
	return s, y
}

// apiWrites measures creates through the gRPC door against the store alone.
func apiWrites(e *Env) ([]Row, error) {
	value := strings.Repeat("x", valueBytes)
	creator := func(s *server) func(round int) float64 {
		c := s.dial(e)
		maps := client.Of(c, client.ConfigMaps())
		return func(round int) float64 {
			return load(e, slice, func(ctx context.Context, w, n int) error {
				_, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("r%d-w%d-n%d", round, w, n)}, Data: map[string]string{"v": value}})
				return err
			})
		}
	}
	lite, raw := alternate(e, creator(startServer(e, "")), rawSQLite(e, value))
	rows := []Row{{"API creates/s, gRPC, 64 clients, SQLite", fmt.Sprintf("%.0f/s", lite), fmt.Sprintf("raw group commits %.0f/s", raw), fmt.Sprintf("%.2f", lite/raw), "≥ 0.3"}}

	url := startEtcd(e)
	ec := dialEtcd(e, url)
	onEtcd, rawEtcd := alternate(e, creator(startServer(e, url)), func(round int) float64 {
		return load(e, slice, func(ctx context.Context, w, n int) error {
			_, err := ec.Put(ctx, fmt.Sprintf("/raw/r%d-w%d-n%d", round, w, n), value)
			return err
		})
	})
	return append(rows, Row{"API creates/s, gRPC, 64 clients, etcd", fmt.Sprintf("%.0f/s", onEtcd), fmt.Sprintf("raw etcd puts %.0f/s", rawEtcd), fmt.Sprintf("%.2f", onEtcd/rawEtcd), "≥ 0.7"}), nil
}

// rawSQLite commits the same values durably with nothing around SQLite: whatever is waiting goes into one transaction.
func rawSQLite(e *Env, value string) func(round int) float64 {
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
	return func(round int) float64 {
		return load(e, slice, func(_ context.Context, w, n int) error {
			p := put{fmt.Sprintf("r%d-w%d-n%d", round, w, n), make(chan error, 1)}
			queue <- p
			return <-p.done
		})
	}
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

// manyPods is the collection that lists are measured on.
const manyPods = 10_000

// listPods measures a list of many pods to its last byte, against the time that encoding those pods once takes.
func listPods(e *Env) ([]Row, error) {
	s := startServer(e, "")
	c := s.dial(e)
	if err := createPods(c, manyPods); err != nil {
		return nil, err
	}
	pods, _, err := client.Of(c, client.Pods()).List(context.Background(), "", client.ListOptions{})
	if err != nil {
		return nil, err
	}
	raw := apiv1.NewResourceServiceClient(c.Conn())
	var lists, encodings []time.Duration
	for range 10 {
		start := time.Now()
		if err := drain(raw); err != nil {
			return nil, err
		}
		lists = append(lists, time.Since(start))
		start = time.Now()
		for _, p := range pods {
			if _, err := p.Marshal(); err != nil {
				return nil, err
			}
		}
		encodings = append(encodings, time.Since(start))
	}
	list, encoding := percentile(lists, 0.5), percentile(encodings, 0.5)
	return []Row{{"list 10,000 pods, gRPC, p50 to the last byte", ms(list), "encoding them once " + ms(encoding), fmt.Sprintf("%.2f", float64(list)/float64(encoding)), "≤ 25 ms"}}, nil
}

func drain(raw apiv1.ResourceServiceClient) error {
	stream, err := raw.List(context.Background(), &apiv1.ListRequest{Ref: &apiv1.ResourceRef{Version: "v1", Resource: "pods"}})
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
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

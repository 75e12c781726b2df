package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/integration/host"
	"bareboat.dev/kctl/pki"
)

const (
	haMembers = 3
	haSpace   = "ha"
	// callTimeout bounds one call while servers die; each is answered or refused much sooner.
	callTimeout = 10 * time.Second
)

// haCluster is a control plane that has no single point of failure: three etcd members, and three API servers without state
// of their own in front of them.
type haCluster struct {
	t *testing.T
	*host.Host
	etcds, servers []*host.Process
	endpoints      []string // of the API servers
	etcd           *clientv3.Client
}

// TestEtcdHA shows that killing API servers, an etcd member and the acting controller manager, one after another and under load, loses no
// acknowledged write, applies none twice, hides no event from a mirror and tells it none twice.
func TestEtcdHA(t *testing.T) {
	needBuild(t)
	host.Require(t, map[string]string{"etcd": "etcd-server"})
	c := startHA(t)
	api := c.client(c.endpoints...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := client.Of(api, client.Namespaces()).Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: haSpace}}); err != nil {
		t.Fatal(err)
	}
	mirror := client.NewMirror(api, client.ConfigMaps(), client.MirrorOptions[*corev1.ConfigMap]{Namespace: haSpace})
	var told []string
	mirror.OnChange(func(ch client.Change[*corev1.ConfigMap]) { told = append(told, describeChange(ch)) })
	var background sync.WaitGroup
	background.Go(func() { _ = mirror.Run(ctx) })
	c.reaches(mirror, api) // what is there at its first list is told by name, not in the order of etcd's history
	load := startWriters(ctx, c, api, 4)

	for i, server := range c.servers {
		server.Kill()
		load.goesOn()
		server.Restart()
		c.serves(c.endpoints[i])
		// A server that has just started holds no older revisions: the mirror must not need them when the next one dies.
		c.reaches(mirror, api)
	}
	leader := c.etcdLeader()
	c.etcds[leader].Kill()
	load.goesOn()
	c.etcds[leader].Restart()
	load.goesOn()
	c.controllersTakeOver(api)
	load.stop()
	c.reaches(mirror, api)

	// The end: what the servers say, what the mirror holds, and what the writers were told.
	list, _, err := client.Of(api, client.ConfigMaps()).List(ctx, haSpace, client.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sameObjects(t, list, mirror.List())
	for _, w := range load.writers {
		w.check(t, list)
	}
	history := c.history()
	cancel()
	background.Wait()
	if stats := mirror.Stats(); stats.Relists != 0 {
		t.Errorf("the mirror had to list %d times again", stats.Relists)
	}
	sameHistory(t, history, told)
	t.Logf("%d events; %s", len(history), load)
}

// startHA starts the members and then the servers.
func startHA(t *testing.T) *haCluster {
	t.Helper()
	c := &haCluster{t: t, Host: host.New(t, "ha")}
	var peers, urls []string
	for i := range haMembers {
		peers = append(peers, fmt.Sprintf("m%d=http://127.0.0.1:%d", i, 2380+10*i))
		urls = append(urls, fmt.Sprintf("http://127.0.0.1:%d", 2379+10*i))
	}
	for i := range haMembers {
		_, peer, _ := strings.Cut(peers[i], "=")
		c.etcds = append(c.etcds, c.Start("etcd", "--name=m"+strconv.Itoa(i), "--data-dir=/var/lib/bareboat/m"+strconv.Itoa(i), "--log-level=error", "--logger=zap",
			"--listen-client-urls="+urls[i], "--advertise-client-urls="+urls[i], "--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer,
			"--initial-cluster="+strings.Join(peers, ",")))
	}
	c.dialEtcd(urls)

	// The files are written from here and read there.
	store := pki.Store{Dir: "/etc/bareboat/pki"}
	self := pki.Host{NodeName: "ha", Hostname: "ha", ServiceIP: net.IPv4(10, 96, 0, 1), ClusterDomain: "cluster.local"}
	if _, err := c.pki().Ensure(pki.ControlPlane(self), time.Now()); err != nil {
		t.Fatal(err)
	}
	for i := range haMembers {
		port := strconv.Itoa(6443 + i)
		c.endpoints = append(c.endpoints, "127.0.0.1:"+port)
		c.servers = append(c.servers, c.Start("apiserver", "--bind-address=127.0.0.1", "--advertise-address="+c.IP, "--secure-port="+port,
			"--etcd-servers="+strings.Join(urls, ","), "--tls-cert-file="+store.CertFile(pki.APIServer), "--tls-private-key-file="+store.KeyFile(pki.APIServer),
			"--client-ca-file="+store.CertFile("ca"), "--service-account-signing-key-file="+store.KeyFile(pki.ServiceAccount)))
	}
	for _, e := range c.endpoints {
		c.serves(e)
	}
	return c
}

func (c *haCluster) pki() pki.Store {
	return pki.Store{Dir: fmt.Sprintf("/proc/%d/root/etc/bareboat/pki", c.PID())}
}

// client is a client of the administrator for endpoints.
func (c *haCluster) client(endpoints ...string) *client.Client {
	c.t.Helper()
	store := c.pki()
	api, err := client.Dial(&client.Config{
		Endpoints: endpoints, CAFile: store.CertFile("ca"), CertFile: store.CertFile(pki.Admin), KeyFile: store.KeyFile(pki.Admin), UserAgent: "ha-test", Dialer: c.Dial,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { api.Close() })
	return api
}

// serves waits until one server answers with fresh data.
func (c *haCluster) serves(endpoint string) {
	c.t.Helper()
	api := c.client(endpoint)
	defer api.Close()
	c.Eventually("an answer of "+endpoint, func() error {
		ctx, cancel := context.WithTimeout(c.t.Context(), callTimeout)
		defer cancel()
		_, err := client.Of(api, client.Namespaces()).Get(ctx, "", "default")
		return err
	})
}

// reaches waits until the mirror has all that is stored now.
func (c *haCluster) reaches(m *client.Mirror[*corev1.ConfigMap], api *client.Client) {
	c.t.Helper()
	c.Eventually("a list", func() error {
		ctx, cancel := context.WithTimeout(c.t.Context(), callTimeout)
		defer cancel()
		_, rev, err := client.Of(api, client.ConfigMaps()).List(ctx, haSpace, client.ListOptions{})
		if err != nil {
			return err
		}
		if err := m.WaitRevision(ctx, rev); err != nil {
			return fmt.Errorf("the mirror is at %d, the servers at %d: %w", m.Revision(), rev, err)
		}
		return nil
	})
}

func (c *haCluster) dialEtcd(urls []string) {
	c.t.Helper()
	var err error
	c.etcd, err = clientv3.New(clientv3.Config{Endpoints: urls, Logger: zap.NewNop(), DialOptions: []grpc.DialOption{grpc.WithContextDialer(c.Dial)}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { c.etcd.Close() })
	c.Eventually("etcd", func() error {
		ctx, cancel := context.WithTimeout(c.t.Context(), callTimeout)
		defer cancel()
		_, err := c.etcd.Get(ctx, "x")
		return err
	})
}

// etcdLeader is the index of the member that leads.
func (c *haCluster) etcdLeader() (index int) {
	c.t.Helper()
	c.Eventually("etcd's leader", func() error {
		for i, url := range c.etcd.Endpoints() {
			ctx, cancel := context.WithTimeout(c.t.Context(), callTimeout)
			st, err := c.etcd.Status(ctx, url)
			cancel()
			if err != nil {
				return err
			}
			if st.Leader == st.Header.MemberId {
				index = i
				return nil
			}
		}
		return errors.New("there is none")
	})
	return index
}

// history is what etcd itself says that happened in the space. Nothing is deleted there, so that the last event is that of a key.
func (c *haCluster) history() (lines []string) {
	c.t.Helper()
	prefix := "/registry/configmaps/" + haSpace + "/"
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(c.t.Context()), time.Minute)
	defer cancel()
	last, err := c.etcd.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend), clientv3.WithLimit(1), clientv3.WithKeysOnly())
	if err != nil || len(last.Kvs) == 0 {
		c.t.Fatalf("etcd's last event: %v", err)
	}
	for resp := range c.etcd.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1)) {
		if err := resp.Err(); err != nil {
			c.t.Fatal(err)
		}
		for _, ev := range resp.Events {
			what := "MODIFIED"
			if ev.IsCreate() {
				what = "ADDED"
			}
			lines = append(lines, fmt.Sprintf("%d %s %s", ev.Kv.ModRevision, strings.TrimPrefix(string(ev.Kv.Key), prefix), what))
		}
		// What shares the last transaction comes in one response.
		if n := len(resp.Events); n > 0 && resp.Events[n-1].Kv.ModRevision == last.Kvs[0].ModRevision {
			return lines
		}
	}
	c.t.Fatalf("etcd's history ended before revision %d: %v", last.Kvs[0].ModRevision, ctx.Err())
	return nil
}

// commitsPerRevision is how many commits may share a revision of etcd's: docs/decisions/0011-commits-share-transactions.md.
const commitsPerRevision = 128

// describeChange names etcd's own revision of a change; of those that share one the order tells.
func describeChange(ch client.Change[*corev1.ConfigMap]) string {
	return fmt.Sprintf("%d %s %s", ch.Revision/commitsPerRevision, ch.Object().Name, ch.Type)
}

// sameHistory compares what happened with what a mirror was told.
func sameHistory(t *testing.T, happened, told []string) {
	t.Helper()
	for i := range max(len(happened), len(told)) {
		var h, m string
		if i < len(happened) {
			h = happened[i]
		}
		if i < len(told) {
			m = told[i]
		}
		if h != m {
			t.Fatalf("event %d was %q, and the mirror was told %q (of %d and %d)", i, h, m, len(happened), len(told))
		}
	}
}

// sameObjects compares a list with a mirror's contents, byte by byte.
func sameObjects(t *testing.T, list, mirrored []*corev1.ConfigMap) {
	t.Helper()
	encode := func(objects []*corev1.ConfigMap) map[string][]byte {
		m := map[string][]byte{}
		for _, o := range objects {
			o = o.DeepCopy()
			o.ManagedFields = nil // a mirror drops them
			data, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			m[o.Name] = data
		}
		return m
	}
	want, got := encode(list), encode(mirrored)
	for name := range want {
		if !bytes.Equal(want[name], got[name]) {
			t.Errorf("%s is\n%s\nand the mirror has\n%s", name, want[name], got[name])
		}
	}
	if len(want) != len(got) {
		t.Errorf("there are %d objects, and the mirror has %d", len(want), len(got))
	}
}

// load is several writers at once.
type load struct {
	c       *haCluster
	writers []*writer
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func startWriters(ctx context.Context, c *haCluster, api *client.Client, n int) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{c: c, cancel: cancel}
	for i := range n {
		w := &writer{name: "w" + strconv.Itoa(i), maps: client.Of(api, client.ConfigMaps()), created: map[string]bool{}}
		l.writers = append(l.writers, w)
		l.running.Go(func() { w.run(ctx) })
	}
	c.t.Cleanup(l.stop)
	return l
}

// goesOn returns when every writer has done five whole rounds from now.
func (l *load) goesOn() {
	l.c.t.Helper()
	began := time.Now()
	defer func() { l.c.t.Logf("all writers went on within %v", time.Since(began).Round(time.Millisecond)) }()
	for _, w := range l.writers {
		from := w.rounds.Load()
		l.c.Eventually("progress of "+w.name, func() error {
			if n := w.rounds.Load(); n < from+5 {
				last, _ := w.last.Load().(string)
				return fmt.Errorf("%d rounds before, %d now; the last error: %s", from, n, last)
			}
			return nil
		})
	}
}

func (l *load) stop() {
	l.cancel()
	l.running.Wait()
}

func (l *load) String() string {
	var s []string
	for _, w := range l.writers {
		s = append(s, fmt.Sprintf("%s: %d rounds, %d undecided", w.name, w.rounds.Load(), w.undecided))
	}
	return strings.Join(s, "; ")
}

// writer keeps a counter by conditional updates, and creates objects under names that the server chooses, which succeeds as often
// as it is carried out. It removes none of them, so that each is there to be counted.
type writer struct {
	name      string
	maps      *client.Resource[*corev1.ConfigMap]
	rounds    atomic.Int64
	last      atomic.Value // the last error, as a string
	undecided int          // writes whose answer was lost
	counted   int          // acknowledged increments
	attempts  int          // increments tried
	created   map[string]bool
	strange   []error // errors that are neither success nor "try again"
}

func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		if w.increment(ctx) && w.create(ctx) {
			w.rounds.Add(1)
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond): // at most a hundred rounds a second
		}
	}
}

// increment adds one to the counter; false if it is not known whether it was done.
func (w *writer) increment(ctx context.Context) bool {
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	counter, err := w.maps.Get(call, haSpace, w.name)
	if apierrors.IsNotFound(err) {
		counter = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: haSpace, Name: w.name}, Data: map[string]string{"n": "0"}}
		_, err = w.maps.Create(call, counter)
		w.decided(err)
		return false
	}
	if err != nil {
		w.note(err)
		return false
	}
	n, err := strconv.Atoi(counter.Data["n"])
	if err != nil {
		w.strange = append(w.strange, err)
		return false
	}
	counter.Data["n"] = strconv.Itoa(n + 1)
	w.attempts++
	_, err = w.maps.Update(call, counter)
	if !w.decided(err) {
		return false
	}
	w.counted++
	return true
}

// create makes an object that carries the number of this call, which is never used again.
func (w *writer) create(ctx context.Context) bool {
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	id := strconv.Itoa(len(w.created))
	_, err := w.maps.Create(call, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: haSpace, GenerateName: w.name + "-"}, Data: map[string]string{"call": w.name + "/" + id},
	})
	ok := w.decided(err)
	w.created[w.name+"/"+id] = ok
	return ok
}

// decided reports whether a write was acknowledged.
func (w *writer) decided(err error) bool {
	if err == nil {
		return true
	}
	w.undecided++
	w.note(err)
	return false
}

// note keeps an error that servers which die do not explain: a conflict is what a lost answer leads to.
func (w *writer) note(err error) {
	w.last.Store(err.Error())
	if !client.IsUnavailable(err) && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsTimeout(err) && !apierrors.IsServerTimeout(err) {
		w.strange = append(w.strange, err)
	}
}

// check compares what the writer was told with what there is; only writes whose answer was lost may be there or not.
func (w *writer) check(t *testing.T, list []*corev1.ConfigMap) {
	t.Helper()
	for _, err := range w.strange {
		t.Errorf("%s: an error that does not say that trying again may help: %v", w.name, err)
	}
	found := map[string]int{}
	for _, o := range list {
		if o.Name == w.name {
			if n, _ := strconv.Atoi(o.Data["n"]); n < w.counted || n > w.attempts {
				t.Errorf("%s counted to %d, with %d acknowledged and %d tried increments", w.name, n, w.counted, w.attempts)
			}
		}
		if call := o.Data["call"]; strings.HasPrefix(call, w.name+"/") {
			found[call]++
		}
	}
	for call, acknowledged := range w.created {
		if n := found[call]; n > 1 || acknowledged && n != 1 {
			t.Errorf("create %s, acknowledged: %t, was carried out %d times", call, acknowledged, n)
		}
	}
	if w.counted == 0 || len(found) == 0 {
		t.Errorf("%s wrote nothing", w.name)
	}
}

const controllerKubeconfig = `apiVersion: v1
kind: Config
current-context: ha
clusters:
- name: ha
  cluster:
    server: https://%[1]s
    certificate-authority: /etc/bareboat/pki/ca.crt
    extensions: [{name: bareboat.dev/endpoints, extension: {endpoints: [%[2]s]}}]
users:
- name: controllermanager
  user: {client-certificate: /etc/bareboat/pki/controllermanager.crt, client-key: /etc/bareboat/pki/controllermanager.key}
contexts:
- name: ha
  context: {cluster: ha, user: controllermanager}
`

// controllersTakeOver kills the controller manager that leads; the other must wait out its lease, then
// hold it, and do the work.
func (c *haCluster) controllersTakeOver(api *client.Client) {
	t := c.t
	t.Helper()
	var urls []string
	for _, e := range c.endpoints {
		urls = append(urls, `"https://`+e+`"`)
	}
	c.WriteFile("/etc/bareboat/ha.conf", fmt.Sprintf(controllerKubeconfig, c.endpoints[0], strings.Join(urls, ", ")))
	ctx, cancel := context.WithCancel(t.Context())
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	leases := &leases{}
	mirror := client.NewMirror(api, client.Leases(), client.MirrorOptions[*coordinationv1.Lease]{Namespace: "kube-system"})
	mirror.OnChange(leases.record)
	following.Go(func() { _ = mirror.Run(ctx) })

	run := func() *host.Process {
		return c.Start("controllermanager", "--kubeconfig=/etc/bareboat/ha.conf", "--leader-elect", "--secure-port=0")
	}
	first := run()
	c.work(api, "first")
	holder := leases.holder()
	second := run()
	first.Kill()
	c.Eventually("another leader", func() error {
		if now := leases.holder(); now == holder {
			return errors.New("it is still " + now)
		}
		return nil
	})
	c.work(api, "second")
	second.Kill()
	cancel()
	following.Wait()
	leases.check(t)
}

// leases are the states of the controller manager's lease.
type leases struct {
	mu     sync.Mutex
	states []coordinationv1.LeaseSpec
}

func (l *leases) record(ch client.Change[*coordinationv1.Lease]) {
	if ch.New != nil && strings.Contains(ch.New.Name, "controller") {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.states = append(l.states, ch.New.Spec)
	}
}

// holder is who held the lease last.
func (l *leases) holder() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.states) - 1; i >= 0; i-- {
		if h := l.states[i].HolderIdentity; h != nil && *h != "" {
			return *h
		}
	}
	return ""
}

// check requires of each change of holder that the holder before had been silent for the time of its lease.
func (l *leases) check(t *testing.T) {
	t.Helper()
	changes := 0
	for i := 1; i < len(l.states); i++ {
		before, after := l.states[i-1], l.states[i]
		if *before.HolderIdentity == "" || *before.HolderIdentity == *after.HolderIdentity {
			continue
		}
		changes++
		duration := time.Duration(*before.LeaseDurationSeconds) * time.Second
		silent := after.AcquireTime.Sub(before.RenewTime.Time)
		if silent < duration {
			t.Errorf("a leader began %v after the last sign of the one before, whose lease of %v had not ended", silent, duration)
		}
		t.Logf("the lead moved %v after the last sign of a leader with a lease of %v", silent, duration)
	}
	if changes == 0 {
		t.Error("the lead did not move")
	}
}

// work gives the controllers work and waits until it is done: a namespace gets its service account.
func (c *haCluster) work(api *client.Client, name string) {
	c.t.Helper()
	c.Eventually("the controllers' work in "+name, func() error {
		ctx, cancel := context.WithTimeout(c.t.Context(), callTimeout)
		defer cancel()
		_, err := client.Of(api, client.Namespaces()).Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		_, err = client.Of(api, client.ServiceAccounts()).Get(ctx, name, "default")
		return err
	})
}

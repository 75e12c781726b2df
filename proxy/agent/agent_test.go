package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	"bareboat.dev/proxy/agent"
	"bareboat.dev/proxy/plan"
)

// kernel is an applier that keeps what it was told, and can be told to fail or to block.
type kernel struct {
	mu     sync.Mutex
	text   string
	full   int // applies of everything
	calls  int
	gone   bool
	fail   error
	moved  chan struct{} // closed and replaced at each change of the above
	before func()        // called at the start of each Apply
}

func newKernel() *kernel { return &kernel{moved: make(chan struct{})} }

func (k *kernel) Apply(_ context.Context, set *plan.Set, changed []string) error {
	k.mu.Lock()
	before := k.before
	k.mu.Unlock()
	if before != nil {
		before()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	defer func() { close(k.moved); k.moved = make(chan struct{}) }()
	if k.fail != nil {
		return k.fail
	}
	if changed == nil {
		k.full++
	}
	k.text, k.gone = set.String(), false
	return nil
}

func (k *kernel) Intact() bool { k.mu.Lock(); defer k.mu.Unlock(); return !k.gone }
func (k *kernel) Forget()      {}

// until waits for a state of the kernel.
func (k *kernel) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		k.mu.Lock()
		done, moved, text := ok(), k.moved, k.text
		k.mu.Unlock()
		if done {
			return
		}
		select {
		case <-moved:
		case <-deadline:
			t.Fatalf("never came: %s; the kernel has\n%s", what, text)
		}
	}
}

func (k *kernel) has(t *testing.T, part string) {
	t.Helper()
	k.until(t, part, func() bool { return strings.Contains(k.text, part) })
}

type world struct {
	*testing.T
	api    *clienttest.Server
	c      *client.Client
	kernel *kernel
	agent  *agent.Agent
	reg    *prometheus.Registry
	ports  sync.Map // health-check node port → address it really listens on
}

// start runs an agent against a model API server until the test ends.
func start(t *testing.T, k *kernel, objects ...client.Object) *world {
	w := &world{T: t, api: clienttest.NewServer(t), kernel: k, reg: prometheus.NewRegistry()}
	w.c = w.api.Client()
	for _, o := range objects {
		w.create(o)
	}
	ready := make(chan struct{})
	w.agent = agent.New(w.c, agent.Config{
		NodeName: "n1", Mode: "iptables", Log: slog.New(slog.DiscardHandler), Registry: w.reg,
		Families: []agent.Family{{Family: plan.IPv4, Applier: k}},
		Listen: func(port uint16) (net.Listener, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err == nil {
				w.ports.Store(port, l.Addr().String())
			}
			return l, err
		},
		Ready: func() { close(ready) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.agent.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	if k.fail == nil {
		<-ready
	}
	return w
}

func (w *world) create(o client.Object) {
	w.Helper()
	var err error
	switch o := o.(type) {
	case *corev1.Service:
		_, err = client.Of(w.c, client.Services()).Create(w.Context(), o)
	case *discoveryv1.EndpointSlice:
		_, err = client.Of(w.c, client.EndpointSlices()).Create(w.Context(), o)
	case *corev1.Node:
		_, err = client.Of(w.c, client.Nodes()).Create(w.Context(), o)
	}
	if err != nil {
		w.Fatal(err)
	}
}

func service(name, ip string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{{Port: 80}},
		},
	}
}

func slice(name, of string, addrs ...string) *discoveryv1.EndpointSlice {
	port, node := int32(8080), "n1"
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: of}},
		Ports:      []discoveryv1.EndpointPort{{Port: &port}}, AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, a := range addrs {
		e := discoveryv1.Endpoint{Addresses: []string{a}, NodeName: &node}
		e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "z" + a[len(a)-1:]}}}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func leaks(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
}

// Services, slices and the node's zone reach the kernel as they change, and leave it.
func TestFollows(t *testing.T) {
	leaks(t)
	w := start(t, newKernel(), service("web", "10.96.0.7"), slice("web-1", "web", "10.0.0.1"))
	w.kernel.has(t, "cluster-ip 10.96.0.7:80: balance\n  cluster: 10.0.0.1:8080")
	w.create(slice("web-2", "web", "10.0.0.2"))
	w.kernel.has(t, "cluster: 10.0.0.1:8080 10.0.0.2:8080")
	w.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyZone: "z2"}}})
	w.kernel.has(t, "cluster: 10.0.0.2:8080\n")
	moved := slice("web-2", "other", "10.0.0.2")
	w.create(service("other", "10.96.0.8"))
	cur, err := client.Of(w.c, client.EndpointSlices()).Get(t.Context(), "ns", "web-2")
	if err != nil {
		t.Fatal(err)
	}
	moved.ResourceVersion = cur.ResourceVersion
	if _, err := client.Of(w.c, client.EndpointSlices()).Update(t.Context(), moved); err != nil {
		t.Fatal(err)
	}
	w.kernel.has(t, "ns/web:/TCP\n  cluster-ip 10.96.0.7:80: balance\n  cluster: 10.0.0.1:8080\n")
	if err := client.Of(w.c, client.Services()).Delete(t.Context(), "ns", "web", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.kernel.until(t, "web gone", func() bool { return !strings.Contains(w.kernel.text, "ns/web") })
	if w.kernel.full != 1 {
		t.Errorf("%d applies of everything", w.kernel.full)
	}
	for metric, want := range map[string]int{
		"kubeproxy_sync_proxy_rules_duration_seconds": 1, "kubeproxy_sync_full_proxy_rules_duration_seconds": 1,
		"kubeproxy_sync_proxy_rules_service_changes_total": 1, "kubeproxy_sync_proxy_rules_endpoint_changes_total": 1,
	} {
		if n, err := testutil.GatherAndCount(w.reg, metric); err != nil || n != want {
			t.Errorf("%s: %d, %v", metric, n, err)
		}
	}
}

// Changes that come while an apply is running are taken together by the next one.
func TestCoalesces(t *testing.T) {
	leaks(t)
	k := newKernel()
	w := start(t, k)
	block, entered := make(chan struct{}), make(chan struct{}, 1)
	k.mu.Lock()
	k.before = func() {
		select {
		case entered <- struct{}{}:
		default:
		}
		<-block
	}
	k.mu.Unlock()
	w.create(service("s0", "10.96.1.0"))
	<-entered
	for i := 1; i < 50; i++ {
		w.create(service("s"+string(rune('a'+i%26))+string(rune('a'+i/26)), "10.96.1."+string(rune('0'+i%10))))
	}
	before := k.calls
	close(block)
	w.kernel.until(t, "all services", func() bool { return strings.Count(k.text, "reject") == 50 })
	// The one under way, and few more: what arrives in the meantime may take a second.
	if n := k.calls - before; n > 5 {
		t.Errorf("50 changes took %d applies", n)
	}
}

// What could not be applied is applied later; until then the proxy says so.
func TestRetries(t *testing.T) {
	leaks(t)
	k := newKernel()
	k.fail = errors.New("locked")
	w := start(t, k, service("web", "10.96.0.7"))
	k.until(t, "two attempts", func() bool { return k.calls >= 2 })
	if w.agent.Health().Alive() {
		t.Error("healthy without rules")
	}
	k.mu.Lock()
	k.fail = nil
	k.mu.Unlock()
	k.has(t, "10.96.0.7")
	if n := testutil.CollectAndCount(w.reg, "kubeproxy_sync_proxy_rules_iptables_restore_failures_total"); n != 1 {
		t.Errorf("%d failure counters", n)
	}
}

// The healthz answers follow the rules and the node; the health-check node port follows the endpoints on this node.
func TestHealthPorts(t *testing.T) {
	leaks(t)
	svc := service("lb", "10.96.0.9")
	svc.Spec.Type, svc.Spec.Ports[0].NodePort = corev1.ServiceTypeLoadBalancer, 30080
	svc.Spec.ExternalTrafficPolicy, svc.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 32000
	w := start(t, newKernel(), svc, slice("lb-1", "lb", "10.0.0.1"))
	ask := func() (int, map[string]any) {
		addr, ok := w.ports.Load(uint16(32000))
		if !ok {
			t.Fatal("the health-check node port is not open")
		}
		resp, err := http.Get("http://" + addr.(string))
		if err != nil {
			t.Fatal(err)
		}
		defer http.DefaultClient.CloseIdleConnections()
		defer resp.Body.Close()
		var body map[string]any
		data, _ := io.ReadAll(resp.Body)
		if err := json.Unmarshal(data, &body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, body
	}
	if code, body := ask(); code != 200 || body["localEndpoints"] != 1.0 {
		t.Errorf("with an endpoint: %d %v", code, body)
	}
	if err := client.Of(w.c, client.EndpointSlices()).Delete(t.Context(), "ns", "lb-1", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.kernel.has(t, "health :32000: 0")
	w.create(service("flush", "10.96.0.99")) // its apply follows the answer's change
	w.kernel.has(t, "10.96.0.99")
	if code, body := ask(); code != 503 || body["localEndpoints"] != 0.0 {
		t.Errorf("without: %d %v", code, body)
	}
	rec := httptest.NewRecorder()
	w.agent.Health().ServeHTTP(rec, httptest.NewRequest("GET", "/healthz", nil))
	if rec.Code != 200 || !strings.Contains(rec.Body.String(), `"nodeEligible":true`) {
		t.Errorf("healthz: %d %s", rec.Code, rec.Body)
	}
}

// Package suite is what every applier of a plan must do, tried with real packets: each test makes a node, pods and
// clients out of namespaces, applies a plan, and talks.
package suite

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/proxy/internal/lab"
	"bareboat.dev/proxy/plan"
)

// Applier is what is tested.
type Applier interface {
	Apply(ctx context.Context, set *plan.Set, changed []string) error
	Intact() bool
	Forget()
	Cleanup(ctx context.Context) error
}

// Make makes an applier for a family, with the pod network 10.244.0.0/16 or fd00:10:244::/48. It is called inside the
// node's namespace.
type Make func(family plan.Family, cluster []netip.Prefix) (Applier, error)

// silence is how long nothing must come back for traffic to count as dropped.
const silence = 300 * time.Millisecond

// ClusterCIDRs are the lab's pod networks.
func ClusterCIDRs() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")}
}

// World is a lab with an applier and the rule set it is to apply.
type World struct {
	*testing.T
	*lab.Lab
	Applier Applier
	Set     *plan.Set
	node    plan.Node
	slices  map[string][]*discoveryv1.EndpointSlice
}

// NewWorld makes a lab and an applier in it.
func NewWorld(t *testing.T, family plan.Family, mk Make) *World {
	w := &World{T: t, Lab: lab.New(t), Set: plan.NewSet(family), node: plan.Node{Name: "node", AllowExternalIPs: true}}
	w.Node.Do(func() {
		a, err := mk(family, ClusterCIDRs())
		if err != nil {
			t.Error(err)
			return
		}
		w.Applier = a
	})
	if t.Failed() {
		t.FailNow()
	}
	return w
}

// Put plans a service and applies it.
func (w *World) Put(svc *corev1.Service, eps ...*discoveryv1.EndpointSlice) {
	w.Helper()
	w.Apply(w.Set.Put(plan.ForService(svc, eps, w.node, w.Set.Family)))
}

// Delete removes a service.
func (w *World) Delete(key string) {
	w.Helper()
	w.Apply(w.Set.Delete(key))
}

// Apply applies the set.
func (w *World) Apply(changed []string) {
	w.Helper()
	var err error
	w.Node.Do(func() { err = w.Applier.Apply(context.Background(), w.Set, changed) })
	if err != nil {
		w.Fatal(err)
	}
}

// Service makes a service default/name with TCP and UDP port 80.
func Service(name, ip string, edit ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	s.Spec = corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip},
		Ports: []corev1.ServicePort{
			{Name: "tcp", Protocol: corev1.ProtocolTCP, Port: 80},
			{Name: "udp", Protocol: corev1.ProtocolUDP, Port: 80},
		},
	}
	for _, e := range edit {
		e(s)
	}
	return s
}

// Slice makes an endpoint slice with ports tcp and udp 8080; an endpoint is "address" or "address@node".
func Slice(eps ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}
	tcp, udp := corev1.ProtocolTCP, corev1.ProtocolUDP
	s.Ports = []discoveryv1.EndpointPort{
		{Name: ptr("tcp"), Protocol: &tcp, Port: ptr(int32(8080))}, {Name: ptr("udp"), Protocol: &udp, Port: ptr(int32(8080))},
	}
	for _, e := range eps {
		addr, node, _ := strings.Cut(e, "@")
		if netip.MustParseAddr(addr).Is6() {
			s.AddressType = discoveryv1.AddressTypeIPv6
		}
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{addr}, NodeName: &node})
	}
	return s
}

func ptr[T any](v T) *T { return &v }

// NodePort makes a service of that type, TCP on port and UDP on port.
func NodePort(port int32) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeNodePort
		s.Spec.Ports[0].NodePort, s.Spec.Ports[1].NodePort = port, port
	}
}

// LocalExternal sets externalTrafficPolicy Local.
func LocalExternal(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

// Balancer gives the service a load balancer address.
func Balancer(ip string, ranges ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		s.Spec.LoadBalancerSourceRanges = ranges
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: ip}}
	}
}

func serve(hosts ...*lab.Host) {
	for _, h := range hosts {
		h.ServeTCP(":8080")
		h.ServeUDP(":8080")
	}
}

// asks talks TCP and UDP to addr from a host.
func (w *World) asks(from *lab.Host, addr, server, client string) {
	w.Helper()
	for network, ask := range map[string]func(string) (lab.Answer, error){"tcp": from.AskTCP, "udp": from.AskUDP} {
		got, err := ask(addr)
		if want := (lab.Answer{Server: server, Client: client}); err != nil || got != want {
			w.Errorf("%s to %s from %s: %v, %v; want %v", network, addr, from.Name, got, err, want)
		}
	}
}

// refused expects an immediate error, not silence.
func (w *World) refused(from *lab.Host, addr string) {
	w.Helper()
	for network, ask := range map[string]func(string) (lab.Answer, error){"tcp": from.AskTCP, "udp": from.AskUDP} {
		got, err := ask(addr)
		// A local sender learns of the rejection from the send itself.
		if !errors.Is(err, syscall.ECONNREFUSED) && (from != w.Node || !errors.Is(err, syscall.EPERM)) {
			w.Errorf("%s to %s from %s: %v, %v; want connection refused", network, addr, from.Name, got, err)
		}
	}
}

func (w *World) silent(from *lab.Host, addr string) {
	w.Helper()
	for _, network := range []string{"tcp", "udp"} {
		if err := from.Silent(network, addr, silence); err != nil {
			w.Errorf("%s to %s from %s: %v", network, addr, from.Name, err)
		}
	}
}

// Run runs the suite.
func Run(t *testing.T, mk Make) {
	t.Run("ClusterIP", func(t *testing.T) { clusterIP(t, mk) })
	t.Run("ClusterIPv6", func(t *testing.T) { clusterIPv6(t, mk) })
	t.Run("Spread", func(t *testing.T) { spread(t, mk) })
	t.Run("NodePort", func(t *testing.T) { nodePort(t, mk) })
	t.Run("NodePortLocal", func(t *testing.T) { nodePortLocal(t, mk) })
	t.Run("LoadBalancer", func(t *testing.T) { loadBalancer(t, mk) })
	t.Run("InternalLocal", func(t *testing.T) { internalLocal(t, mk) })
	t.Run("Affinity", func(t *testing.T) { affinity(t, mk) })
	t.Run("AffinityTurns", func(t *testing.T) { affinityTurns(t, mk) })
	t.Run("Hairpin", func(t *testing.T) { hairpin(t, mk) })
	t.Run("NoEndpoints", func(t *testing.T) { noEndpoints(t, mk) })
	t.Run("LocalAddress", func(t *testing.T) { localAddress(t, mk) })
	t.Run("Restart", func(t *testing.T) { restart(t, mk) })
	t.Run("Change", func(t *testing.T) { change(t, mk) })
	t.Run("Atomic", func(t *testing.T) { atomic(t, mk) })
	t.Run("Repair", func(t *testing.T) { repair(t, mk) })
	t.Run("Cleanup", func(t *testing.T) { cleanup(t, mk) })
}

// A pod keeps its address towards a cluster IP; the node and outsiders are masqueraded so that answers find back.
func clusterIP(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web, pod, far := w.Pod("web", 2), w.Pod("pod", 3), w.RemotePod("far", 1)
	serve(web, far)
	w.Put(Service("a", "10.96.0.7"), Slice("10.244.0.2@node"))
	w.asks(pod, "10.96.0.7:80", "web", "10.244.0.3")
	w.asks(w.Node, "10.96.0.7:80", "web", "10.244.0.1")
	w.asks(w.Client, "10.96.0.7:80", "web", "10.244.0.1")
	w.asks(far, "10.96.0.7:80", "web", "10.244.1.2")
	w.Put(Service("b", "10.96.200.9"), Slice("10.244.1.2@other"))
	w.asks(pod, "10.96.200.9:80", "far", "10.244.0.3")
	w.asks(w.Client, "10.96.200.9:80", "far", "10.244.1.1")
	if _, err := pod.AskTCP("10.244.0.2:8080"); err != nil {
		t.Errorf("direct traffic: %v", err)
	}
}

// The same over IPv6.
func clusterIPv6(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv6, mk)
	web, pod := w.Pod("web", 2), w.Pod("pod", 3)
	serve(web)
	w.Put(Service("a", "fd00:96::7", NodePort(30080)), Slice("fd00:10:244::2@node"))
	w.asks(pod, "[fd00:96::7]:80", "web", "fd00:10:244::3")
	w.asks(w.Client, "[fd00:96::7]:80", "web", "fd00:10:244::1")
	w.asks(w.Client, "[fd00:50::1]:30080", "web", "fd00:10:244::1")
	w.asks(web, "[fd00:96::7]:80", "web", "fd00:10:244::1")
	w.Put(Service("a", "fd00:96::7", NodePort(30080)))
	w.refused(pod, "[fd00:96::7]:80")
	w.refused(w.Client, "[fd00:50::1]:30080")
}

// New connections spread over all endpoints: of 60 over 3, each gets some (the chance of failing is 3·(2/3)^60 < 1e-9).
func spread(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	serve(w.Pod("a", 2), w.Pod("b", 3), w.Pod("c", 4))
	w.Put(Service("s", "10.96.0.7"), Slice("10.244.0.2@node", "10.244.0.3@node", "10.244.0.4@node"))
	count := map[string]int{}
	for range 60 {
		got, err := w.Client.AskTCP("10.96.0.7:80")
		if err != nil {
			t.Fatal(err)
		}
		count[got.Server]++
	}
	if len(count) != 3 {
		t.Errorf("60 connections went to %v", count)
	}
}

// A node port answers on every address of the node but loopback, and masquerades everyone under policy Cluster.
func nodePort(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	far, pod := w.RemotePod("far", 1), w.Pod("pod", 3)
	serve(far)
	w.Put(Service("a", "10.96.0.7", NodePort(30080)), Slice("10.244.1.2@other"))
	w.asks(w.Client, "192.168.50.1:30080", "far", "10.244.1.1")
	w.asks(w.Client, "10.244.0.1:30080", "far", "10.244.1.1")
	w.asks(w.Node, "192.168.50.1:30080", "far", "10.244.1.1")
	w.asks(pod, "10.244.0.1:30080", "far", "10.244.1.1")
	w.refused(w.Node, "127.0.0.1:30080")
	if v := w.Node.Run("cat", "/proc/sys/net/ipv4/conf/all/route_localnet"); strings.TrimSpace(v) != "0" {
		t.Errorf("route_localnet is %s", v)
	}
}

// Policy Local keeps the client's address and uses this node's endpoints only; without any, outsiders get silence while
// pods and the node itself are still served.
func nodePortLocal(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web, far, pod := w.Pod("web", 2), w.RemotePod("far", 1), w.Pod("pod", 3)
	serve(web, far)
	svc := Service("a", "10.96.0.7", NodePort(30080), LocalExternal)
	w.Put(svc, Slice("10.244.0.2@node", "10.244.1.2@other"))
	for range 8 {
		w.asks(w.Client, "192.168.50.1:30080", "web", "192.168.50.2")
	}
	w.Put(svc, Slice("10.244.1.2@other"))
	w.silent(w.Client, "192.168.50.1:30080")
	w.asks(pod, "10.244.0.1:30080", "far", "10.244.0.3")
	w.asks(w.Node, "192.168.50.1:30080", "far", "10.244.1.1")
	w.Put(svc)
	w.refused(w.Client, "192.168.50.1:30080")
}

// A load balancer address is served on arrival, from its source ranges only.
func loadBalancer(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web, other := w.Pod("web", 2), w.Outside("other", 60)
	serve(web)
	w.Put(Service("a", "10.96.0.7", Balancer("203.0.113.5", "192.168.50.0/24")), Slice("10.244.0.2@node"))
	w.asks(w.Client, "203.0.113.5:80", "web", "10.244.0.1")
	w.silent(other, "203.0.113.5:80")
	w.asks(other, "10.96.0.7:80", "web", "10.244.0.1")
	w.Put(Service("a", "10.96.0.7", Balancer("203.0.113.5"), LocalExternal), Slice("10.244.0.2@node"))
	w.asks(other, "203.0.113.5:80", "web", "192.168.60.2")
	w.Put(Service("a", "10.96.0.7", Balancer("203.0.113.5", "fd00::/64")), Slice("10.244.0.2@node"))
	w.silent(w.Client, "203.0.113.5:80")
	svc := Service("a", "10.96.0.7")
	svc.Spec.ExternalIPs = []string{"203.0.113.9"}
	w.Put(svc, Slice("10.244.0.2@node"))
	w.asks(other, "203.0.113.9:80", "web", "10.244.0.1")
}

// internalTrafficPolicy Local: this node's endpoints or silence.
func internalLocal(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web, far, pod := w.Pod("web", 2), w.RemotePod("far", 1), w.Pod("pod", 3)
	serve(web, far)
	svc := Service("a", "10.96.0.7", func(s *corev1.Service) {
		s.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal)
	})
	w.Put(svc, Slice("10.244.0.2@node", "10.244.1.2@other"))
	for range 8 {
		w.asks(pod, "10.96.0.7:80", "web", "10.244.0.3")
	}
	w.Put(svc, Slice("10.244.1.2@other"))
	w.silent(pod, "10.96.0.7:80")
}

// Under session affinity one client stays with one endpoint, across connections and changes of the others; when its
// endpoint goes, it gets another.
func affinity(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	ip := map[string]string{"a": "10.244.0.2@node", "b": "10.244.0.3@node", "c": "10.244.0.4@node"}
	serve(w.Pod("a", 2), w.Pod("b", 3), w.Pod("c", 4))
	svc := Service("s", "10.96.0.7", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })
	w.Put(svc, Slice(ip["a"], ip["b"], ip["c"]))
	first, err := w.Client.AskTCP("10.96.0.7:80")
	if err != nil {
		t.Fatal(err)
	}
	stays := func() {
		t.Helper()
		for range 12 {
			if got, err := w.Client.AskTCP("10.96.0.7:80"); err != nil || got.Server != first.Server {
				t.Fatalf("went from %s to %v, %v", first.Server, got, err)
			}
		}
	}
	stays()
	other := "a"
	if first.Server == "a" {
		other = "b"
	}
	rest := map[string]string{}
	for k, v := range ip {
		if k != other {
			rest[k] = v
		}
	}
	w.Put(svc, Slice(values(rest)...))
	stays()
	delete(rest, first.Server)
	w.Put(svc, Slice(values(rest)...))
	first, err = w.Client.AskTCP("10.96.0.7:80")
	if err != nil || rest[first.Server] == "" {
		t.Fatalf("after its endpoint went: %v, %v", first, err)
	}
	w.Put(svc, Slice(values(ip)...))
	stays()
}

// A client that is stuck to an endpoint on another node is led to one of this node when the policy becomes Local.
func affinityTurns(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web, far := w.Pod("web", 2), w.RemotePod("far", 1)
	serve(web, far)
	affine := func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }
	w.Put(Service("s", "10.96.0.7", NodePort(30080), affine), Slice("10.244.1.2@other"))
	w.asks(w.Client, "192.168.50.1:30080", "far", "10.244.1.1")
	w.Put(Service("s", "10.96.0.7", NodePort(30080), affine), Slice("10.244.1.2@other", "10.244.0.2@node"))
	w.asks(w.Client, "192.168.50.1:30080", "far", "10.244.1.1")
	w.Put(Service("s", "10.96.0.7", NodePort(30080), affine, LocalExternal), Slice("10.244.1.2@other", "10.244.0.2@node"))
	w.asks(w.Client, "192.168.50.1:30080", "web", "192.168.50.2")
}

func values(m map[string]string) (out []string) {
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// A pod reaches itself through its service.
func hairpin(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web := w.Pod("web", 2)
	serve(web)
	w.Put(Service("a", "10.96.0.7"), Slice("10.244.0.2@node"))
	w.asks(web, "10.96.0.7:80", "web", "10.244.0.1")
}

// A service without endpoints is refused at once on every kind of address, and served once it has some.
func noEndpoints(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web, pod := w.Pod("web", 2), w.Pod("pod", 3)
	serve(web)
	svc := Service("a", "10.96.0.7", NodePort(30080))
	w.Put(svc)
	for _, from := range []*lab.Host{pod, w.Node, w.Client} {
		w.refused(from, "10.96.0.7:80")
	}
	w.refused(w.Client, "192.168.50.1:30080")
	w.Put(svc, Slice("10.244.0.2@node"))
	w.asks(pod, "10.96.0.7:80", "web", "10.244.0.3")
	w.asks(w.Client, "192.168.50.1:30080", "web", "10.244.0.1")
}

// A cluster address that the node itself has (the cluster DNS daemon's) reaches the listener there while the service has
// no endpoints.
func localAddress(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	pod := w.Pod("pod", 3)
	w.Node.Run("ip", "addr", "add", "10.96.0.10/32", "dev", "lo")
	w.Node.ServeTCP("10.96.0.10:80")
	w.Node.ServeUDP("10.96.0.10:80")
	w.Put(Service("dns", "10.96.0.10"))
	w.asks(pod, "10.96.0.10:80", "node", "10.244.0.3")
	w.asks(w.Node, "10.96.0.10:80", "node", "10.96.0.10")
}

// A new applier finds the rules of the old one, keeps them, and corrects what changed while nobody was there.
func restart(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web, other, pod := w.Pod("web", 2), w.Pod("other", 4), w.Pod("pod", 3)
	serve(web, other)
	w.Put(Service("a", "10.96.0.7"), Slice("10.244.0.2@node"))
	w.Put(Service("gone", "10.96.0.8"), Slice("10.244.0.2@node"))
	open, err := pod.Dial("tcp", "10.96.0.7:80")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	w.Node.Do(func() { w.Applier, err = mk(plan.IPv4, ClusterCIDRs()) })
	if err != nil {
		t.Fatal(err)
	}
	w.Set = plan.NewSet(plan.IPv4)
	w.Set.Put(plan.ForService(Service("a", "10.96.0.7"), []*discoveryv1.EndpointSlice{Slice("10.244.0.2@node")}, w.node, plan.IPv4))
	w.Put(Service("b", "10.96.0.9"), Slice("10.244.0.4@node"))
	if got, err := lab.Ask(open); err != nil || got.Server != "web" {
		t.Errorf("the open connection: %v, %v", got, err)
	}
	w.asks(pod, "10.96.0.7:80", "web", "10.244.0.3")
	w.asks(pod, "10.96.0.9:80", "other", "10.244.0.3")
	w.silent(pod, "10.96.0.8:80") // the deleted service: nobody claims the address
}

// Services move, lose ports and change type without leaving anything of their former self.
func change(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web, other, pod := w.Pod("web", 2), w.Pod("other", 4), w.Pod("pod", 3)
	serve(web, other)
	w.Put(Service("a", "10.96.0.7", NodePort(30080)), Slice("10.244.0.2@node"))
	w.Put(Service("b", "10.96.0.8"), Slice("10.244.0.4@node"))
	w.Put(Service("b", "10.96.0.8", NodePort(30081)), Slice("10.244.0.2@node", "10.244.0.4@node"))
	w.Put(Service("a", "10.96.0.7"), Slice("10.244.0.4@node"))
	w.asks(pod, "10.96.0.7:80", "other", "10.244.0.3")
	w.refused(w.Client, "192.168.50.1:30080")
	// Two services swap addresses in one update.
	first := w.Set.Put(plan.ForService(Service("a", "10.96.0.8"), []*discoveryv1.EndpointSlice{Slice("10.244.0.4@node")}, w.node, plan.IPv4))
	second := w.Set.Put(plan.ForService(Service("b", "10.96.0.7"), []*discoveryv1.EndpointSlice{Slice("10.244.0.2@node")}, w.node, plan.IPv4))
	w.Apply(append(first, second...))
	w.asks(pod, "10.96.0.8:80", "other", "10.244.0.3")
	w.asks(pod, "10.96.0.7:80", "web", "10.244.0.3")
	w.Delete("default/a")
	w.asks(pod, "10.96.0.7:80", "web", "10.244.0.3")
	w.silent(pod, "10.96.0.8:80") // the deleted service: nobody claims the address
}

// While hundreds of services change around it, and its own endpoints too, no connection to a service fails.
func atomic(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	serve(w.Pod("a", 2), w.Pod("b", 3))
	pod := w.Pod("pod", 9)
	svc := Service("a", "10.96.0.7", NodePort(30080))
	w.Put(svc, Slice("10.244.0.2@node"))
	stop := make(chan struct{})
	var traffic sync.WaitGroup
	for _, ask := range []func() (lab.Answer, error){
		func() (lab.Answer, error) { return pod.AskTCP("10.96.0.7:80") },
		func() (lab.Answer, error) { return w.Client.AskTCP("192.168.50.1:30080") },
	} {
		traffic.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := ask(); err != nil {
					t.Errorf("request %d: %v", n, err)
					return
				}
			}
		})
	}
	for round := range 8 {
		var changed []string
		for i := range 200 {
			var eps []*discoveryv1.EndpointSlice
			if (i+round)%3 > 0 {
				eps = append(eps, Slice(fmt.Sprintf("10.244.7.%d", 1+(i+round)%200)))
			}
			s := Service(fmt.Sprintf("other-%d", i), fmt.Sprintf("10.96.%d.%d", i%4, 20+i))
			changed = append(changed, w.Set.Put(plan.ForService(s, eps, w.node, plan.IPv4))...)
		}
		eps := []string{"10.244.0.2@node", "10.244.0.3@node"}[round%2:]
		changed = append(changed, w.Set.Put(plan.ForService(svc, []*discoveryv1.EndpointSlice{Slice(eps...)}, w.node, plan.IPv4))...)
		w.Apply(changed)
	}
	close(stop)
	traffic.Wait()
}

// Somebody removes all rules: it is noticed, and everything is written again. Without being noticed, the next change fails
// or repairs, but is never lost.
func repair(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web, pod := w.Pod("web", 2), w.Pod("pod", 3)
	serve(web)
	w.Put(Service("a", "10.96.0.7", NodePort(30080)), Slice("10.244.0.2@node"))
	w.Put(Service("b", "10.96.0.8"), Slice("10.244.0.2@node"))
	intact := func() (ok bool) { w.Node.Do(func() { ok = w.Applier.Intact() }); return ok }
	if !intact() {
		t.Error("damaged from the start")
	}
	w.Node.Run("nft", "flush", "ruleset")
	if intact() {
		t.Error("the loss is not noticed")
	}
	w.Applier.Forget()
	w.Apply(nil)
	w.asks(pod, "10.96.0.7:80", "web", "10.244.0.3")
	w.asks(w.Client, "192.168.50.1:30080", "web", "10.244.0.1")

	w.Node.Run("nft", "flush", "ruleset")
	changed := w.Set.Delete("default/b")
	var err error
	for range 2 { // the first may find out the hard way
		w.Node.Do(func() { err = w.Applier.Apply(context.Background(), w.Set, changed) })
		if err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("after a loss: %v", err)
	}
}

// Cleanup leaves the rules of others and none of ours; a second one finds nothing to do.
func cleanup(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	w.Node.Run("iptables", "-t", "nat", "-A", "PREROUTING", "-m", "comment", "--comment", "mine", "-j", "RETURN")
	w.Node.Run("nft", "add table ip others { chain c { counter; }; }")
	before := w.rules()
	w.Put(Service("a", "10.96.0.7", NodePort(30080)), Slice("10.244.0.2@node"))
	w.Put(Service("b", "10.96.0.8"))
	for range 2 {
		var err error
		w.Node.Do(func() { err = w.Applier.Cleanup(context.Background()) })
		if err != nil {
			t.Fatal(err)
		}
		if after := w.rules(); after != before {
			t.Errorf("left behind:\n%s\nwas:\n%s", after, before)
		}
	}
	// And the applier can start over.
	w.Apply(nil)
	w.refused(w.Pod("pod", 3), "10.96.0.8:80")
}

// rules is what the kernel holds, without the built-in chains that iptables makes by being looked at.
func (w *World) rules() string {
	var out strings.Builder
	for _, tool := range []string{"iptables-save", "ip6tables-save"} {
		for line := range strings.Lines(w.Node.Run(tool)) {
			if strings.HasPrefix(line, "-A ") || strings.HasPrefix(line, ":BB") {
				out.WriteString(line)
			}
		}
	}
	for line := range strings.Lines(w.Node.Run("nft", "list", "tables")) {
		if !strings.Contains(line, " nat") && !strings.Contains(line, " filter") {
			out.WriteString(line)
		}
	}
	return fmt.Sprint(out.String())
}

// Slices is one Slice, or none without endpoints.
func Slices(eps ...string) []*discoveryv1.EndpointSlice {
	if len(eps) == 0 {
		return nil
	}
	return []*discoveryv1.EndpointSlice{Slice(eps...)}
}

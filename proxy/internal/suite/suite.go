// Package suite is what every applier of a plan must do, tried with real packets: each test makes a node, pods and
// clients out of namespaces, applies a plan, and talks.
package suite

import (
	"context"
	"errors"
	"net/netip"
	"strings"
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

// Slices is one Slice, or none without endpoints.
func Slices(eps ...string) []*discoveryv1.EndpointSlice {
	if len(eps) == 0 {
		return nil
	}
	return []*discoveryv1.EndpointSlice{Slice(eps...)}
}

package suite

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"bareboat.dev/proxy/plan"
)

// Shapes is one service for every shape of rule there is.
func Shapes(family plan.Family) []plan.Service {
	ip := func(n int) string {
		if family == plan.IPv4 {
			return fmt.Sprintf("10.96.%d.%d", n, n)
		}
		return fmt.Sprintf("fd00:96:%x::%x", n, n)
	}
	var eps []string
	for n := range 7 {
		a := netip.MustParseAddr(map[plan.Family]string{plan.IPv4: "10.244.0.9", plan.IPv6: "fd00:10:244::9"}[family])
		for range n {
			a = a.Next()
		}
		eps = append(eps, a.String()+"@"+[]string{"node", "other"}[n%2])
	}
	ranges := []string{"192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32"}
	affine := func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }
	health := func(s *corev1.Service) { s.Spec.HealthCheckNodePort = 31999 }
	internal := func(s *corev1.Service) {
		s.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal)
	}
	sctp := func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "tcp", Protocol: "SCTP", Port: 90})
	}
	svcs := []*corev1.Service{
		Service("plain", ip(1), sctp), Service("np", ip(2), NodePort(30001)), Service("none", ip(3), NodePort(30002)),
		Service("lb", ip(4), Balancer(ip(100), ranges...)),
		Service("lb-local", ip(5), Balancer(ip(101), ranges...), NodePort(30003), Balancer(ip(101)), LocalExternal, health),
		Service("affine", ip(6), affine), Service("int-local", ip(7), internal), Service("dropped", ip(8), NodePort(30005), LocalExternal, internal),
	}
	var out []plan.Service
	for i, s := range svcs {
		slices := []*discoveryv1.EndpointSlice{Slice(eps[:1+i%7]...)}
		slices[0].Ports = append(slices[0].Ports, discoveryv1.EndpointPort{
			Name: ptr("tcp"), Protocol: ptr(corev1.ProtocolSCTP), Port: ptr(int32(9090)),
		})
		switch s.Name {
		case "none":
			slices = nil
		case "dropped":
			slices[0].Endpoints = []discoveryv1.Endpoint{{Addresses: slices[0].Endpoints[0].Addresses, NodeName: ptr("other")}}
		}
		out = append(out, plan.ForService(s, slices, plan.Node{Name: "node"}, family))
	}
	return out
}

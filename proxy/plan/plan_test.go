package plan_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/proxy/plan"
)

func ptr[T any](v T) *T { return &v }

func service(edit ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}}
	s.Spec = corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.7", ClusterIPs: []string{"10.96.0.7"},
		Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
	}
	for _, e := range edit {
		e(s)
	}
	return s
}

func typed(t corev1.ServiceType, nodePort int32) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports[0].NodePort = t, nodePort }
}

// slice reads endpoints of port http 8080 from words "address[@node][,flag...]"; flags: notready, serving, terminating,
// zone=Z, node=N (hints).
func slice(words ...string) *discoveryv1.EndpointSlice {
	tcp := corev1.ProtocolTCP
	s := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}
	s.Ports = []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(8080)), Protocol: &tcp}}
	for _, w := range words {
		parts := strings.Split(w, ",")
		addr, node, onNode := strings.Cut(parts[0], "@")
		e := discoveryv1.Endpoint{Addresses: []string{addr}}
		if onNode {
			e.NodeName = &node
		}
		if strings.Contains(addr, ":") {
			s.AddressType = discoveryv1.AddressTypeIPv6
		}
		for _, flag := range parts[1:] {
			key, value, _ := strings.Cut(flag, "=")
			if e.Hints == nil {
				e.Hints = &discoveryv1.EndpointHints{}
			}
			switch key {
			case "notready":
				e.Conditions.Ready = ptr(false)
				e.Conditions.Serving = ptr(false)
			case "serving":
				e.Conditions.Serving = ptr(true)
			case "terminating":
				e.Conditions.Terminating = ptr(true)
			case "zone":
				e.Hints.ForZones = append(e.Hints.ForZones, discoveryv1.ForZone{Name: value})
			case "node":
				e.Hints.ForNodes = append(e.Hints.ForNodes, discoveryv1.ForNode{Name: value})
			}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// What each field of a Service, its endpoints and the node does to the rules, in the printed form.
func TestForService(t *testing.T) {
	here := plan.Node{Name: "n1", Zone: "z1"}
	local := func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		s.Spec.HealthCheckNodePort = 32000
	}
	balancer := func(ip string, ranges ...string) func(*corev1.Service) {
		return func(s *corev1.Service) {
			s.Spec.Type, s.Spec.LoadBalancerSourceRanges = corev1.ServiceTypeLoadBalancer, ranges
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: ip}}
		}
	}
	for name, c := range map[string]struct {
		svc  *corev1.Service
		eps  []*discoveryv1.EndpointSlice
		node *plan.Node
		want string
	}{
		"cluster address": {
			service(), []*discoveryv1.EndpointSlice{slice("10.0.0.2@n2", "10.0.0.1@n1")}, nil,
			"ns/web:http/TCP|cluster-ip 10.96.0.7:80: balance|cluster: 10.0.0.1:8080 10.0.0.2:8080|ns/web hairpin: [10.0.0.1]",
		},
		"headless":         {service(func(s *corev1.Service) { s.Spec.ClusterIP = "None" }), nil, nil, ""},
		"external name":    {service(typed(corev1.ServiceTypeExternalName, 0)), nil, nil, ""},
		"not yet assigned": {service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil }), nil, nil, ""},
		"other proxy": {
			service(func(s *corev1.Service) { s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": ""} }), nil, nil, "",
		},
		"other family": {service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "fd00::1", []string{"fd00::1"} }), nil, nil, ""},
		"no endpoints": {service(), nil, nil, "ns/web:http/TCP|cluster-ip 10.96.0.7:80: reject|cluster: none"},
		"slices of other family and port are ignored, duplicates merged": {
			service(), []*discoveryv1.EndpointSlice{
				slice("fd00::5"), slice("10.0.0.1"), slice("10.0.0.1,notready"),
				func() *discoveryv1.EndpointSlice { s := slice("10.0.0.9"); s.Ports[0].Name = ptr("other"); return s }(),
				func() *discoveryv1.EndpointSlice {
					s := slice("10.0.0.8")
					s.Ports[0].Protocol = ptr(corev1.ProtocolUDP)
					return s
				}(),
			}, nil, "ns/web:http/TCP|cluster-ip 10.96.0.7:80: balance|cluster: 10.0.0.1:8080",
		},
		"unready is out": {
			service(), []*discoveryv1.EndpointSlice{slice("10.0.0.1,notready", "10.0.0.2")}, nil,
			"ns/web:http/TCP|cluster-ip 10.96.0.7:80: balance|cluster: 10.0.0.2:8080",
		},
		"terminating serves when nothing else does": {
			service(), []*discoveryv1.EndpointSlice{slice("10.0.0.1,notready,serving,terminating", "10.0.0.2,notready")}, nil,
			"ns/web:http/TCP|cluster-ip 10.96.0.7:80: balance|cluster: 10.0.0.1:8080",
		},
		"terminating is spared while others are ready": {
			service(), []*discoveryv1.EndpointSlice{slice("10.0.0.1,notready,serving,terminating", "10.0.0.2")}, nil,
			"ns/web:http/TCP|cluster-ip 10.96.0.7:80: balance|cluster: 10.0.0.2:8080",
		},
		"zone hints": {
			service(), []*discoveryv1.EndpointSlice{slice("10.0.0.1,zone=z1", "10.0.0.2,zone=z2")}, nil,
			"ns/web:http/TCP|cluster-ip 10.96.0.7:80: balance|cluster: 10.0.0.1:8080",
		},
		"an endpoint without a hint voids them": {
			service(), []*discoveryv1.EndpointSlice{slice("10.0.0.1,zone=z1", "10.0.0.2")}, nil,
			"ns/web:http/TCP|cluster-ip 10.96.0.7:80: balance|cluster: 10.0.0.1:8080 10.0.0.2:8080",
		},
		"hints for other zones only are ignored": {
			service(), []*discoveryv1.EndpointSlice{slice("10.0.0.1,zone=z3", "10.0.0.2,zone=z2")}, nil,
			"ns/web:http/TCP|cluster-ip 10.96.0.7:80: balance|cluster: 10.0.0.1:8080 10.0.0.2:8080",
		},
		"node hints go before zone hints": {
			service(), []*discoveryv1.EndpointSlice{slice("10.0.0.1,zone=z1,node=n2", "10.0.0.2,zone=z1,node=n1")}, nil,
			"ns/web:http/TCP|cluster-ip 10.96.0.7:80: balance|cluster: 10.0.0.2:8080",
		},
		"node port": {
			service(typed(corev1.ServiceTypeNodePort, 30080)), []*discoveryv1.EndpointSlice{slice("10.0.0.1")}, nil,
			"ns/web:http/TCP|node-port 0.0.0.0:30080: balance|cluster-ip 10.96.0.7:80: balance|cluster: 10.0.0.1:8080",
		},
		"external policy local": {
			service(typed(corev1.ServiceTypeNodePort, 30080), local), []*discoveryv1.EndpointSlice{slice("10.0.0.1@n1", "10.0.0.2@n2")}, nil,
			"ns/web:http/TCP|node-port 0.0.0.0:30080: balance local|cluster-ip 10.96.0.7:80: balance|" +
				"cluster: 10.0.0.1:8080 10.0.0.2:8080|local: 10.0.0.1:8080|ns/web health :32000: 1|ns/web hairpin: [10.0.0.1]",
		},
		"external policy local without local endpoints": {
			service(typed(corev1.ServiceTypeNodePort, 30080), local), []*discoveryv1.EndpointSlice{slice("10.0.0.2@n2")}, nil,
			"ns/web:http/TCP|node-port 0.0.0.0:30080: drop local|cluster-ip 10.96.0.7:80: balance|" +
				"cluster: 10.0.0.2:8080|ns/web health :32000: 0",
		},
		"internal policy local": {
			service(func(s *corev1.Service) {
				s.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal)
			}),
			[]*discoveryv1.EndpointSlice{slice("10.0.0.2@n2")}, nil,
			"ns/web:http/TCP|cluster-ip 10.96.0.7:80: drop local|cluster: 10.0.0.2:8080",
		},
		"load balancer with ranges": {
			service(balancer("203.0.113.5", "192.0.2.7/24", "2001:db8::/32")), []*discoveryv1.EndpointSlice{slice("10.0.0.1")}, nil,
			"ns/web:http/TCP|cluster-ip 10.96.0.7:80: balance|load-balancer 203.0.113.5:80: balance from [192.0.2.0/24]|cluster: 10.0.0.1:8080",
		},
		"ranges of the other family admit nobody": {
			service(balancer("203.0.113.5", "2001:db8::/32")), []*discoveryv1.EndpointSlice{slice("10.0.0.1")}, nil,
			"ns/web:http/TCP|cluster-ip 10.96.0.7:80: balance|load-balancer 203.0.113.5:80: balance from []|cluster: 10.0.0.1:8080",
		},
		"a proxying load balancer is not short-circuited": {
			service(balancer("203.0.113.5"), func(s *corev1.Service) {
				s.Status.LoadBalancer.Ingress[0].IPMode = ptr(corev1.LoadBalancerIPModeProxy)
			}), []*discoveryv1.EndpointSlice{slice("10.0.0.1")}, nil,
			"ns/web:http/TCP|cluster-ip 10.96.0.7:80: balance|cluster: 10.0.0.1:8080",
		},
		"external addresses are off": {
			service(func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"203.0.113.9"} }), []*discoveryv1.EndpointSlice{slice("10.0.0.1")}, nil,
			"ns/web:http/TCP|cluster-ip 10.96.0.7:80: balance|cluster: 10.0.0.1:8080",
		},
		"external addresses when allowed": {
			service(func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"203.0.113.9"} }), []*discoveryv1.EndpointSlice{slice("10.0.0.1")},
			&plan.Node{Name: "n1", AllowExternalIPs: true},
			"ns/web:http/TCP|cluster-ip 10.96.0.7:80: balance|external-ip 203.0.113.9:80: balance|cluster: 10.0.0.1:8080",
		},
		"session affinity": {
			service(func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }), []*discoveryv1.EndpointSlice{slice("10.0.0.1")}, nil,
			"ns/web:http/TCP|cluster-ip 10.96.0.7:80: balance|cluster: 10.0.0.1:8080|affinity: 10800s",
		},
	} {
		t.Run(name, func(t *testing.T) {
			node := here
			if c.node != nil {
				node = *c.node
			}
			got := plan.ForService(c.svc, c.eps, node, plan.IPv4).String()
			got = strings.ReplaceAll(strings.TrimSpace(got), "\n", "|")
			got = strings.Join(strings.FieldsFunc(got, func(r rune) bool { return r == '|' }), "|")
			got = strings.ReplaceAll(got, "|  ", "|")
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", strings.ReplaceAll(got, "|", "\n"), strings.ReplaceAll(c.want, "|", "\n"))
			}
		})
	}
}

// The order of slices and endpoints does not matter, and the result shares nothing with its input.
func TestOrderDoesNotMatter(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var words []string
	for i := range 40 {
		words = append(words, fmt.Sprintf("10.0.%d.%d@n%d%s", i%3, i, i%4, []string{"", ",notready", ",notready,serving,terminating"}[i%3]))
	}
	svc := service(typed(corev1.ServiceTypeNodePort, 30080), func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = "Local" })
	want := plan.ForService(svc, []*discoveryv1.EndpointSlice{slice(words...)}, plan.Node{Name: "n1"}, plan.IPv4)
	for range 50 {
		rng.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
		cut := rng.IntN(len(words))
		eps := []*discoveryv1.EndpointSlice{slice(words[:cut]...), slice(words[cut:]...), slice(words[:cut/2]...)}
		if got := plan.ForService(svc, eps, plan.Node{Name: "n1"}, plan.IPv4); !got.Equal(want) {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	}
}

// Two services that want one address: the smaller key has it, the other gets it when the first lets go, and Put says
// whose rules changed.
func TestConflict(t *testing.T) {
	lb := func(name string) plan.Service {
		s := service(typed(corev1.ServiceTypeLoadBalancer, 0))
		s.Name = name
		s.Spec.ClusterIPs = []string{"10.96.1." + fmt.Sprint(len(name))}
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.5"}}
		return plan.ForService(s, []*discoveryv1.EndpointSlice{slice("10.0.0.1")}, plan.Node{}, plan.IPv4)
	}
	set := plan.NewSet(plan.IPv4)
	check := func(what string, got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s changed %v, want %v", what, got, want)
		}
	}
	check("bb", set.Put(lb("bb")), "ns/bb")
	check("ccc", set.Put(lb("ccc")), "ns/ccc")
	check("a", set.Put(lb("a")), "ns/a", "ns/bb")
	check("a again", set.Put(lb("a")))
	if n := strings.Count(set.String(), "(shadowed)"); n != 2 {
		t.Errorf("%d shadowed frontends:\n%s", n, set)
	}
	check("deleting a", set.Delete("ns/a"), "ns/a", "ns/bb")
	check("deleting ccc", set.Delete("ns/ccc"), "ns/ccc")
	if strings.Contains(set.String(), "shadowed") {
		t.Errorf("still shadowed:\n%s", set)
	}
}

// However services come and go, the set equals the one built at once from what is left, and every service that differs
// from before was named.
func TestSetIsHistoryFree(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	set, latest := plan.NewSet(plan.IPv4), map[string]plan.Service{}
	for range 2000 {
		s := service(typed(corev1.ServiceTypeLoadBalancer, 0))
		s.Name = fmt.Sprint("s", rng.IntN(12))
		s.Spec.ClusterIPs = []string{fmt.Sprintf("10.96.0.%d", 1+rng.IntN(200))}
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: fmt.Sprintf("203.0.113.%d", rng.IntN(4))}}
		svc := plan.ForService(s, []*discoveryv1.EndpointSlice{slice(fmt.Sprintf("10.0.0.%d", rng.IntN(3)+1))}, plan.Node{}, plan.IPv4)
		if rng.IntN(3) == 0 {
			svc = plan.Service{Key: svc.Key}
		}
		before := map[string]string{}
		for _, k := range set.Keys() {
			s, _ := set.Service(k)
			before[k] = s.String()
		}
		changed := set.Put(svc)
		latest[svc.Key] = svc
		fresh := plan.NewSet(plan.IPv4)
		for _, l := range latest {
			fresh.Put(l)
		}
		if !set.Equal(fresh) {
			t.Fatalf("got\n%s\nwant\n%s", set, fresh)
		}
		for k := range latest {
			s, _ := set.Service(k)
			if s.String() != before[k] && !slices.Contains(changed, k) && s.Key != "" {
				t.Fatalf("%s changed unannounced; named: %v", k, changed)
			}
		}
	}
}

// Which tracked flows have to go when rules change.
func TestStale(t *testing.T) {
	set := plan.NewSet(plan.IPv4)
	udp := func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP }
	eps := slice("10.0.0.1")
	eps.Ports[0].Protocol = ptr(corev1.ProtocolUDP)
	set.Put(plan.ForService(service(udp, typed(corev1.ServiceTypeNodePort, 30053)), []*discoveryv1.EndpointSlice{eps}, plan.Node{}, plan.IPv4))
	empty := service(udp)
	empty.Name, empty.Spec.ClusterIPs = "empty", []string{"10.96.0.10"}
	set.Put(plan.ForService(empty, nil, plan.Node{}, plan.IPv4))
	for name, c := range map[string]struct {
		to, from string
		host     bool
		want     bool
	}{
		"to a current endpoint":                {"10.96.0.7:80", "10.0.0.1:8080", false, false},
		"to one that is gone":                  {"10.96.0.7:80", "10.0.0.2:8080", false, true},
		"to nowhere":                           {"10.96.0.7:80", "10.96.0.7:80", false, true},
		"node port, gone":                      {"192.0.2.1:30053", "10.0.0.2:8080", true, true},
		"node port, never translated":          {"192.0.2.1:30053", "192.0.2.1:30053", true, true},
		"same port elsewhere":                  {"198.51.100.1:30053", "198.51.100.1:30053", false, false},
		"no service":                           {"10.96.0.99:80", "10.96.0.99:80", false, false},
		"to the host's own listener":           {"10.96.0.10:80", "10.96.0.10:80", true, false},
		"to what was an endpoint, now nothing": {"10.96.0.10:80", "10.0.0.1:8080", false, true},
	} {
		f := plan.Flow{Protocol: "UDP", To: netip.MustParseAddrPort(c.to), From: netip.MustParseAddrPort(c.from), ToHost: c.host}
		if got := set.Stale(f); got != c.want {
			t.Errorf("%s: stale %v", name, got)
		}
	}
}

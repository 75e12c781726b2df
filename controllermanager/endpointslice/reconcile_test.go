package endpointslice

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
)

func service(f func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", Labels: map[string]string{"team": "x"}},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "web"}, ClusterIP: "10.96.0.9", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	if f != nil {
		f(svc)
	}
	return svc
}

func pod(i int, ready bool) *corev1.Pod {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprintf("p%04d", i), Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: "node"},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: fmt.Sprintf("10.244.%d.%d", i/250, i%250+1),
			PodIPs:     []corev1.PodIP{{IP: fmt.Sprintf("10.244.%d.%d", i/250, i%250+1)}, {IP: fmt.Sprintf("fd00::%x", i+1)}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}},
		},
	}
}

func plans(w *plantest.World) map[string]plan.Plan {
	out := map[string]plan.Plan{}
	for _, svc := range plantest.List[*corev1.Service](w, plan.Services) {
		out[svc.Name] = Reconcile(Input{
			Service: svc, Pods: plantest.List[*corev1.Pod](w, plan.Pods), Slices: slicesOf(w),
			Node:      func(name string) *corev1.Node { return plantest.Get[*corev1.Node](w, plan.Nodes, "", name) },
			NameTaken: func(name string) bool { return w.Exists(plan.EndpointSlices, "ns", name) },
		})
	}
	return out
}

func slicesOf(w *plantest.World) []*discoveryv1.EndpointSlice {
	return plantest.List[*discoveryv1.EndpointSlice](w, plan.EndpointSlices)
}

func world(svc *corev1.Service, pods ...*corev1.Pod) *plantest.World {
	w := plantest.New()
	plantest.Put(w, plan.Services, svc)
	plantest.Put(w, plan.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node", Labels: map[string]string{corev1.LabelTopologyZone: "z"}}})
	for _, p := range pods {
		plantest.Put(w, plan.Pods, p)
	}
	return w
}

func run(t *testing.T, w *plantest.World) *plantest.World {
	t.Helper()
	return plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans}.Run(t)
}

func endpointsIn(w *plantest.World) (n int) {
	for _, s := range slicesOf(w) {
		n += len(s.Endpoints)
	}
	return n
}

// An endpoint says whether it is ready, serving and terminating, where it is, and which pod it is.
func TestConditions(t *testing.T) {
	terminating := pod(3, true)
	now := metav1.Now()
	terminating.DeletionTimestamp = &now
	finished, addressless := pod(4, false), pod(5, true)
	finished.Status.Phase = corev1.PodFailed
	addressless.Status.PodIP, addressless.Status.PodIPs = "", nil
	named := pod(1, true)
	named.Spec.Hostname, named.Spec.Subdomain = "db-0", "web"
	for _, publish := range []bool{false, true} {
		w := run(t, world(service(func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = publish }), named, pod(2, false), terminating, finished, addressless))
		s := slicesOf(w)
		if len(s) != 1 || len(s[0].Endpoints) != 3 {
			t.Fatalf("slices:\n%s", w.Dump())
		}
		want := [][3]bool{{true, true, false}, {publish, false, false}, {publish, true, true}}
		for i, e := range s[0].Endpoints {
			if got := [3]bool{*e.Conditions.Ready, *e.Conditions.Serving, *e.Conditions.Terminating}; got != want[i] {
				t.Errorf("publish %v, %s: %v, want %v", publish, e.TargetRef.Name, got, want[i])
			}
		}
		e := s[0].Endpoints[0]
		if *e.NodeName != "node" || *e.Zone != "z" || *e.Hostname != "db-0" || e.TargetRef.Kind != "Pod" || *s[0].Ports[0].Port != 8080 {
			t.Errorf("endpoint %+v", e)
		}
		if l := s[0].Labels; l["team"] != "x" || l[discoveryv1.LabelServiceName] != "web" || l[discoveryv1.LabelManagedBy] != ManagedBy {
			t.Errorf("labels %v", l)
		}
	}
}

// A thousand endpoints fill ten slices; each change writes one slice, and nothing moves from slice to slice.
func TestPackingIsStable(t *testing.T) {
	var pods []*corev1.Pod
	for i := range 1000 {
		pods = append(pods, pod(i, true))
	}
	w := run(t, world(service(nil), pods...))
	if len(slicesOf(w)) != 10 || endpointsIn(w) != 1000 {
		t.Fatalf("%d slices, %d endpoints", len(slicesOf(w)), endpointsIn(w))
	}
	change := func(what string, f func(w *plantest.World), writes, endpoints int) {
		t.Helper()
		f(w)
		if p := plans(w)["web"]; len(p.Writes) != writes {
			t.Errorf("%s: %d writes, want %d", what, len(p.Writes), writes)
		}
		w = run(t, w)
		if endpointsIn(w) != endpoints {
			t.Errorf("%s: %d endpoints, want %d", what, endpointsIn(w), endpoints)
		}
	}
	change("one becomes unready", func(w *plantest.World) { plantest.Put(w, plan.Pods, pod(500, false)) }, 1, 1000)
	change("one goes", func(w *plantest.World) { w.Remove(plan.Pods, "ns", "p0123") }, 1, 999)
	change("one comes", func(w *plantest.World) { plantest.Put(w, plan.Pods, pod(2000, true)) }, 1, 1000)
	change("one more comes", func(w *plantest.World) { plantest.Put(w, plan.Pods, pod(2001, true)) }, 1, 1001)
	if n := len(slicesOf(w)); n != 11 {
		t.Errorf("%d slices, want 11", n)
	}
}

// Named ports group pods by what they mean there; a headless service without ports has endpoints all the same; dual-stack
// services have slices of both families.
func TestPortsAndFamilies(t *testing.T) {
	withPort := func(i int, number int32) *corev1.Pod {
		p := pod(i, true)
		p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: number, Protocol: corev1.ProtocolTCP}}}}
		return p
	}
	w := run(t, world(service(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("http") }), withPort(1, 8080), withPort(2, 9090), pod(3, true)))
	ports := map[int32]int{}
	for _, s := range slicesOf(w) {
		if len(s.Ports) == 0 {
			ports[0] += len(s.Endpoints)
			continue
		}
		ports[*s.Ports[0].Port] += len(s.Endpoints)
	}
	if fmt.Sprint(ports) != "map[0:1 8080:1 9090:1]" {
		t.Errorf("endpoints by port: %v", ports)
	}
	w = run(t, world(service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.Ports = corev1.ClusterIPNone, nil }), pod(1, true)))
	if s := slicesOf(w); len(s) != 1 || len(s[0].Endpoints) != 1 {
		t.Errorf("headless without ports:\n%s", w.Dump())
	} else if _, ok := s[0].Labels[corev1.IsHeadlessService]; !ok {
		t.Errorf("labels %v", s[0].Labels)
	}
	w = run(t, world(service(func(s *corev1.Service) {
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	}), pod(1, true)))
	if s := slicesOf(w); len(s) != 2 || s[0].AddressType == s[1].AddressType {
		t.Errorf("dual stack:\n%s", w.Dump())
	}
}

// A service without endpoints keeps one empty slice, which is used again when a pod comes; one without selector, of type
// ExternalName or being deleted is left alone.
func TestPlaceholder(t *testing.T) {
	w := run(t, world(service(nil)))
	first := slicesOf(w)
	if len(first) != 1 || len(first[0].Endpoints) != 0 {
		t.Fatalf("slices:\n%s", w.Dump())
	}
	plantest.Put(w, plan.Pods, pod(1, true))
	w = run(t, w)
	w.Remove(plan.Pods, "ns", "p0001")
	w = run(t, w)
	if s := slicesOf(w); len(s) != 1 || len(s[0].Endpoints) != 0 {
		t.Errorf("slices:\n%s", w.Dump())
	}
	for _, f := range []func(*corev1.Service){
		func(s *corev1.Service) { s.Spec.Selector = nil },
		func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName },
	} {
		if w := run(t, world(service(f), pod(1, true))); len(slicesOf(w)) != 0 {
			t.Errorf("slices:\n%s", w.Dump())
		}
	}
}

// Hints follow spec.trafficDistribution.
func TestHints(t *testing.T) {
	for distribution, want := range map[string]string{
		corev1.ServiceTrafficDistributionPreferClose: "zones [{z}] nodes []", corev1.ServiceTrafficDistributionPreferSameNode: "zones [{z}] nodes [{node}]", "other": "none",
	} {
		w := run(t, world(service(func(s *corev1.Service) { s.Spec.TrafficDistribution = &distribution }), pod(1, true)))
		got := "none"
		if h := slicesOf(w)[0].Endpoints[0].Hints; h != nil {
			got = fmt.Sprintf("zones %v nodes %v", h.ForZones, h.ForNodes)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", distribution, got, want)
		}
	}
}

// From a crash after any write, and beside a controller with an old view, every endpoint ends in exactly one slice.
func TestCrash(t *testing.T) {
	var pods []*corev1.Pod
	for i := range 250 {
		pods = append(pods, pod(i, true))
	}
	w := run(t, world(service(nil), pods...))
	for i := range 120 {
		w.Remove(plan.Pods, "ns", fmt.Sprintf("p%04d", i*2))
	}
	for i := range 150 {
		plantest.Put(w, plan.Pods, pod(1000+i, true))
	}
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans}
	if n := endpointsIn(story.Run(t)); n != 280 {
		t.Errorf("%d endpoints, want 280", n)
	}
	story.Crash(t)
	story.Stale(t, 1, 2)
}

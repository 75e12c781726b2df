package endpointslicemirroring

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
)

func view(w *plantest.World) map[string]plan.Plan {
	return map[string]plan.Plan{"db": Reconcile(Input{
		Endpoints: plantest.Get[*corev1.Endpoints](w, plan.Endpoints, "ns", "db"), Service: plantest.Get[*corev1.Service](w, plan.Services, "ns", "db"),
		Slices:    plantest.List[*discoveryv1.EndpointSlice](w, plan.EndpointSlices),
		NameTaken: func(name string) bool { return w.Exists(plan.EndpointSlices, "ns", name) },
	})}
}

func world() *plantest.World {
	w := plantest.New()
	plantest.Put(w, plan.Services, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db"}})
	node := "node-1"
	plantest.Put(w, plan.Endpoints, &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "db", Labels: map[string]string{"app": "db"},
			Annotations: map[string]string{"note": "kept", corev1.LastAppliedConfigAnnotation: "{}"},
		},
		Subsets: []corev1.EndpointSubset{
			{
				Addresses:         []corev1.EndpointAddress{{IP: "10.0.0.1", Hostname: "one", NodeName: &node}, {IP: "fd00::1"}},
				NotReadyAddresses: []corev1.EndpointAddress{{IP: "10.0.0.2"}},
				Ports:             []corev1.EndpointPort{{Name: "sql", Port: 5432, Protocol: corev1.ProtocolTCP}},
			},
			{Addresses: []corev1.EndpointAddress{{IP: "10.0.0.3"}}, Ports: []corev1.EndpointPort{{Name: "sql", Port: 6432, Protocol: corev1.ProtocolTCP}}},
		},
	})
	return w
}

func sorted(w *plantest.World) map[string]*discoveryv1.EndpointSlice {
	out := map[string]*discoveryv1.EndpointSlice{}
	for _, s := range plantest.List[*discoveryv1.EndpointSlice](w, plan.EndpointSlices) {
		out[s.Endpoints[0].Addresses[0]] = s
	}
	return out
}

// Endpoints kept by hand have a slice per family and set of ports, whatever write the controller dies after, and changes and the
// end of them are followed.
func TestMirror(t *testing.T) {
	story := plantest.Story{Writes: Controller().Writes, Start: world(), Plans: view}
	end := story.Run(t)
	got := sorted(end)
	if len(got) != 3 || got["10.0.0.1"] == nil || got["fd00::1"] == nil || got["10.0.0.3"] == nil {
		t.Fatalf("slices %v", got)
	}
	s := got["10.0.0.1"]
	ep := s.Endpoints
	if len(ep) != 2 || !*ep[0].Conditions.Ready || *ep[1].Conditions.Ready || *ep[0].Hostname != "one" || *ep[0].NodeName != "node-1" || *s.Ports[0].Port != 5432 {
		t.Errorf("slice %+v", s)
	}
	if s.Labels["app"] != "db" || s.Labels[discoveryv1.LabelServiceName] != "db" || s.Labels[discoveryv1.LabelManagedBy] != ManagedBy ||
		s.Annotations["note"] != "kept" || len(s.Annotations) != 1 || s.OwnerReferences[0].Kind != "Endpoints" || got["fd00::1"].AddressType != discoveryv1.AddressTypeIPv6 {
		t.Errorf("slice %+v", s.ObjectMeta)
	}
	story.Crash(t)
	story.Stale(t, 1)

	e := plantest.Get[*corev1.Endpoints](end, plan.Endpoints, "ns", "db").DeepCopy()
	e.Subsets = e.Subsets[:1]
	e.Subsets[0].Addresses = e.Subsets[0].Addresses[:1]
	plantest.Put(end, plan.Endpoints, e)
	changed := plantest.Story{Writes: Controller().Writes, Start: end, Plans: view}
	if n := len(sorted(changed.Run(t))); n != 1 {
		t.Errorf("%d slices after two groups went", n)
	}
	changed.Crash(t)
}

// Endpoints that are made from pods, hold an election, ask not to be mirrored or have no Service have no slices.
func TestNotMirrored(t *testing.T) {
	for name, change := range map[string]func(*corev1.Endpoints, *corev1.Service){
		"selector": func(_ *corev1.Endpoints, s *corev1.Service) { s.Spec.Selector = map[string]string{"a": "b"} },
		"election": func(e *corev1.Endpoints, _ *corev1.Service) { e.Annotations[electionAnnotation] = "{}" },
		"skipped":  func(e *corev1.Endpoints, _ *corev1.Service) { e.Labels[discoveryv1.LabelSkipMirror] = "true" },
		"other":    func(_ *corev1.Endpoints, s *corev1.Service) { s.Name = "other" },
	} {
		w := plantest.Story{Start: world(), Plans: view}.Run(t)
		e, s := plantest.Get[*corev1.Endpoints](w, plan.Endpoints, "ns", "db").DeepCopy(), plantest.Get[*corev1.Service](w, plan.Services, "ns", "db").DeepCopy()
		w.Remove(plan.Services, "ns", "db")
		change(e, s)
		plantest.Put(w, plan.Endpoints, e)
		plantest.Put(w, plan.Services, s)
		if n := len(plantest.List[*discoveryv1.EndpointSlice](plantest.Story{Start: w, Plans: view}.Run(t), plan.EndpointSlices)); n != 0 {
			t.Errorf("%s: %d slices", name, n)
		}
	}
}

package namespace

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
)

func start() *plantest.World {
	w := plantest.New()
	at := metav1.NewTime(w.Now)
	plantest.Put(w, plan.Namespaces, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: "ns", DeletionTimestamp: &at, Finalizers: []string{"kept-by-the-model"}},
		Spec:       corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}},
	})
	return w
}

func meta(obj plan.Object) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion(),
		Finalizers: obj.GetFinalizers(), DeletionTimestamp: obj.GetDeletionTimestamp(),
	}}
}

func survey(w *plantest.World) []Content {
	pods, maps := Content{Kind: plan.Pods}, Content{Kind: plan.ConfigMaps}
	for _, p := range plantest.List[*corev1.Pod](w, plan.Pods) {
		pods.Objects = append(pods.Objects, meta(p))
	}
	for _, m := range plantest.List[*corev1.ConfigMap](w, plan.ConfigMaps) {
		maps.Objects = append(maps.Objects, meta(m))
	}
	return []Content{maps, pods}
}

func plans(w *plantest.World) map[string]plan.Plan {
	ns := plantest.Get[*corev1.Namespace](w, plan.Namespaces, "", "ns")
	if ns == nil {
		return nil
	}
	return map[string]plan.Plan{"ns": Reconcile(Input{Namespace: ns, Contents: survey(w)}, w.Now)}
}

// others are the kubelet and the server, which removes a namespace without finalizers.
func others(w *plantest.World) {
	if ns := plantest.Get[*corev1.Namespace](w, plan.Namespaces, "", "ns"); ns != nil && len(ns.Spec.Finalizers) == 0 {
		w.Remove(plan.Namespaces, "", "ns")
	}
	for _, p := range plantest.List[*corev1.Pod](w, plan.Pods) {
		if p.DeletionTimestamp != nil {
			w.Remove(plan.Pods, "ns", p.Name)
			return
		}
	}
}

// Pods go first, then everything else, then the finalizer; from a crash after any write too.
func TestOrder(t *testing.T) {
	w := start()
	for i := range 3 {
		plantest.Put(w, plan.Pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint(i)}, Spec: corev1.PodSpec{NodeName: "n"}})
		plantest.Put(w, plan.ConfigMaps, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint(i)}})
	}
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans, Environment: others, Invariant: func(w *plantest.World) error {
		pods, maps := len(plantest.List[*corev1.Pod](w, plan.Pods)), len(plantest.List[*corev1.ConfigMap](w, plan.ConfigMaps))
		if pods > 0 && maps < 3 {
			return fmt.Errorf("%d of 3 config maps while %d pods run", maps, pods)
		}
		if !w.Exists(plan.Namespaces, "", "ns") && maps+pods > 0 {
			return errors.New("gone before its contents")
		}
		return nil
	}}
	if end := story.Run(t); end.Dump() != "" {
		t.Errorf("left:\n%s", end.Dump())
	}
	story.Crash(t)
}

// What holds the namespace up stands in its conditions, in upstream's words.
func TestConditions(t *testing.T) {
	w := start()
	plantest.Put(w, plan.ConfigMaps, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "held", Finalizers: []string{"example.com/hold"}}})
	w = plantest.Story{Writes: Controller().Writes, Start: w, Plans: plans}.Run(t)
	ns := plantest.Get[*corev1.Namespace](w, plan.Namespaces, "", "ns")
	got := map[corev1.NamespaceConditionType]string{}
	for _, c := range ns.Status.Conditions {
		got[c.Type] = fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
	}
	for kind, want := range map[corev1.NamespaceConditionType]string{
		corev1.NamespaceDeletionDiscoveryFailure: "False ResourcesDiscovered: All resources successfully discovered",
		corev1.NamespaceContentRemaining:         "True SomeResourcesRemain: Some resources are remaining: configmaps. has 1 resource instances",
		corev1.NamespaceFinalizersRemaining:      "True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
	} {
		if got[kind] != want {
			t.Errorf("%s is %q, want %q", kind, got[kind], want)
		}
	}
	if ns.Status.Phase != corev1.NamespaceTerminating || plans(w)["ns"].After == 0 {
		t.Errorf("phase %s, looks again after %v", ns.Status.Phase, plans(w)["ns"].After)
	}
}

// A namespace of whose contents anything is unknown is not finalized.
func TestUnknownContents(t *testing.T) {
	w := start()
	ns := plantest.Get[*corev1.Namespace](w, plan.Namespaces, "", "ns")
	for what, in := range map[string]Input{
		"discovery": {Namespace: ns, DiscoveryErr: errors.New("down")},
		"one kind":  {Namespace: ns, Contents: []Content{{Kind: plan.Pods, Err: errors.New("down")}}},
	} {
		p := Reconcile(in, w.Now)
		for _, x := range p.Writes {
			if x.Subresource == "finalize" {
				t.Errorf("%s: finalized", what)
			}
			for _, c := range x.Object.(*corev1.Namespace).Status.Conditions {
				if c.Status == corev1.ConditionTrue && !strings.Contains(c.Message, "down") {
					t.Errorf("%s: %+v", what, c)
				}
			}
		}
		if p.After == 0 {
			t.Errorf("%s: does not look again", what)
		}
	}
}

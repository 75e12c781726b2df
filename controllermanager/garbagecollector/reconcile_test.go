package garbagecollector

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
)

func object(name string, refs ...metav1.OwnerReference) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name), OwnerReferences: refs}}
}

func ref(name string, block bool) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: name, UID: types.UID("uid-" + name), BlockOwnerDeletion: &block}
}

// plans judges every object with a graph that is as it should be.
func plans(w *plantest.World) map[string]plan.Plan {
	g := NewGraph()
	for _, m := range plantest.List[*corev1.ConfigMap](w, plan.ConfigMaps) {
		g.Put(newItem(plan.ConfigMaps, m))
	}
	out := map[string]plan.Plan{}
	for _, m := range plantest.List[*corev1.ConfigMap](w, plan.ConfigMaps) {
		it := g.Get(m.UID)
		in := Input{Item: it, Dependents: g.Dependents(m.UID), Complete: true}
		for _, r := range it.Owners {
			state := Absent
			if o := g.Get(r.UID); o != nil {
				state = Present
				if o.waitsForDependents() {
					state = Waiting
				}
			}
			in.Owners = append(in.Owners, state)
		}
		p := Decide(in)
		// The model's objects are not metadata only; its deletions know no propagation, so the finalizer stands for it.
		for i := range p.Writes {
			x := &p.Writes[i]
			obj := plantest.Get[*corev1.ConfigMap](w, plan.ConfigMaps, "ns", x.Object.GetName())
			if x.Verb == plan.VerbDelete && x.Propagation == client.PropagateForeground && !slices.Contains(obj.Finalizers, metav1.FinalizerDeleteDependents) {
				next := obj.DeepCopy()
				at := metav1.NewTime(w.Now)
				next.DeletionTimestamp, next.Finalizers = &at, append(next.Finalizers, metav1.FinalizerDeleteDependents)
				*x = plan.Update(plan.ConfigMaps, next)
				continue
			}
			x.Object = obj
		}
		out[m.Name] = p
	}
	return out
}

func left(w *plantest.World) string {
	var names []string
	for _, m := range plantest.List[*corev1.ConfigMap](w, plan.ConfigMaps) {
		names = append(names, m.Name)
	}
	return fmt.Sprint(names)
}

func deleting(m *corev1.ConfigMap, finalizer string) *corev1.ConfigMap {
	at := metav1.Now()
	m.DeletionTimestamp, m.Finalizers = &at, []string{finalizer}
	return m
}

// What is deleted, kept, orphaned or waited for, in each mode; each from a crash after any write.
func TestDecide(t *testing.T) {
	for _, c := range []struct {
		name    string
		objects []*corev1.ConfigMap
		want    string
		refs    map[string]int
	}{
		{"a chain without its root goes", []*corev1.ConfigMap{object("b", ref("a", true)), object("c", ref("b", true)), object("d", ref("c", false))}, "[]", nil},
		{"one owner of two is enough", []*corev1.ConfigMap{object("a"), object("c", ref("a", true), ref("gone", true))}, "[a c]", map[string]int{"c": 1}},
		{"without owners nothing goes", []*corev1.ConfigMap{object("a"), object("b", ref("a", true))}, "[a b]", map[string]int{"b": 1}},
		{"foreground waits for blocking dependents", []*corev1.ConfigMap{deleting(object("a"), metav1.FinalizerDeleteDependents), object("b", ref("a", true)), object("c", ref("b", true))}, "[]", nil},
		{"foreground does not wait for others", []*corev1.ConfigMap{deleting(object("a"), metav1.FinalizerDeleteDependents), object("b", ref("a", false))}, "[]", nil},
		{"foreground spares what has another owner", []*corev1.ConfigMap{deleting(object("a"), metav1.FinalizerDeleteDependents), object("z"), object("b", ref("a", true), ref("z", true))}, "[b z]", map[string]int{"b": 1}},
		{"orphans stay", []*corev1.ConfigMap{deleting(object("a"), metav1.FinalizerOrphanDependents), object("b", ref("a", true)), object("c", ref("a", false))}, "[b c]", map[string]int{"b": 0, "c": 0}},
		{"a cycle in the foreground ends", []*corev1.ConfigMap{deleting(object("a", ref("b", true)), metav1.FinalizerDeleteDependents), object("b", ref("a", true))}, "[]", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := plantest.New()
			for _, m := range c.objects {
				plantest.Put(w, plan.ConfigMaps, m)
			}
			story := plantest.Story{Start: w, Plans: plans}
			end := story.Run(t)
			if got := left(end); got != c.want {
				t.Errorf("left %s, want %s", got, c.want)
			}
			for name, n := range c.refs {
				if got := plantest.Get[*corev1.ConfigMap](end, plan.ConfigMaps, "ns", name); len(got.OwnerReferences) != n {
					t.Errorf("%s has %d owners, want %d", name, len(got.OwnerReferences), n)
				}
			}
			story.Crash(t)
			story.Stale(t, 1, 2)
		})
	}
}

// While the graph may lack dependents no finalizer is removed.
func TestIncompleteGraph(t *testing.T) {
	for _, f := range []string{metav1.FinalizerDeleteDependents, metav1.FinalizerOrphanDependents} {
		if p := Decide(Input{Item: newItem(plan.ConfigMaps, deleting(object("a"), f))}); !p.Empty() {
			t.Errorf("%s is removed", f)
		}
	}
}

// After any history of changes the graph's edges are those of its objects, and every change names whoever it may concern.
func TestGraph(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	g, model := NewGraph(), map[types.UID]*Item{}
	for range 5000 {
		name := fmt.Sprint(random.IntN(12))
		uid := types.UID("uid-" + name)
		switch random.IntN(4) {
		case 0:
			dependents := g.Dependents(uid)
			had := model[uid] != nil
			dirty := g.Remove(uid)
			delete(model, uid)
			for _, d := range dependents {
				if had && d.UID != uid && !slices.Contains(dirty, d.UID) {
					t.Fatalf("removing %s does not concern its dependent %s", uid, d.UID)
				}
			}
		default:
			var refs []metav1.OwnerReference
			for range random.IntN(3) {
				refs = append(refs, ref(fmt.Sprint(random.IntN(12)), true))
			}
			m := object(name, refs...)
			if random.IntN(3) == 0 {
				m = deleting(m, metav1.FinalizerDeleteDependents)
			}
			it := newItem(plan.ConfigMaps, m)
			model[uid] = it
			dirty := g.Put(it)
			if (len(refs) > 0 || it.Deleting) && !slices.Contains(dirty, uid) {
				t.Fatalf("a change of %s does not concern it", uid)
			}
		}
		for uid := range model {
			var want []types.UID
			for _, it := range model {
				if it.owner(uid) != nil {
					want = append(want, it.UID)
				}
			}
			slices.Sort(want)
			var got []types.UID
			for _, it := range g.Dependents(uid) {
				got = append(got, it.UID)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("dependents of %s are %v, want %v", uid, got, want)
			}
		}
	}
}

// A reference means an object of its kind and name in the dependent's namespace, or a cluster-scoped one.
func TestRefersTo(t *testing.T) {
	dependent := &Item{Namespace: "ns"}
	o := &Item{Kind: plan.ConfigMaps, Namespace: "ns", Name: "a", UID: "uid-a"}
	for _, c := range []struct {
		name string
		o    Item
		want bool
	}{
		{"same namespace", *o, true},
		{"other namespace", Item{Kind: plan.ConfigMaps, Namespace: "other", Name: "a"}, false},
		{"other name", Item{Kind: plan.ConfigMaps, Namespace: "ns", Name: "b"}, false},
		{"other kind", Item{Kind: plan.Pods, Namespace: "ns", Name: "a"}, false},
	} {
		if got := refersTo(ref("a", true), dependent, &c.o); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	node := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: "n"}
	if !refersTo(node, dependent, &Item{Kind: plan.Nodes, Name: "n"}) {
		t.Error("a cluster-scoped owner is not found")
	}
}

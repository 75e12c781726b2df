package admission

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/registry"
)

// library has namespaces, and counts who reads.
type library struct {
	changed int64
	has     map[string]bool
	reads   int
}

func (l *library) Changed() int64 { return l.changed }
func (l *library) Empty() bool    { return len(l.has) == 0 }
func (l *library) Object(_ context.Context, _, _, _, name string, _ bool) (registry.Object, bool, error) {
	l.reads++
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, l.has[name], nil
}
func (l *library) Objects(context.Context, string, string, string) ([]registry.Object, error) {
	l.reads++
	return make([]registry.Object, len(l.has)), nil
}
func (l *library) Collection(string, string) (Collection, bool) { return l, true }

// TestRemember shows that what is there is read once per change, that what is not there is looked for again, and that fresh reads and
// other resources are not answered from memory.
func TestRemember(t *testing.T) {
	l := &library{has: map[string]bool{"a": true}}
	r := Remember(l, schema.GroupResource{Resource: "namespaces"})
	get := func(plural, name string, fresh bool) bool {
		t.Helper()
		_, ok, err := r.Object(t.Context(), "", plural, "", name, fresh)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	reads := func(what string, want int, do func()) {
		t.Helper()
		before := l.reads
		do()
		if got := l.reads - before; got != want {
			t.Errorf("%s: %d reads, want %d", what, got, want)
		}
	}
	reads("the same again", 1, func() { get("namespaces", "a", false); get("namespaces", "a", false) })
	reads("what is not there", 2, func() { get("namespaces", "b", false); get("namespaces", "b", false) })
	reads("fresh", 2, func() { get("namespaces", "a", true); get("namespaces", "a", true) })
	reads("others", 2, func() { get("secrets", "a", false); get("secrets", "a", false) })
	reads("lists", 1, func() {
		for range 2 {
			if _, err := r.Objects(t.Context(), "", "namespaces", ""); err != nil {
				t.Fatal(err)
			}
		}
	})
	l.changed, l.has = 1, nil
	reads("after a change", 1, func() {
		if get("namespaces", "a", false) {
			t.Error("what is gone is remembered")
		}
	})
}

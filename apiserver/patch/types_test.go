package patch

import (
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/util/managedfields"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/groups"
)

// Every kind but APIService has a schema by which its fields are merged.
func TestEveryKindHasASchema(t *testing.T) {
	set, err := registry.NewSet(groups.All(core.Config{})...)
	if err != nil {
		t.Fatal(err)
	}
	f := NewFields(set)
	deduced := reflect.TypeOf(managedfields.NewDeducedTypeConverter())
	for _, r := range set.All() {
		if r.KeyPrefix == "" {
			continue
		}
		if got := reflect.TypeOf(f.types(r)) == deduced; got != (r.Kind.Group == "apiregistration.k8s.io") {
			t.Errorf("%s: deduced is %v", r.Kind, got)
		}
	}
}

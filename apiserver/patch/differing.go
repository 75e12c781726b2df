package patch

import (
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/registry"
)

// differing returns copies of obj and old without what is equal in both, two levels deep, and the JSON names of the fields
// that are left (see atomic): an update's record depends on the differences alone, and a pod whose status changes
// need not have its spec gone through with its schema twice. The copies share memory with the originals and must not be
// modified in depth.
func differing(obj, old registry.Object) (a, b registry.Object, names []string) {
	a, b = shallow(obj), shallow(old)
	names = dropEqual(reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem(), 2, nil)
	a.GetObjectKind().SetGroupVersionKind(obj.GetObjectKind().GroupVersionKind())
	b.GetObjectKind().SetGroupVersionKind(obj.GetObjectKind().GroupVersionKind())
	for _, o := range []registry.Object{a, b} {
		o.SetName(obj.GetName())
		o.SetNamespace(obj.GetNamespace())
	}
	return a, b, names
}

func shallow(obj registry.Object) registry.Object {
	v := reflect.ValueOf(obj).Elem()
	c := reflect.New(v.Type())
	c.Elem().Set(v)
	return c.Interface().(registry.Object)
}

func dropEqual(a, b reflect.Value, depth int, names []string) []string {
	for i := range a.NumField() {
		x, y, f := a.Field(i), b.Field(i), a.Type().Field(i)
		if !x.CanSet() || f.Name == "TypeMeta" {
			continue
		}
		if depth > 1 && x.Kind() == reflect.Struct && !x.Addr().Type().Implements(marshaler) {
			before := len(names)
			if names = dropEqual(x, y, depth-1, names); len(names) > before && !f.Anonymous {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				names = append(names, name+atomic)
			}
			continue
		}
		// Unlike Kubernetes' notion of equality, this one tells an absent list from an empty one, as the record does; and
		// it may tell apart two spellings of one amount, which costs time and changes nothing.
		if reflect.DeepEqual(x.Interface(), y.Interface()) {
			x.SetZero()
			y.SetZero()
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !unrecorded[name] || a.Type() != objectMeta {
			names = append(names, name)
		}
	}
	return names
}

// atomic marks the names of structs in which something differs: a record holds such a struct itself only where it is one
// value to Kubernetes (a binding's roleRef), and then as a leaf.
const atomic = `":{}`

var objectMeta = reflect.TypeFor[metav1.ObjectMeta]()

// unrecorded are the fields of the metadata that are nobody's.
var unrecorded = map[string]bool{
	"name": true, "namespace": true, "creationTimestamp": true, "selfLink": true, "uid": true, "generation": true,
	"managedFields": true, "resourceVersion": true,
}

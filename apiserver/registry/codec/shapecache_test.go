package codec

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// A type's shape is read once, also when it is asked for by a pointer, as every request does.
func TestShapeIsReadOnce(t *testing.T) {
	var c shapeCache
	for _, typ := range []reflect.Type{reflect.TypeFor[*corev1.Pod](), reflect.TypeFor[corev1.Pod]()} {
		first := c.of(typ)
		if len(first.fields) == 0 {
			t.Errorf("%s has no fields", typ)
		}
		if c.of(typ) != first {
			t.Errorf("%s was read twice", typ)
		}
	}
}

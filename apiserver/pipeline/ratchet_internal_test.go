package pipeline

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
)

// What is wrong with the stored object already is borne; what a change makes wrong is not, be it in the same field.
func TestRatchet(t *testing.T) {
	rule := func(obj, _ registry.Object) field.ErrorList {
		var errs field.ErrorList
		for key, value := range obj.(*corev1.ConfigMap).Data {
			if value != "" {
				errs = append(errs, field.Invalid(field.NewPath("data").Key(key), value, "must be empty"))
			}
		}
		return errs
	}
	with := func(data map[string]string) *corev1.ConfigMap {
		c := &corev1.ConfigMap{Data: data}
		c.Name, c.Namespace, c.UID, c.ResourceVersion = "c", "default", "1", "1"
		return c
	}
	res := &registry.Resource{Namespaced: true}
	old := with(map[string]string{"a": "x", "b": ""})
	for name, c := range map[string]struct {
		data map[string]string
		want int
	}{
		"unchanged":        {map[string]string{"a": "x"}, 0},
		"other value":      {map[string]string{"a": "y"}, 1},
		"other field":      {map[string]string{"a": "x", "b": "x"}, 1},
		"nothing is wrong": {map[string]string{}, 0},
	} {
		if errs := ratchet(rule(with(c.data), old), res, old, rule); len(errs) != c.want {
			t.Errorf("%s: %v", name, errs)
		}
	}
}

package admission

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/registry"
)

// A node takes the local-path finalizer off volumes of its own disk that are being deleted, and writes nothing else of any
// volume.
func TestNodeWritesItsVolumesFinalizer(t *testing.T) {
	now := metav1.Now()
	volume := func(node string, deleting bool) *corev1.PersistentVolume {
		v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{
			Name: "v", Labels: map[string]string{authz.VolumeNodeLabel: node}, Finalizers: []string{"kubernetes.io/pv-protection", localPathFinalizer},
		}}
		if deleting {
			v.DeletionTimestamp = &now
		}
		return v
	}
	off := func(v *corev1.PersistentVolume) { v.Finalizers = v.Finalizers[:1] }
	plugin := NodeRestriction(nil)
	for name, c := range map[string]struct {
		old    *corev1.PersistentVolume
		change func(*corev1.PersistentVolume)
		ok     bool
	}{
		"takes it off":                 {volume("n1", true), off, true},
		"of another node":              {volume("n2", true), off, false},
		"of one that stays":            {volume("n1", false), off, false},
		"another finalizer":            {volume("n1", true), func(v *corev1.PersistentVolume) { v.Finalizers = slices.Delete(v.Finalizers, 0, 1) }, false},
		"all finalizers":               {volume("n1", true), func(v *corev1.PersistentVolume) { v.Finalizers = nil }, false},
		"something else along the way": {volume("n1", true), func(v *corev1.PersistentVolume) { off(v); v.Spec.StorageClassName = "x" }, false},
		"a label that says it is its":  {volume("n2", true), func(v *corev1.PersistentVolume) { off(v); v.Labels[authz.VolumeNodeLabel] = "n1" }, false},
	} {
		next := c.old.DeepCopy()
		c.change(next)
		err := plugin.Mutate(t.Context(), &Attributes{
			Operation: Update, User: &authn.Identity{Name: authn.NodeUserPrefix + "n1", Groups: []string{authn.Nodes}}, Name: "v", Object: next, Old: c.old,
			Resource: &registry.Resource{Kind: schema.GroupVersionKind{Version: "v1", Kind: "PersistentVolume"}, Plural: "persistentvolumes"},
		})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

package admission

import (
	"context"
	"slices"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

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
	plugin := NodeRestriction(nil, nil)
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

// few is a store of a few objects, by resource and name.
type few map[string]registry.Object

func (f few) Object(_ context.Context, _, plural, namespace, name string, _ bool) (registry.Object, bool, error) {
	obj, ok := f[plural+" "+name]
	return obj, ok && obj.GetNamespace() == namespace, nil
}

func (f few) Objects(context.Context, string, string, string) ([]registry.Object, error) {
	return nil, nil
}

func (f few) Collection(string, string) (Collection, bool) { return nil, false }

// A node asks for certificates only for pods that run on it, as their own service account and as itself.
func TestNodeAsksForItsPodsCertificates(t *testing.T) {
	meta := func(namespace, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(name + "-uid")}
	}
	pod := func(name, node string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: meta("ns", name), Spec: corev1.PodSpec{NodeName: node, ServiceAccountName: "robot"}}
	}
	mirror := pod("static", "n1")
	mirror.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	plugin := NodeRestriction(few{
		"pods web": pod("web", "n1"), "pods other": pod("other", "n2"), "pods static": mirror,
		"serviceaccounts robot": &corev1.ServiceAccount{ObjectMeta: meta("ns", "robot")}, "nodes n1": &corev1.Node{ObjectMeta: meta("", "n1")},
	}, nil)
	type spec = certificatesv1.PodCertificateRequestSpec
	for name, c := range map[string]struct {
		change func(*spec)
		ok     bool
	}{
		"its own":               {func(*spec) {}, true},
		"another node's name":   {func(s *spec) { s.NodeName = "n2" }, false},
		"another node's pod":    {func(s *spec) { s.PodName, s.PodUID = "other", "other-uid" }, false},
		"a pod that is no more": {func(s *spec) { s.PodName = "gone" }, false},
		"an earlier pod":        {func(s *spec) { s.PodUID = "earlier" }, false},
		"a mirror pod":          {func(s *spec) { s.PodName, s.PodUID = "static", "static-uid" }, false},
		"another account":       {func(s *spec) { s.ServiceAccountName = "admin" }, false},
		"an earlier account":    {func(s *spec) { s.ServiceAccountUID = "earlier" }, false},
		"an earlier node":       {func(s *spec) { s.NodeUID = "earlier" }, false},
	} {
		r := &certificatesv1.PodCertificateRequest{ObjectMeta: meta("ns", "r"), Spec: spec{
			PodName: "web", PodUID: "web-uid", ServiceAccountName: "robot", ServiceAccountUID: "robot-uid", NodeName: "n1", NodeUID: "n1-uid",
		}}
		c.change(&r.Spec)
		err := plugin.Mutate(t.Context(), &Attributes{
			Operation: Create, User: &authn.Identity{Name: authn.NodeUserPrefix + "n1", Groups: []string{authn.Nodes}}, Namespace: "ns", Name: "r", Object: r,
			Resource: &registry.Resource{Kind: certificatesv1.SchemeGroupVersion.WithKind("PodCertificateRequest"), Plural: "podcertificaterequests"},
		})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A node says of no other what volume drivers it has.
func TestNodeWritesItsCSINode(t *testing.T) {
	plugin := NodeRestriction(nil, nil)
	for _, op := range []Operation{Create, Update, Delete} {
		for name, ok := range map[string]bool{"n1": true, "n2": false} {
			a := &Attributes{
				Operation: op, User: &authn.Identity{Name: authn.NodeUserPrefix + "n1", Groups: []string{authn.Nodes}}, Name: name,
				Resource: &registry.Resource{Kind: schema.GroupVersionKind{Group: storagev1.GroupName, Version: "v1", Kind: "CSINode"}, Plural: "csinodes"},
			}
			if op != Delete {
				a.Object = &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: name}}
			}
			if err := plugin.Mutate(t.Context(), a); (err == nil) != ok {
				t.Errorf("%s of %s: %v", op, name, err)
			}
		}
	}
}

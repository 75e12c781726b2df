package server

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/fields"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/watchcache"
)

// objects answers authn's and authz's questions about stored objects from the pipeline's caches.
type objects struct{ p *pipeline.Pipeline }

// UID implements authn.Lookup. It looks again, freshly, before it says that an object is gone.
func (o objects) UID(ctx context.Context, resource, namespace, name string) (string, time.Time, bool, error) {
	obj, ok, err := o.p.Object(ctx, "", resource, namespace, name, false)
	if err == nil && !ok {
		obj, ok, err = o.p.Object(ctx, "", resource, namespace, name, true)
	}
	if err != nil || !ok {
		return "", time.Time{}, false, err
	}
	deleted := time.Time{}
	if t := obj.GetDeletionTimestamp(); t != nil {
		deleted = t.Time
	}
	return string(obj.GetUID()), deleted, true, nil
}

// NodeUses implements authz.Graph.
func (o objects) NodeUses(ctx context.Context, node, resource, namespace, name string) (bool, error) {
	if resource == "resourceslices" {
		obj, ok, err := o.p.Object(ctx, "resource.k8s.io", resource, "", name, false)
		slice, is := obj.(*resourcev1.ResourceSlice)
		return ok && is && slice.Spec.NodeName != nil && *slice.Spec.NodeName == node, err
	}
	for _, fresh := range []bool{false, true} {
		pods, err := o.p.Select(ctx, "", "pods", watchcache.Query{Namespace: namespace, Fields: fields.OneTermEqualSelector("spec.nodeName", node)}, fresh)
		if err != nil {
			return false, err
		}
		for _, obj := range pods {
			if uses(obj.(*corev1.Pod), resource, name) {
				return true, nil
			}
		}
	}
	if resource == "secrets" {
		return o.mounts(ctx, node, corev1.SecretReference{Namespace: namespace, Name: name})
	}
	return false, nil
}

// mounts reports whether a volume that a pod on the node claims needs a secret, in whatever namespace, to be mounted.
func (o objects) mounts(ctx context.Context, node string, secret corev1.SecretReference) (bool, error) {
	pods, err := o.p.Select(ctx, "", "pods", watchcache.Query{Fields: fields.OneTermEqualSelector("spec.nodeName", node)}, false)
	if err != nil {
		return false, err
	}
	for _, obj := range pods {
		for _, ref := range admission.PodReferences(obj.(*corev1.Pod)) {
			if ref.Resource != "persistentvolumeclaims" {
				continue
			}
			claim, ok, err := o.p.Object(ctx, "", "persistentvolumeclaims", obj.GetNamespace(), ref.Name, false)
			if err != nil || !ok || claim.(*corev1.PersistentVolumeClaim).Spec.VolumeName == "" {
				continue // the next may do
			}
			volume, ok, err := o.p.Object(ctx, "", "persistentvolumes", "", claim.(*corev1.PersistentVolumeClaim).Spec.VolumeName, false)
			if err == nil && ok && needs(volume.(*corev1.PersistentVolume), claim, secret) {
				return true, nil
			}
		}
	}
	return false, nil
}

// needs: the secrets by which a controller attaches and grows a volume are no kubelet's. Who made a volume says which claim it is for.
func needs(v *corev1.PersistentVolume, claim registry.Object, secret corev1.SecretReference) bool {
	bound, csi := v.Spec.ClaimRef, v.Spec.CSI
	if bound == nil || csi == nil || bound.Namespace != claim.GetNamespace() || bound.Name != claim.GetName() {
		return false
	}
	return slices.ContainsFunc([]*corev1.SecretReference{csi.NodePublishSecretRef, csi.NodeStageSecretRef, csi.NodeExpandSecretRef},
		func(ref *corev1.SecretReference) bool { return ref != nil && *ref == secret })
}

func uses(pod *corev1.Pod, resource, name string) bool {
	if resource == "pods" {
		return pod.Name == name
	}
	return slices.Contains(admission.PodReferences(pod), admission.Reference{Resource: resource, Name: name})
}

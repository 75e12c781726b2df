package customresource

import (
	"fmt"
	"math"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"bareboat.dev/apiserver/registry"
)

func (v *kindVersion) subresources() map[string]registry.Subresource {
	subs := map[string]registry.Subresource{}
	if v.hasStatus() {
		subs["status"] = registry.Subresource{Verbs: []string{"get", "patch", "update"}, Apply: applyStatus, Validate: v.validateStatus}
	}
	if s := v.scale(); s != nil {
		subs["scale"] = v.scaleSubresource(s)
	}
	return subs
}

// applyStatus takes the status and what is recorded of it from the body, and nothing else.
func applyStatus(old registry.Object, body runtime.Object, _ time.Time) (registry.Object, error) {
	obj, from := old.DeepCopyObject().(*registry.CustomObject), body.(*registry.CustomObject)
	carry(obj.Object, runtime.DeepCopyJSON(from.Object), "status")
	obj.SetManagedFields(from.GetManagedFields())
	// A body of another kind must not pass as one of this kind.
	for _, name := range []string{"apiVersion", "kind"} {
		carry(obj.Object, from.Object, name)
	}
	return obj, nil
}

// noReplicas stands for a number that is not there yet while a patch sets it.
const noReplicas = math.MinInt32

func (v *kindVersion) scaleSubresource(s *v1.CustomResourceSubresourceScale) registry.Subresource {
	kind := autoscalingv1.SchemeGroupVersion.WithKind("Scale")
	return registry.Subresource{
		Verbs: []string{"get", "patch", "update"}, Kind: kind,
		New: func() runtime.Object { return &autoscalingv1.Scale{} },
		Get: func(obj registry.Object) (runtime.Object, error) {
			scale, found, err := scaleOf(obj.(*registry.CustomObject), s)
			if err == nil && !found {
				err = apierrors.NewInternalError(fmt.Errorf("the spec replicas field %q does not exist", s.SpecReplicasPath))
			}
			return scale, err
		},
		Base: func(obj registry.Object) (runtime.Object, error) {
			scale, found, err := scaleOf(obj.(*registry.CustomObject), s)
			if err == nil && !found {
				scale.Spec.Replicas = noReplicas
			}
			return scale, err
		},
		Apply: func(old registry.Object, body runtime.Object, _ time.Time) (registry.Object, error) {
			obj, scale := old.DeepCopyObject().(*registry.CustomObject), body.(*autoscalingv1.Scale)
			if scale.Spec.Replicas == noReplicas {
				return nil, apierrors.NewBadRequest(fmt.Sprintf("the spec replicas field %q cannot be empty", s.SpecReplicasPath))
			}
			err := unstructured.SetNestedField(obj.Object, int64(scale.Spec.Replicas), pathOf(s.SpecReplicasPath)...)
			return obj, err
		},
		Validate: v.validateUpdate,
	}
}

// scaleOf shows an object as a Scale; found is false if it says no wanted number.
func scaleOf(obj *registry.CustomObject, s *v1.CustomResourceSubresourceScale) (scale *autoscalingv1.Scale, found bool, err error) {
	wanted, found, err := unstructured.NestedInt64(obj.Object, pathOf(s.SpecReplicasPath)...)
	if err != nil {
		return nil, false, err
	}
	have, _, err := unstructured.NestedInt64(obj.Object, pathOf(s.StatusReplicasPath)...)
	if err != nil {
		return nil, false, err
	}
	selector := ""
	if path := selectorPath(s); path != "" {
		if selector, _, err = unstructured.NestedString(obj.Object, pathOf(path)...); err != nil {
			return nil, false, err
		}
	}
	return &autoscalingv1.Scale{
		TypeMeta: metav1.TypeMeta{APIVersion: "autoscaling/v1", Kind: "Scale"},
		ObjectMeta: metav1.ObjectMeta{
			Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(),
			ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
		},
		Spec:   autoscalingv1.ScaleSpec{Replicas: int32(wanted)},
		Status: autoscalingv1.ScaleStatus{Replicas: int32(have), Selector: selector},
	}, found, nil
}

// replicas maps each version to where its scale's wanted number is.
func (d *definition) replicas() managedfields.ResourcePathMappings {
	out := managedfields.ResourcePathMappings{}
	for i := range d.spec.Versions {
		v := &d.spec.Versions[i]
		gv := schema.GroupVersion{Group: d.spec.Group, Version: v.Name}.String()
		out[gv] = nil
		if v.Subresources == nil || v.Subresources.Scale == nil {
			continue
		}
		var path fieldpath.Path
		for _, name := range pathOf(v.Subresources.Scale.SpecReplicasPath) {
			path = append(path, fieldpath.PathElement{FieldName: &name})
		}
		out[gv] = path
	}
	return out
}

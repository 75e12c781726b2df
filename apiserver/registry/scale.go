package registry

import (
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

// Scaled says where a kind keeps what autoscaling/v1 Scale shows.
type Scaled[T Object] struct {
	// Replicas returns where the wanted number is, the current number, and the selector.
	Replicas func(obj T) (desired **int32, current int32, selector *metav1.LabelSelector)
	// Validate checks the object after a change of scale.
	Validate func(e *check.Errors, obj, old T)
}

// ScaleSubresource is the "scale" of a workload.
func ScaleSubresource[T Object](s Scaled[T]) Subresource {
	gvk := autoscalingv1.SchemeGroupVersion.WithKind("Scale")
	return Subresource{
		Verbs: []string{"get", "patch", "update"},
		Kind:  gvk,
		New:   func() runtime.Object { return &autoscalingv1.Scale{} },
		Get: func(obj Object) (runtime.Object, error) {
			desired, current, selector := s.Replicas(obj.(T))
			scale := &autoscalingv1.Scale{
				TypeMeta: metav1.TypeMeta{APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind},
				ObjectMeta: metav1.ObjectMeta{
					Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(),
					ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
				},
				Status: autoscalingv1.ScaleStatus{Replicas: current},
			}
			if *desired != nil {
				scale.Spec.Replicas = **desired
			}
			if selector != nil {
				parsed, err := metav1.LabelSelectorAsSelector(selector)
				if err != nil {
					return nil, err
				}
				scale.Status.Selector = parsed.String()
			}
			return scale, nil
		},
		Apply: func(old Object, body runtime.Object, _ time.Time) (Object, error) {
			obj, scale := old.DeepCopyObject().(T), body.(*autoscalingv1.Scale)
			if scale.Spec.Replicas < 0 {
				return nil, apierrors.NewInvalid(gvk.GroupKind(), old.GetName(), field.ErrorList{field.Invalid(
					field.NewPath("spec", "replicas"), scale.Spec.Replicas, "must be greater than or equal to 0")})
			}
			desired, _, _ := s.Replicas(obj)
			replicas := scale.Spec.Replicas
			*desired = &replicas
			return obj, nil
		},
		Validate: ChecksChange(s.Validate),
	}
}

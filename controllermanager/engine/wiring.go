package engine

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/plan"
)

// Loop adds a loop over the view's own objects: each is queued under its key when it changes and looked up when its turn
// comes; step is not called for one that is gone. cfg.Step is not used.
func (v *View[T]) Loop(s *Setup, cfg LoopConfig, step func(ctx context.Context, obj T, s Step) (plan.Plan, error)) *Loop {
	cfg.Step = func(ctx context.Context, s Step) (plan.Plan, error) {
		obj, ok := v.Get(s.Namespace, s.Name)
		if !ok {
			return plan.Plan{}, nil
		}
		return step(ctx, obj, s)
	}
	l := s.Loop(cfg)
	v.Enqueue(l, Self[T])
	return l
}

// Claimants returns a function that finds the keys of the owners which an object of their namespace matters to: its
// controller, if that is of kind k; or if it has none, those whose selector matches it, which would adopt it.
func Claimants[O, T client.Object](owners *View[O], k plan.Kind, selector func(O) (labels.Selector, error)) func(T) []string {
	return func(obj T) []string {
		if metav1.GetControllerOfNoCopy(obj) != nil {
			return ControllerKey(obj, k)
		}
		var keys []string
		for _, o := range owners.ByIndex("namespace", obj.GetNamespace()) {
			sel, err := selector(o)
			if err == nil && !sel.Empty() && sel.Matches(labels.Set(obj.GetLabels())) {
				keys = append(keys, Key(o))
			}
		}
		return keys
	}
}

// PodsByClaim finds pods by the PersistentVolumeClaims that they use, namespace/name, those of their ephemeral volumes
// included.
var PodsByClaim = Index[*corev1.Pod]{"claim", func(p *corev1.Pod) []string {
	var keys []string
	for i := range p.Spec.Volumes {
		switch v := &p.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			keys = append(keys, p.Namespace+"/"+v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			keys = append(keys, p.Namespace+"/"+p.Name+"-"+v.Name)
		}
	}
	return keys
}}

// Gone asks the API itself, whatever mirrors show, whether an object is gone: there is none of the name, or another one. It
// is for decisions that cannot be undone.
func (s *Setup) Gone(ctx context.Context, k plan.Kind, namespace, name string, uid types.UID) (bool, error) {
	meta, err := s.engine.GetMeta(ctx, k, namespace, name)
	switch {
	case apierrors.IsNotFound(err):
		return true, nil
	case err != nil:
		return false, err
	}
	return uid != "" && meta.UID != uid, nil
}

package server

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
)

const (
	// maxDisrupted bounds the pods that a budget remembers as evicted, as in Kubernetes: its object must not grow without end.
	maxDisrupted = 2000
	// budgetTries is how often a budget that somebody else changed meanwhile is tried again.
	budgetTries = 20
)

// evict serves pods/eviction: a deletion that whoever may evict may ask for, with the options of the Eviction, unless a
// PodDisruptionBudget forbids it for now (https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/).
func evict(ctx context.Context, p *pipeline.Pipeline, r *pipeline.Request, stored registry.Object) (*pipeline.Result, error) {
	body := &policyv1.Eviction{}
	warnings, err := p.Decode(r, policyv1.SchemeGroupVersion.WithKind("Eviction"), body)
	if err != nil {
		return nil, err
	}
	if body.Name != "" && body.Name != r.Name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	if err := p.Admit(ctx, r, stored, body); err != nil {
		return nil, err
	}
	del := &pipeline.Request{
		Verb: pipeline.Delete, Caller: pipeline.System(), DryRun: r.DryRun,
		Ref: pipeline.Ref{Version: "v1", Resource: "pods", Namespace: r.Namespace, Name: r.Name},
	}
	if body.DeleteOptions != nil {
		del.Delete = *body.DeleteOptions
	}
	dry := r.DryRun || len(del.Delete.DryRun) > 0
	if pod := stored.(*corev1.Pod); budgeted(pod) {
		if err := spend(ctx, p, pod, dry); err != nil {
			return nil, err
		}
	}
	if _, err := p.Do(ctx, del); err != nil {
		return nil, err
	}
	res := pipeline.Answer(schema.GroupVersionKind{Version: "v1", Kind: "Status"}, &metav1.Status{Status: metav1.StatusSuccess, Code: 201})
	res.Warnings = warnings
	return res, nil
}

// budgeted reports whether the pod's end is a disruption: not if it has ended, has not begun, or is being deleted.
func budgeted(pod *corev1.Pod) bool {
	switch pod.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed, corev1.PodPending:
		return false
	}
	return pod.DeletionTimestamp == nil
}

// spend takes one disruption from the pod's budget, if it has one.
func spend(ctx context.Context, p *pipeline.Pipeline, pod *corev1.Pod, dry bool) error {
	for range budgetTries {
		budget, err := budgetOf(ctx, p, pod)
		if err != nil || budget == nil {
			return err
		}
		if err := decrement(budget, pod.Name, metav1.NewTime(p.Now())); err != nil {
			return err
		}
		if dry {
			return nil
		}
		if err = writeBudget(ctx, p, budget); !apierrors.IsConflict(err) {
			return err
		}
	}
	return blocked(fmt.Sprintf("the disruption budget of pod %s is changed too often to be taken from", pod.Name))
}

// budgetOf returns a copy of the one budget that covers the pod, or nil.
func budgetOf(ctx context.Context, p *pipeline.Pipeline, pod *corev1.Pod) (*policyv1.PodDisruptionBudget, error) {
	all, err := p.Fresh(ctx, policyv1.GroupName, "poddisruptionbudgets", pod.Namespace)
	if err != nil {
		return nil, err
	}
	var found *policyv1.PodDisruptionBudget
	for _, obj := range all {
		b := obj.(*policyv1.PodDisruptionBudget)
		sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || !sel.Matches(labels.Set(pod.Labels)) {
			continue
		}
		if found != nil {
			return nil, apierrors.NewInternalError(fmt.Errorf("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."))
		}
		found = b
	}
	return found.DeepCopy(), nil
}

// decrement takes a disruption from a budget, or says why it cannot.
func decrement(b *policyv1.PodDisruptionBudget, pod string, now metav1.Time) error {
	s := &b.Status
	switch {
	case s.ObservedGeneration < b.Generation:
		return blocked("The disruption budget " + b.Name + " is still being processed by the server.")
	case s.DisruptionsAllowed < 0:
		return apierrors.NewForbidden(schema.GroupResource{Group: policyv1.GroupName, Resource: "poddisruptionbudgets"}, b.Name, fmt.Errorf("pdb disruptions allowed is negative"))
	case len(s.DisruptedPods) > maxDisrupted:
		return apierrors.NewForbidden(schema.GroupResource{Group: policyv1.GroupName, Resource: "poddisruptionbudgets"}, b.Name, fmt.Errorf("DisruptedPods map too big - too many evictions not confirmed by PDB controller"))
	case s.DisruptionsAllowed == 0:
		e := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
		e.ErrStatus.Details.Causes = append(e.ErrStatus.Details.Causes, metav1.StatusCause{
			Type: policyv1.DisruptionBudgetCause, Message: fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", b.Name, s.DesiredHealthy, s.CurrentHealthy),
		})
		return e
	}
	s.DisruptionsAllowed--
	if s.DisruptedPods == nil {
		s.DisruptedPods = map[string]metav1.Time{}
	}
	s.DisruptedPods[pod] = now
	return nil
}

// retrySoon is how many seconds a client waits for a budget that is being worked on.
const retrySoon = 10

func blocked(message string) error { return apierrors.NewTooManyRequests(message, retrySoon) }

func writeBudget(ctx context.Context, p *pipeline.Pipeline, b *policyv1.PodDisruptionBudget) error {
	raw, err := b.Marshal()
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	_, err = p.Do(ctx, &pipeline.Request{
		Verb: pipeline.Update, Caller: pipeline.System(),
		Ref:  pipeline.Ref{Group: policyv1.GroupName, Version: "v1", Resource: "poddisruptionbudgets", Namespace: b.Namespace, Name: b.Name, Subresource: "status"},
		Body: pipeline.Body{ContentType: pipeline.Raw, Kind: policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"), Data: raw},
	})
	return err
}

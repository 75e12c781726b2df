package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
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
	e := &eviction{p: p, pod: stored.(*corev1.Pod), dry: r.DryRun}
	if body.DeleteOptions != nil {
		e.options = *body.DeleteOptions.DeepCopy()
	}
	e.dry = e.dry || len(e.options.DryRun) > 0
	if err := e.run(ctx); err != nil {
		return nil, err
	}
	res := pipeline.Answer(schema.GroupVersionKind{Version: "v1", Kind: "Status"}, &metav1.Status{Status: metav1.StatusSuccess, Code: 201})
	res.Warnings = warnings
	return res, nil
}

// eviction is one pod's.
type eviction struct {
	p       *pipeline.Pipeline
	pod     *corev1.Pod
	options metav1.DeleteOptions
	dry     bool
	// pinned: the decision holds for the pod as it was read, and for no other state of it.
	pinned bool
}

func (e *eviction) run(ctx context.Context) error {
	if err := e.decide(ctx); err != nil {
		return err
	}
	if e.pinned && (e.options.Preconditions == nil || e.options.Preconditions.ResourceVersion == nil) {
		if e.options.Preconditions == nil {
			e.options.Preconditions = &metav1.Preconditions{}
		}
		version := e.pod.ResourceVersion
		e.options.Preconditions.ResourceVersion = &version
	}
	if !e.dry {
		if err := e.announce(ctx); err != nil {
			return err
		}
	}
	_, err := e.p.Do(ctx, &pipeline.Request{
		Verb: pipeline.Delete, Caller: pipeline.System(), DryRun: e.dry, Delete: e.options, Ref: e.ref(""),
	})
	return err
}

func (e *eviction) ref(subresource string) pipeline.Ref {
	return pipeline.Ref{Version: "v1", Resource: "pods", Namespace: e.pod.Namespace, Name: e.pod.Name, Subresource: subresource}
}

// decide takes the disruption from the pod's budget, if it has one that guards it.
func (e *eviction) decide(ctx context.Context) error {
	if !budgeted(e.pod) {
		e.pinned = true
		return nil
	}
	for range budgetTries {
		budget, err := budgetOf(ctx, e.p, e.pod)
		if err != nil || budget == nil {
			return err
		}
		if !guards(budget, e.pod) {
			e.pinned = true
			return nil
		}
		if err := decrement(budget, e.pod.Name, metav1.NewTime(e.p.Now())); err != nil {
			return err
		}
		if e.dry {
			return nil
		}
		if err = writeBudget(ctx, e.p, budget); !apierrors.IsConflict(err) {
			return err
		}
	}
	return apierrors.NewTimeoutError(fmt.Sprintf("couldn't update the PodDisruptionBudget of pod %q due to conflicts", e.pod.Name), retrySoon)
}

// guards reports whether a budget has a say in a pod's end. A pod that is not ready counts as none of the healthy ones: it may
// go if the budget says so, or if enough others are healthy (KEP-3017).
func guards(b *policyv1.PodDisruptionBudget, pod *corev1.Pod) bool {
	if ready(pod) {
		return true
	}
	if policy := b.Spec.UnhealthyPodEvictionPolicy; policy != nil && *policy == policyv1.AlwaysAllow {
		return false
	}
	return b.Status.CurrentHealthy < b.Status.DesiredHealthy || b.Status.DesiredHealthy <= 0
}

func ready(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// announce records in the pod's status why it ends, so that controllers can tell an eviction from a failure (KEP-3329).
func (e *eviction) announce(ctx context.Context) error {
	pre := e.options.Preconditions
	about := map[string]any{}
	if pre != nil && pre.ResourceVersion != nil {
		about["resourceVersion"] = *pre.ResourceVersion
	}
	if pre != nil && pre.UID != nil {
		about["uid"] = *pre.UID
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": about,
		"status": map[string]any{"conditions": []corev1.PodCondition{{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting",
			ObservedGeneration: e.pod.Generation, LastTransitionTime: metav1.NewTime(e.p.Now().Truncate(time.Second)),
		}}},
	})
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	res, err := e.p.Do(ctx, &pipeline.Request{
		Verb: pipeline.Patch, Caller: pipeline.System(), PatchType: pipeline.StrategicPatch,
		Body: pipeline.Body{ContentType: string(pipeline.StrategicPatch), Data: patch}, Ref: e.ref("status"),
	})
	if err != nil || pre == nil || pre.ResourceVersion == nil {
		return err
	}
	obj, err := res.Object.Decoded()
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	version := obj.(*corev1.Pod).ResourceVersion
	pre.ResourceVersion = &version
	return nil
}

// budgeted reports whether the pod's end is a disruption: not if it has ended, has not begun, or is being deleted.
func budgeted(pod *corev1.Pod) bool {
	switch pod.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed, corev1.PodPending:
		return false
	}
	return pod.DeletionTimestamp == nil
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
	refused := func(why string) error {
		return apierrors.NewForbidden(schema.GroupResource{Group: policyv1.GroupName, Resource: "poddisruptionbudget"}, b.Name, errors.New(why))
	}
	switch {
	case s.ObservedGeneration < b.Generation:
		return blocked(retrySoon, fmt.Sprintf("The disruption budget %s is still being processed by the server.", b.Name))
	case s.DisruptionsAllowed < 0:
		return refused("pdb disruptions allowed is negative")
	case len(s.DisruptedPods) > maxDisrupted:
		return refused("DisruptedPods map too big - too many evictions not confirmed by PDB controller")
	case s.DisruptionsAllowed == 0:
		if c := meta.FindStatusCondition(s.Conditions, policyv1.DisruptionAllowedCondition); c != nil && c.Status == metav1.ConditionFalse && c.Reason == policyv1.SyncFailedReason {
			return blocked(0, fmt.Sprintf("The disruption budget %s does not allow evicting pods currently because it failed sync: %v", b.Name, c.Message))
		}
		return blocked(0, fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", b.Name, s.DesiredHealthy, s.CurrentHealthy))
	}
	if s.DisruptionsAllowed--; s.DisruptionsAllowed == 0 {
		meta.SetStatusCondition(&s.Conditions, metav1.Condition{
			Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.InsufficientPodsReason,
			ObservedGeneration: s.ObservedGeneration, LastTransitionTime: now,
		})
	}
	if s.DisruptedPods == nil {
		s.DisruptedPods = map[string]metav1.Time{}
	}
	s.DisruptedPods[pod] = now
	return nil
}

// retrySoon is how many seconds a client waits for a budget that is being worked on.
const retrySoon = 10

// blocked is the 429 of an eviction, whose cause names the budget. Nobody knows when a spent budget has something left, so
// there is no Retry-After then.
func blocked(retryAfter int, cause string) error {
	e := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", retryAfter)
	e.ErrStatus.Details.Causes = append(e.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: cause})
	return e
}

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

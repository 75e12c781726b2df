// Package namespace empties namespaces that are being deleted, and lets them go.
//
// Reconcile is pure: from the namespace and a fresh survey of everything in it, of every kind that the server serves, it
// plans the next step: delete the pods; when they are gone, delete everything else (KEP-5080: a pod must not outlive the
// network policies and secrets it was made with); when nothing is left, remove the finalizer. The survey is read
// quorum-fresh after the namespace was marked, and the server admits nothing new into a marked namespace, so "nothing is left"
// stays true.
package namespace

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
)

const (
	// PageSize is how many objects of a kind one survey looks at, and so how many one step deletes: one batch of writes.
	PageSize = 500
	// waitForFinalizers is how soon to look again at a namespace in which everything has been deleted and waits for someone
	// else; pods are waited for by their events.
	waitForFinalizers = 5 * time.Second
)

// Content is what a survey found of one kind.
type Content struct {
	Kind plan.Kind
	// Objects are the first PageSize; More is set if there are others.
	Objects []*metav1.PartialObjectMetadata
	More    bool
	// Err is why the kind could not be surveyed.
	Err error
}

// Input is what a decision is made from.
type Input struct {
	Namespace *corev1.Namespace
	// DiscoveryErr is why it is not known which kinds there are; Contents is then empty.
	DiscoveryErr error
	Contents     []Content
	// DeleteErr is what the deletions of the step before failed with.
	DeleteErr error
}

// Reconcile plans the next step of a namespace's deletion.
func Reconcile(in Input, now time.Time) plan.Plan {
	var p plan.Plan
	ns := in.Namespace
	if ns.DeletionTimestamp == nil || len(ns.Spec.Finalizers) == 0 {
		return p
	}
	left, waiting := remaining(in)
	if in.DiscoveryErr == nil && len(left) == 0 && !failed(in) {
		finalize(&p, ns)
		return p
	}
	deletions(&p, left)
	switch {
	case !p.Empty():
		p.After = time.Nanosecond // Look what is left as soon as these are carried out.
	case waiting || in.DiscoveryErr != nil || failed(in):
		p.LookAgain(now, now.Add(waitForFinalizers))
	}
	status(&p, in, left, now)
	return p
}

// remaining returns the kinds of which something is left; waiting tells whether anything else than pods is.
func remaining(in Input) (left []Content, waiting bool) {
	for _, c := range in.Contents {
		if len(c.Objects) > 0 {
			left = append(left, c)
			waiting = waiting || c.Kind != plan.Pods || slices.ContainsFunc(c.Objects, func(m *metav1.PartialObjectMetadata) bool { return len(m.Finalizers) > 0 })
		}
	}
	return left, waiting
}

func failed(in Input) bool {
	return slices.ContainsFunc(in.Contents, func(c Content) bool { return c.Err != nil })
}

// deletions deletes the pods, or if there are none, everything else.
func deletions(p *plan.Plan, left []Content) {
	if i := slices.IndexFunc(left, func(c Content) bool { return c.Kind == plan.Pods }); i >= 0 {
		left = left[i : i+1]
	}
	for _, c := range left {
		for _, m := range c.Objects {
			if m.DeletionTimestamp == nil {
				w := plan.Delete(c.Kind, m)
				w.AnyVersion = true
				p.Add(w)
			}
		}
	}
}

// finalize removes this controller's finalizer; the server then removes the namespace.
func finalize(p *plan.Plan, ns *corev1.Namespace) {
	next := ns.DeepCopy()
	next.Spec.Finalizers = slices.DeleteFunc(next.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
	if len(next.Spec.Finalizers) == len(ns.Spec.Finalizers) {
		return // Others' finalizers; theirs to remove.
	}
	w := plan.Update(plan.Namespaces, next)
	w.Subresource = "finalize"
	p.Add(w)
}

func status(p *plan.Plan, in Input, left []Content, now time.Time) {
	next := in.Namespace.DeepCopy()
	next.Status.Phase = corev1.NamespaceTerminating
	for _, c := range conditions(in, left) {
		c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
		setCondition(&next.Status, c)
	}
	if !apiequality.Semantic.DeepEqual(next.Status, in.Namespace.Status) {
		p.Add(plan.UpdateStatus(plan.Namespaces, next))
	}
}

func setCondition(s *corev1.NamespaceStatus, c corev1.NamespaceCondition) {
	for i := range s.Conditions {
		if have := &s.Conditions[i]; have.Type == c.Type {
			if have.Status == c.Status {
				c.LastTransitionTime = have.LastTransitionTime
			}
			*have = c
			return
		}
	}
	s.Conditions = append(s.Conditions, c)
}

// conditions are upstream's five, in its words.
func conditions(in Input, left []Content) []corev1.NamespaceCondition {
	discovery := corev1.NamespaceCondition{Type: corev1.NamespaceDeletionDiscoveryFailure, Status: corev1.ConditionFalse, Reason: "ResourcesDiscovered", Message: "All resources successfully discovered"}
	if in.DiscoveryErr != nil {
		discovery.Status, discovery.Reason, discovery.Message = corev1.ConditionTrue, "DiscoveryFailed", "Discovery failed for some groups: "+in.DiscoveryErr.Error()
	}
	parsing := corev1.NamespaceCondition{Type: corev1.NamespaceDeletionGVParsingFailure, Status: corev1.ConditionFalse, Reason: "ParsedGroupVersions", Message: "All legacy kube types successfully parsed"}
	content := corev1.NamespaceCondition{Type: corev1.NamespaceDeletionContentFailure, Status: corev1.ConditionFalse, Reason: "ContentDeleted", Message: "All content successfully deleted, may be waiting on finalization"}
	if errs := contentErrors(in); len(errs) > 0 {
		content.Status, content.Reason = corev1.ConditionTrue, "ContentDeletionFailed"
		content.Message = fmt.Sprintf("Failed to delete all resource types, %d remaining: %s", len(errs), strings.Join(errs, ", "))
	}
	return []corev1.NamespaceCondition{discovery, parsing, content, remainingCondition(left), finalizersCondition(left)}
}

func contentErrors(in Input) []string {
	var errs []string
	for _, c := range in.Contents {
		if c.Err != nil {
			errs = append(errs, c.Err.Error())
		}
	}
	if in.DeleteErr != nil {
		errs = append(errs, in.DeleteErr.Error())
	}
	return errs
}

func remainingCondition(left []Content) corev1.NamespaceCondition {
	var parts []string
	for _, c := range left {
		more := ""
		if c.More {
			more = " at least"
		}
		parts = append(parts, fmt.Sprintf("%s.%s has%s %d resource instances", c.Kind.Resource, c.Kind.Group, more, len(c.Objects)))
	}
	slices.Sort(parts)
	if len(parts) == 0 {
		return corev1.NamespaceCondition{Type: corev1.NamespaceContentRemaining, Status: corev1.ConditionFalse, Reason: "ContentRemoved", Message: "All content successfully removed"}
	}
	return corev1.NamespaceCondition{Type: corev1.NamespaceContentRemaining, Status: corev1.ConditionTrue, Reason: "SomeResourcesRemain", Message: "Some resources are remaining: " + strings.Join(parts, ", ")}
}

func finalizersCondition(left []Content) corev1.NamespaceCondition {
	count := map[string]int{}
	for _, c := range left {
		for _, m := range c.Objects {
			for _, f := range m.Finalizers {
				count[f]++
			}
		}
	}
	var parts []string
	for _, f := range slices.Sorted(maps.Keys(count)) {
		parts = append(parts, fmt.Sprintf("%s in %d resource instances", f, count[f]))
	}
	if len(parts) == 0 {
		return corev1.NamespaceCondition{Type: corev1.NamespaceFinalizersRemaining, Status: corev1.ConditionFalse, Reason: "ContentHasNoFinalizers", Message: "All content-preserving finalizers finished"}
	}
	return corev1.NamespaceCondition{Type: corev1.NamespaceFinalizersRemaining, Status: corev1.ConditionTrue, Reason: "SomeFinalizersRemain", Message: "Some content in the namespace has finalizers remaining: " + strings.Join(parts, ", ")}
}

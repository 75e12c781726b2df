// Package podgc removes the pods that nobody else will: finished ones beyond a number, those whose node is gone, those that
// were deleted before they had a node, and those of nodes declared out of service.
//
// Reconcile is pure. A node must be missing for a while, and be missing in a quorum read, before its pods count as orphaned.
package podgc

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

const (
	// Quarantine is how long a node must be missing before its pods are orphans, as upstream: two periods.
	Quarantine = 40 * time.Second
	// Burst is the most pods removed in one step: one batch of writes.
	Burst = 500
)

// Input is what a decision is made from.
type Input struct {
	Pods []*corev1.Pod
	// Node returns a node, nil if there is none.
	Node func(name string) *corev1.Node
	// Missing are the nodes that quorum reads did not find, with the time since when they have been missing.
	Missing map[string]time.Time
	// Threshold is --terminated-pod-gc-threshold: how many finished pods may stay; 0 lets all stay.
	Threshold int
}

// Reconcile plans the pods to remove.
func Reconcile(in Input, now time.Time) plan.Plan {
	var p plan.Plan
	var finished []*corev1.Pod
	for _, pod := range in.Pods {
		switch reason, message := doomed(in, pod, now); {
		case reason != "":
			remove(&p, pod, reason, message, now)
		case pods.Finished(pod) && pod.DeletionTimestamp == nil:
			finished = append(finished, pod)
		}
	}
	if extra := len(finished) - in.Threshold; in.Threshold > 0 && extra > 0 {
		slices.SortFunc(finished, func(a, b *corev1.Pod) int {
			if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
				return c
			}
			return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
		})
		for _, pod := range finished[:extra] {
			p.Add(plan.DeleteNow(plan.Pods, pod))
		}
	}
	if len(p.Writes) > Burst {
		p.Writes = p.Writes[:Burst]
		p.After = time.Nanosecond
	}
	return p
}

// doomed says why a pod has nobody left who would finish it; an empty reason means it has.
func doomed(in Input, pod *corev1.Pod, now time.Time) (reason, message string) {
	if pod.Spec.NodeName == "" {
		if pod.DeletionTimestamp != nil {
			return "DeletionByPodGC", "PodGC: pod was deleted before it was scheduled"
		}
		return "", ""
	}
	node := in.Node(pod.Spec.NodeName)
	if node == nil {
		if since, ok := in.Missing[pod.Spec.NodeName]; ok && now.Sub(since) >= Quarantine {
			return "DeletionByPodGC", "PodGC: node no longer exists"
		}
		return "", ""
	}
	if pod.DeletionTimestamp != nil && !ready(node) && outOfService(node) {
		return "DeletionByPodGC", "PodGC: node is out of service"
	}
	return "", ""
}

func ready(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

func outOfService(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

// remove fails a pod that has not finished, with the reason in its conditions, and deletes it once that can be seen: whoever holds it by a
// finalizer, as its Job does, waits for that. A pod that never had a node was not disrupted.
func remove(p *plan.Plan, pod *corev1.Pod, reason, message string, now time.Time) {
	if pods.Finished(pod) {
		p.Add(plan.DeleteNow(plan.Pods, pod))
		return
	}
	next := pod.DeepCopy()
	next.Status.Phase = corev1.PodFailed
	if pod.Spec.NodeName != "" {
		next.Status.Conditions, _ = pods.SetCondition(pod.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now), Reason: reason, Message: message,
		})
	}
	p.Add(plan.UpdateStatus(plan.Pods, next))
}

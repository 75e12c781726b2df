package loop

import (
	"context"
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/scheduler/plan"
	"bareboat.dev/scheduler/queue"
)

// nomination is a node where pods are being deleted for a waiting pod.
type nomination struct {
	node    string
	victims []*corev1.Pod
}

// stillLeaving is what is said of a pod whose victims are not gone yet.
const stillLeaving = "not eligible due to a terminating pod on the nominated node."

// preempt makes room for a refused pod if less important pods can give it, and returns the node; it notes in why if not. While the
// victims of an earlier choice are still there the pod waits for them.
func (s *Scheduler) preempt(ctx context.Context, it *queue.Item, why *plan.Unschedulable) string {
	pod := it.Pod
	if nom, ok := s.nominated[pod.UID]; ok && s.present(nom.victims) {
		s.cluster.Nominate(pod, nom.node)
		why.Preemption = stillLeaving
		return nom.node
	}
	delete(s.nominated, pod.UID)
	if pod.Spec.Priority == nil || why.Nodes == 0 {
		return ""
	}
	s.cfg.Metrics.preemptions.Inc()
	p := s.cluster.Preempt(pod, s.budgetList())
	if p.Node == "" {
		why.Preemption = p.Why
		return ""
	}
	for _, d := range p.Displaced {
		s.cluster.Forget(d.UID)
		delete(s.nominated, d.UID)
		s.news.nodes[p.Node] = true
	}
	s.cluster.Nominate(pod, p.Node)
	s.nominated[pod.UID] = nomination{p.Node, p.Victims}
	s.cfg.Metrics.victims.Observe(float64(len(p.Victims)))
	s.evictions++
	go s.evict(ctx, pod, p)
	return p.Node
}

// present tells whether any of the pods is still there.
func (s *Scheduler) present(pods []*corev1.Pod) bool {
	for _, v := range pods {
		if current, ok := s.pods.Get(v.Namespace, v.Name); ok && current.UID == v.UID {
			return true
		}
	}
	return false
}

// evict deletes the victims, each with a condition that says why, and reports to the deciding goroutine.
func (s *Scheduler) evict(ctx context.Context, pod *corev1.Pod, p plan.Preemption) {
	ctx, cancel := context.WithTimeout(ctx, bindTimeout)
	defer cancel()
	now := metav1.NewTime(time.Now())
	var ops []client.Op
	for _, v := range p.Victims {
		ops = append(ops, client.PatchOp(client.Pods(), v.Namespace, v.Name, client.StrategicMergePatch, s.disruptionPatch(v, now), client.PatchOptions{Subresource: "status"}))
	}
	_, _ = s.cfg.Client.BatchOmit(ctx, ops...) // the condition is for information; the deletion counts
	ops = ops[:0]
	for _, v := range p.Victims {
		ops = append(ops, client.DeleteOp(client.Pods(), v.Namespace, v.Name, client.DeleteOptions{UID: string(v.UID)}))
	}
	results, _ := s.cfg.Client.BatchOmit(ctx, ops...) // each result has its error
	s.inbox <- func() {
		s.evictions--
		s.evicted(pod, p, results)
	}
}

// evicted takes over which deletions were made. If one failed the pod is decided on anew.
func (s *Scheduler) evicted(pod *corev1.Pod, p plan.Preemption, results []client.OpResult) {
	for i, v := range p.Victims {
		if err := results[i].Err; err != nil {
			s.cfg.Log.Warn("preemption failed", "pod", client.KeyOf(pod).String(), "victim", client.KeyOf(v).String(), "error", err)
			// The nomination stays, without anybody to wait for: wake goes by it, since with its victim still there the node fits no
			// better than before. A pod that was nominated elsewhere or bound meanwhile is left alone.
			if nom, ok := s.nominated[pod.UID]; ok && nom.node == p.Node {
				s.nominated[pod.UID] = nomination{node: p.Node}
				s.news.nodes[p.Node] = true
			}
			continue
		}
		s.cfg.Log.Info("pod preempted", "pod", client.KeyOf(v).String(), "node", p.Node, "for", client.KeyOf(pod).String())
		s.cfg.Events.Event(v, corev1.EventTypeNormal, "Preempted", "Preempted by pod %s on node %s", pod.UID, p.Node)
	}
	if len(p.Victims) == 0 {
		s.news.nodes[p.Node] = true // only kept room was needed, and it is free now
	}
}

// disruptionPatch sets DisruptionTarget (KEP-3329) on the very pod that was chosen.
func (s *Scheduler) disruptionPatch(victim *corev1.Pod, now metav1.Time) []byte {
	type object = map[string]any
	data, err := json.Marshal(object{
		"metadata": object{"uid": victim.UID},
		"status": object{"conditions": []object{{
			"type": corev1.DisruptionTarget, "status": corev1.ConditionTrue, "reason": corev1.PodReasonPreemptionByScheduler,
			"message": s.cfg.Name + ": preempting to accommodate a higher priority pod", "lastTransitionTime": now,
		}}},
	})
	if err != nil { // plain values always encode
		panic(err)
	}
	return data
}

package loop

import (
	"context"
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/client"
)

// reportBatch is how many pods' conditions are written in one request.
const reportBatch = 500

// reports are PodScheduled=False conditions to be written: the newest per pod, so that their number is bounded by that of the
// waiting pods.
type reports struct {
	waiting  map[types.UID]report
	underWay bool
}

// report is one pod's condition.
type report struct {
	pod     *corev1.Pod
	message string
	// nominated is the node where room is being made.
	nominated string
}

func newReports() reports { return reports{waiting: map[types.UID]report{}} }

// add notes a condition, unless the pod has it already.
func (r *reports) add(pod *corev1.Pod, message, nominated string) {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable && c.Message == message &&
			c.ObservedGeneration == pod.Generation && pod.Status.NominatedNodeName == nominated {
			return
		}
	}
	r.waiting[pod.UID] = report{pod, message, nominated}
}

func (r *reports) drop(uid types.UID) { delete(r.waiting, uid) }

// sendReports writes conditions, one request at a time. A failed write is not repeated: the next attempt at the pod reports anew.
func (s *Scheduler) sendReports(ctx context.Context) {
	if s.reports.underWay || len(s.reports.waiting) == 0 {
		return
	}
	var ops []client.Op
	now := metav1.NewTime(time.Now())
	for uid, r := range s.reports.waiting {
		if len(ops) == reportBatch {
			break
		}
		delete(s.reports.waiting, uid)
		ops = append(ops, client.PatchOp(client.Pods(), r.pod.Namespace, r.pod.Name, client.StrategicMergePatch, conditionPatch(r, now), client.PatchOptions{Subresource: "status"}))
	}
	s.reports.underWay = true
	go func() {
		ctx, cancel := context.WithTimeout(ctx, bindTimeout)
		defer cancel()
		_, err := s.cfg.Client.BatchOmit(ctx, ops...)
		s.inbox <- func() {
			s.reports.underWay = false
			if err != nil && ctx.Err() == nil {
				s.cfg.Log.Warn("pod conditions not written", "count", len(ops), "error", err)
			}
		}
	}()
}

// conditionPatch sets PodScheduled to False and the nominated node, on the very pod that was decided on.
func conditionPatch(r report, now metav1.Time) []byte {
	transition := now
	for _, c := range r.pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && !c.LastTransitionTime.IsZero() {
			transition = c.LastTransitionTime
		}
	}
	type object = map[string]any
	data, err := json.Marshal(object{
		"metadata": object{"uid": r.pod.UID},
		"status": object{"nominatedNodeName": r.nominated, "conditions": []object{{
			"type": corev1.PodScheduled, "status": corev1.ConditionFalse, "reason": corev1.PodReasonUnschedulable,
			"message": r.message, "lastTransitionTime": transition, "observedGeneration": r.pod.Generation,
		}}},
	})
	if err != nil { // plain values always encode
		panic(err)
	}
	return data
}

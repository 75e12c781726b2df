// Package ttlafterfinished deletes finished Jobs when spec.ttlSecondsAfterFinished is over.
package ttlafterfinished

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/job"
	"bareboat.dev/controllermanager/plan"
)

// Reconcile plans a Job's deletion, or when to look again. The deletion is conditional on the Job as it was seen, so one whose
// time was just extended stays.
func Reconcile(j *batchv1.Job, now time.Time) plan.Plan {
	var p plan.Plan
	done := job.Finished(j)
	if done == nil || j.Spec.TTLSecondsAfterFinished == nil || j.DeletionTimestamp != nil {
		return p
	}
	at := done.LastTransitionTime.Add(time.Duration(*j.Spec.TTLSecondsAfterFinished) * time.Second)
	if at.After(now) {
		p.LookAgain(now, at)
		return p
	}
	w := plan.Delete(plan.Jobs, j)
	w.Propagation = client.PropagateForeground
	p.Add(w)
	return p
}

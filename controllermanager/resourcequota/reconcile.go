package resourcequota

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"bareboat.dev/controllermanager/plan"
)

// recount is how often a quota is counted anew whatever happens, as upstream.
const recount = 5 * time.Minute

// Reconcile plans a quota's status.
func Reconcile(q *corev1.ResourceQuota, c Contents, now time.Time) plan.Plan {
	var p plan.Plan
	if q.DeletionTimestamp != nil {
		return p
	}
	p.After = recount
	want := corev1.ResourceQuotaStatus{Hard: q.Spec.Hard, Used: Usage(q, c, now)}
	if apiequality.Semantic.DeepEqual(want, q.Status) {
		return p
	}
	next := q.DeepCopy()
	next.Status = want
	p.Add(plan.UpdateStatus(plan.ResourceQuotas, next))
	return p
}

// Package plan is the vocabulary in which a controller's pure core says what should happen: a Plan is a set of
// independent conditional writes, the events that tell users about them, and the time at which to look again.
//
// The contract between a core and the engine that carries its plans out:
//
//   - The writes of one plan are independent. They go out in one batch, in no promised order, and any of them may fail or
//     be lost alone; what must follow a write belongs into the plan that is made once the write can be seen.
//   - At most one write touches any one object, and each carries the uid and resource version of the view it was decided
//     from (a creation carries a name that the same view would choose again), so that a stale view can only fail.
//   - A plan for a view that is as it should be is empty. Cores never write what is already there.
//
// A core that keeps these rules converges from any prefix of any of its plans; plantest checks exactly that.
//
//	p := plan.Plan{}
//	p.Add(plan.Create(plan.Pods, pod))
//	p.Event(rs, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", pod.Name)
//	p.LookAgain(now, deadline)
package plan

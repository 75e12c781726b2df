package job

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/controllermanager/pods"
)

// verdict is what the Job's podFailurePolicy says of a failed pod (KEP-3329).
type verdict struct {
	action  batchv1.PodFailurePolicyAction
	message string
}

// failurePolicy returns the first rule that matches a failed pod, nil if none does.
func (s *step) failurePolicy(p *corev1.Pod) *verdict {
	if s.Job.Spec.PodFailurePolicy == nil || p.Status.Phase != corev1.PodFailed {
		return nil
	}
	for i, rule := range s.Job.Spec.PodFailurePolicy.Rules {
		if rule.OnExitCodes != nil {
			if c := matchExit(p, rule.OnExitCodes); c != nil {
				return &verdict{rule.Action, fmt.Sprintf("Container %s for pod %s/%s failed with exit code %d matching %s rule at index %d",
					c.Name, p.Namespace, p.Name, c.State.Terminated.ExitCode, rule.Action, i)}
			}
			continue
		}
		for _, pattern := range rule.OnPodConditions {
			c := pods.Condition(p, pattern.Type)
			if want := pattern.Status; c != nil && (c.Status == want || want == "" && c.Status == corev1.ConditionTrue) {
				return &verdict{rule.Action, fmt.Sprintf("Pod %s/%s has condition %v matching %v rule at index %d", p.Namespace, p.Name, pattern.Type, rule.Action, i)}
			}
		}
	}
	return nil
}

func matchExit(p *corev1.Pod, want *batchv1.PodFailurePolicyOnExitCodesRequirement) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			c := &list[i]
			if c.State.Terminated == nil || c.State.Terminated.ExitCode == 0 || want.ContainerName != nil && *want.ContainerName != c.Name {
				continue
			}
			in := slices.Contains(want.Values, c.State.Terminated.ExitCode)
			if in == (want.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
				return c
			}
		}
	}
	return nil
}

// ignored reports whether a failure does not count.
func (s *step) ignored(p *corev1.Pod) bool {
	v := s.failurePolicy(p)
	return v != nil && v.action == batchv1.PodFailurePolicyActionIgnore
}

// judge decides whether the Job as a whole has failed or succeeded. Both are announced first (FailureTarget,
// SuccessCriteriaMet) and become final when the pods have ended.
func (s *step) judge() {
	if condition(&s.status, batchv1.JobFailureTarget) != nil || condition(&s.status, batchv1.JobSuccessCriteriaMet) != nil {
		return
	}
	if reason, message := s.failureReason(); reason != "" {
		s.set(batchv1.JobFailureTarget, corev1.ConditionTrue, reason, message)
		return
	}
	if met, reason, message := s.successReason(); met {
		s.set(batchv1.JobSuccessCriteriaMet, corev1.ConditionTrue, reason, message)
	}
}

func (s *step) failureReason() (reason, message string) {
	for _, p := range s.pods {
		if v := s.failurePolicy(p); v != nil && v.action == batchv1.PodFailurePolicyActionFailJob && tracked(p) {
			return batchv1.JobReasonPodFailurePolicy, v.message
		}
	}
	spec := &s.Job.Spec
	if spec.BackoffLimit != nil && s.failures() > *spec.BackoffLimit || s.restartedTooOften() {
		return batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit"
	}
	if spec.ActiveDeadlineSeconds != nil && s.status.StartTime != nil && !s.suspended() {
		at := s.status.StartTime.Add(seconds(*spec.ActiveDeadlineSeconds))
		if !s.now.Before(at) {
			return batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline"
		}
		s.plan.LookAgain(s.now, at)
	}
	if !s.indexed() || spec.BackoffLimitPerIndex == nil {
		return "", ""
	}
	switch lost := s.failed.total(); {
	case spec.MaxFailedIndexes != nil && lost > int(*spec.MaxFailedIndexes):
		return batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes"
	case lost > 0 && lost+s.completed.total() >= int(*spec.Completions):
		return batchv1.JobReasonFailedIndexes, "Job has failed indexes"
	}
	return "", ""
}

// restartedTooOften applies the limit to the restarts of containers, where pods restart them themselves.
func (s *step) restartedTooOften() bool {
	if s.Job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure || s.Job.Spec.BackoffLimit == nil {
		return false
	}
	total := int32(0)
	for _, p := range s.active() {
		for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
			for _, c := range list {
				total += c.RestartCount
			}
		}
	}
	if *s.Job.Spec.BackoffLimit == 0 {
		return total > 0
	}
	return total >= *s.Job.Spec.BackoffLimit
}

func (s *step) successReason() (met bool, reason, message string) {
	if rule := s.successPolicy(); rule >= 0 {
		return true, batchv1.JobReasonSuccessPolicy, fmt.Sprintf("Matched rules at index %d", rule)
	}
	done := false
	if s.Job.Spec.Completions == nil {
		done = s.succeeded() > 0 && len(s.active()) == 0
	} else {
		done = s.succeeded() >= *s.Job.Spec.Completions
	}
	return done, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods"
}

// successPolicy returns the first rule that is met (KEP-3998), -1 if none is.
func (s *step) successPolicy() int {
	if s.Job.Spec.SuccessPolicy == nil || !s.indexed() {
		return -1
	}
	for i, rule := range s.Job.Spec.SuccessPolicy.Rules {
		want := rule.SucceededCount
		n := int32(s.completed.total())
		if rule.SucceededIndexes != nil {
			of := parseIndexes(*rule.SucceededIndexes)
			n = 0
			for _, iv := range of {
				for x := iv.first; x <= iv.last; x++ {
					if s.completed.has(x) {
						n++
					}
				}
			}
			if want == nil {
				all := int32(of.total())
				want = &all
			}
		}
		if want != nil && n >= *want {
			return i
		}
	}
	return -1
}

package job

import (
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

// create makes n pods; of an Indexed Job, for the lowest indexes that have none.
func (s *step) create(n int, active []*corev1.Pod) {
	if !s.indexed() {
		names := owner.NewNames(s.Job.Name+"-", s.Job.UID, "", s.Taken)
		for range n {
			s.add(s.newPod(names.Next(), -1))
		}
		return
	}
	busy := map[int]bool{}
	for _, p := range active {
		busy[indexOf(p)] = true
	}
	if s.replacesOnlyFailed() {
		for _, p := range s.pods {
			if !pods.Finished(p) {
				busy[indexOf(p)] = true
			}
		}
	}
	for i := 0; i < int(*s.Job.Spec.Completions) && n > 0; i++ {
		if busy[i] || s.completed.has(i) || s.failed.has(i) {
			continue
		}
		if at := s.indexRetryAt(i); s.perIndex() && at.After(s.now) {
			s.plan.LookAgain(s.now, at)
			continue
		}
		base := s.Job.Name + "-" + strconv.Itoa(i)
		s.add(s.newPod(owner.NewNames(base+"-", s.Job.UID, strconv.Itoa(i), s.Taken).Next(), i))
		n--
	}
}

func (s *step) add(pod *corev1.Pod) {
	s.plan.Add(plan.Create(plan.Pods, pod))
	s.plan.EventOf(pod, s.Job, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", pod.Name)
}

func (s *step) newPod(name string, index int) *corev1.Pod {
	pod := pods.FromTemplate(&s.Job.Spec.Template, plan.Jobs, s.Job, name)
	pod.GenerateName = s.Job.Name + "-"
	pod.Finalizers = append(pod.Finalizers, batchv1.JobTrackingFinalizer)
	if index < 0 {
		return pod
	}
	value := strconv.Itoa(index)
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.GenerateName = s.Job.Name + "-" + value + "-"
	pod.Annotations[batchv1.JobCompletionIndexAnnotation] = value
	pod.Labels[batchv1.JobCompletionIndexAnnotation] = value
	pod.Spec.Hostname = s.Job.Name + "-" + value
	if s.Job.Spec.BackoffLimitPerIndex != nil {
		pod.Annotations[batchv1.JobIndexFailureCountAnnotation] = strconv.Itoa(s.failuresOf(index))
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			tellIndex(&list[i])
		}
	}
	return pod
}

// tellIndex puts the completion index into a container's environment.
func tellIndex(c *corev1.Container) {
	const name = "JOB_COMPLETION_INDEX"
	if slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == name }) {
		return
	}
	c.Env = append(c.Env, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{
		FieldPath: "metadata.labels['" + batchv1.JobCompletionIndexAnnotation + "']",
	}}})
}

// failuresOf is how often an index failed: what its last pod says of those before it, and that pod.
func (s *step) failuresOf(index int) int {
	most := 0
	for _, p := range s.pods {
		if indexOf(p) == index && s.endedBadly(p) && !s.ignored(p) {
			most = max(most, failuresBefore(p)+1)
		}
	}
	return most
}

func failuresBefore(p *corev1.Pod) int {
	n, err := strconv.Atoi(p.Annotations[batchv1.JobIndexFailureCountAnnotation])
	if err != nil {
		return 0
	}
	return n
}

// indexIsLost reports whether a failed pod was its index's last chance.
func (s *step) indexIsLost(p *corev1.Pod) bool {
	if v := s.failurePolicy(p); v != nil && v.action == batchv1.PodFailurePolicyActionFailIndex {
		return true
	}
	return failuresBefore(p) >= int(*s.Job.Spec.BackoffLimitPerIndex)
}

package core

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/registry"
)

// podSummary is what `get pods` says of a pod in three words.
type podSummary struct{ ready, status, restarts string }

func summarize(p *corev1.Pod, now time.Time) podSummary {
	s := podTally{pod: p, status: string(p.Status.Phase), total: len(p.Spec.Containers)}
	if p.Status.Reason != "" {
		s.status = p.Status.Reason
	}
	if slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated
	}) {
		s.status = corev1.PodReasonSchedulingGated
	}
	initializing := s.countInit()
	if !initializing || hasCondition(p, corev1.PodInitialized) {
		s.countRegular()
	}
	if p.DeletionTimestamp != nil {
		switch {
		case p.Status.Reason == "NodeLost":
			s.status = "Unknown"
		case p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded:
			s.status = "Terminating"
		}
	}
	restarts := fmt.Sprint(s.restarts)
	if s.restarts != 0 && !s.lastRestart.IsZero() {
		restarts = fmt.Sprintf("%d (%s ago)", s.restarts, registry.Age(s.lastRestart, now))
	}
	return podSummary{ready: fmt.Sprintf("%d/%d", s.ready, s.total), status: s.status, restarts: restarts}
}

type podTally struct {
	pod          *corev1.Pod
	status       string
	total, ready int
	restarts     int32
	lastRestart  metav1.Time
	// What sidecars have added, which counts also once the regular containers run.
	sidecarRestarts    int32
	lastSidecarRestart metav1.Time
}

func (s *podTally) sidecar(name string) bool {
	return slices.ContainsFunc(s.pod.Spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == name && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	})
}

// countInit goes through the init containers up to the first that is not done, whose state becomes the pod's.
func (s *podTally) countInit() (initializing bool) {
	for _, c := range s.pod.Spec.InitContainers {
		if s.sidecar(c.Name) {
			s.total++
		}
	}
	for i := range s.pod.Status.InitContainerStatuses {
		c := &s.pod.Status.InitContainerStatuses[i]
		sidecar := s.sidecar(c.Name)
		s.restarts += c.RestartCount
		s.lastRestart = later(s.lastRestart, c.LastTerminationState.Terminated)
		if sidecar {
			s.sidecarRestarts += c.RestartCount
			s.lastSidecarRestart = later(s.lastSidecarRestart, c.LastTerminationState.Terminated)
		}
		switch t := c.State.Terminated; {
		case t != nil && t.ExitCode == 0:
			continue
		case sidecar && c.Started != nil && *c.Started:
			if c.Ready {
				s.ready++
			}
			continue
		case t != nil:
			s.status = "Init:" + endOf(t)
		case c.State.Waiting != nil && c.State.Waiting.Reason != "" && c.State.Waiting.Reason != "PodInitializing":
			s.status = "Init:" + c.State.Waiting.Reason
		default:
			s.status = fmt.Sprintf("Init:%d/%d", i, len(s.pod.Spec.InitContainers))
		}
		return true
	}
	return false
}

func (s *podTally) countRegular() {
	s.restarts, s.lastRestart = s.sidecarRestarts, s.lastSidecarRestart
	running := false
	for _, c := range slices.Backward(s.pod.Status.ContainerStatuses) {
		s.restarts += c.RestartCount
		s.lastRestart = later(s.lastRestart, c.LastTerminationState.Terminated)
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			s.status = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			s.status = endOf(c.State.Terminated)
		case c.Ready && c.State.Running != nil:
			running = true
			s.ready++
		}
	}
	if s.status == "Completed" && running {
		s.status = "NotReady"
		if hasCondition(s.pod, corev1.PodReady) {
			s.status = "Running"
		}
	}
}

func endOf(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}

func later(t metav1.Time, end *corev1.ContainerStateTerminated) metav1.Time {
	if end != nil && t.Before(&end.FinishedAt) {
		return end.FinishedAt
	}
	return t
}

package agent

import (
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client/events"
	"bareboat.dev/kubelet/pod"
)

// event records an event about a pod, or about one of its containers if one is named.
func (a *Agent) event(p *corev1.Pod, kind, reason, container, format string, args ...any) {
	ref := events.Reference(p)
	if container != "" {
		ref.FieldPath = fieldPath(p, container)
	}
	a.Events.EventRef(ref, kind, reason, format, args...)
}

// announce records the events that a step asks for, and those that follow from a change of status.
func (a *Agent) announce(p *corev1.Pod, list []pod.Event, before, after *corev1.PodStatus) {
	for _, e := range list {
		a.event(p, e.Type, e.Reason, e.Container, "%s", e.Message)
	}
	if before == nil {
		return
	}
	for _, pair := range [][2][]corev1.ContainerStatus{
		{before.InitContainerStatuses, after.InitContainerStatuses}, {before.ContainerStatuses, after.ContainerStatuses},
		{before.EphemeralContainerStatuses, after.EphemeralContainerStatuses},
	} {
		for i := range pair[1] {
			a.announceWaiting(p, waitingReason(pair[0], pair[1][i].Name), &pair[1][i])
		}
	}
}

// announceWaiting records that a container has begun to be held back from a pull.
func (a *Agent) announceWaiting(p *corev1.Pod, before string, s *corev1.ContainerStatus) {
	if s.State.Waiting == nil || s.State.Waiting.Reason == before {
		return
	}
	switch s.State.Waiting.Reason {
	case "ImagePullBackOff":
		a.event(p, corev1.EventTypeNormal, "BackOff", s.Name, "Back-off pulling image %q", s.Image)
		a.event(p, corev1.EventTypeWarning, "Failed", s.Name, "Error: ImagePullBackOff")
	}
}

func waitingReason(all []corev1.ContainerStatus, name string) string {
	for i := range all {
		if all[i].Name == name && all[i].State.Waiting != nil {
			return all[i].State.Waiting.Reason
		}
	}
	return ""
}

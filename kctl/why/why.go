// Package why explains in a few lines why something does not run: a pod that is pending or crashing, a workload that is not
// available, a service without endpoints. It is pure: what it is given is what the API said.
package why

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Finding is one line of an explanation.
type Finding struct {
	// Subject is what the line is about, e.g. "container web".
	Subject string
	// Text says what is the matter, Hint what to do; the hint may be empty.
	Text, Hint string
}

// Pod explains why a pod is not ready; no findings mean that it is. Events are those about the pod, oldest first.
func Pod(pod *corev1.Pod, events []*corev1.Event) []Finding {
	var out []Finding
	if pod.DeletionTimestamp != nil {
		out = append(out, Finding{"pod", "is being deleted" + finalizers(pod.Finalizers), ""})
	}
	switch {
	case pod.Status.Phase == corev1.PodSucceeded:
		return out
	case pod.Status.Reason != "":
		out = append(out, Finding{"pod", pod.Status.Reason + ": " + pod.Status.Message, ""})
	case pod.Spec.NodeName == "":
		return append(out, unscheduled(pod, events))
	}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, c := range list {
			if f, bad := container(pod, c); bad {
				out = append(out, f)
			}
		}
	}
	if len(out) == 0 && !condition(pod, corev1.PodReady) {
		out = append(out, unready(pod)...)
	}
	return append(out, warnings(pod, events)...)
}

func finalizers(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return ", held by " + strings.Join(list, ", ")
}

func unscheduled(pod *corev1.Pod, events []*corev1.Event) Finding {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return Finding{"scheduler", c.Reason + ": " + c.Message, ""}
		}
	}
	for i := len(events) - 1; i >= 0; i-- {
		if events[i].Reason == "FailedScheduling" {
			return Finding{"scheduler", events[i].Message, ""}
		}
	}
	name := pod.Spec.SchedulerName
	return Finding{"scheduler", fmt.Sprintf("%q has not looked at the pod yet", name), "is a scheduler of that name running?"}
}

// hints are what usually helps with a reason.
func hint(reason string, pod *corev1.Pod, container string) string {
	switch reason {
	case "CrashLoopBackOff", "Error", "Completed":
		return fmt.Sprintf("kctl logs %s -c %s --previous -n %s", pod.Name, container, pod.Namespace)
	case "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull":
		return "check the image's name and pull secret, or load it: kctl image load FILE"
	case "OOMKilled":
		return "raise the container's memory limit, or make it use less"
	case "CreateContainerConfigError":
		return "create the config map or secret that the message names"
	case "InvalidImageName":
		return "correct spec.containers[].image"
	}
	return ""
}

func container(pod *corev1.Pod, c corev1.ContainerStatus) (Finding, bool) {
	subject := "container " + c.Name
	switch {
	case c.State.Waiting != nil:
		w := c.State.Waiting
		if w.Reason == "PodInitializing" {
			return Finding{}, false
		}
		text := w.Reason
		if w.Message != "" {
			text += ": " + w.Message
		}
		h := hint(w.Reason, pod, c.Name)
		if t := c.LastTerminationState.Terminated; t != nil {
			text += fmt.Sprintf("; it last ended with %s, exit code %d", t.Reason, t.ExitCode)
			if t.Reason == "OOMKilled" {
				h = hint(t.Reason, pod, c.Name)
			}
		}
		return Finding{subject, text, h}, true
	case c.State.Terminated != nil && c.State.Terminated.ExitCode != 0:
		t := c.State.Terminated
		return Finding{subject, fmt.Sprintf("ended with %s, exit code %d", t.Reason, t.ExitCode), hint(t.Reason, pod, c.Name)}, true
	case c.State.Running != nil && c.Started != nil && !*c.Started:
		return Finding{subject, "its startup probe has not succeeded yet", ""}, true
	case c.State.Running != nil && !c.Ready:
		return Finding{subject, "is running, but its readiness probe does not succeed", ""}, true
	}
	return Finding{}, false
}

func condition(pod *corev1.Pod, t corev1.PodConditionType) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == t {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func unready(pod *corev1.Pod) []Finding {
	var out []Finding
	for _, c := range pod.Status.Conditions {
		if c.Status != corev1.ConditionTrue && c.Message != "" {
			out = append(out, Finding{"condition " + string(c.Type), c.Reason + ": " + c.Message, ""})
		}
	}
	if len(out) == 0 {
		out = append(out, Finding{"kubelet", fmt.Sprintf("node %s has not reported the pod's containers yet", pod.Spec.NodeName), "kctl get node " + pod.Spec.NodeName})
	}
	return out
}

// maxWarnings keeps the explanation to what is recent.
const maxWarnings = 3

// warnings are the newest warning events, once each.
func warnings(pod *corev1.Pod, events []*corev1.Event) []Finding {
	var out []Finding
	seen := map[string]bool{}
	if condition(pod, corev1.PodReady) {
		return nil
	}
	for i := len(events) - 1; i >= 0 && len(out) < maxWarnings; i-- {
		e := events[i]
		if e.Type != corev1.EventTypeWarning || seen[e.Message] {
			continue
		}
		seen[e.Message] = true
		out = append(out, Finding{"event " + e.Reason, strings.TrimSpace(e.Message), ""})
	}
	return out
}

// Service explains why a service has no ready endpoints; pods are those that its selector selects.
func Service(svc *corev1.Service, ready int, pods []*corev1.Pod) []Finding {
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		return nil
	case ready > 0:
		return nil
	case len(svc.Spec.Selector) == 0:
		return []Finding{{"service", "has no selector, and nobody has written an EndpointSlice for it", "set spec.selector"}}
	case len(pods) == 0:
		return []Finding{{"service", "its selector matches no pod", "compare spec.selector with: kctl get pods --show-labels -n " + svc.Namespace}}
	}
	return []Finding{{"service", fmt.Sprintf("its selector matches %d pods, none of which is ready", len(pods)), ""}}
}

// Package why explains in a few lines why something does not run: a pod that is pending or crashing, a workload that is not
// available, a service without endpoints. It is pure: what it is given is what the API said.
package why

import (
	"fmt"
	"slices"
	"strings"
	"syscall"

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
	case pod.Status.Reason != "" && pod.Status.Phase == corev1.PodFailed:
		out = append(out, Finding{"pod", pod.Status.Reason + ": " + pod.Status.Message, ""})
	case pod.Spec.NodeName == "":
		return append(out, unscheduled(pod, events))
	}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, c := range list {
			if f, bad := container(pod, c, events); bad {
				out = append(out, f)
			}
		}
	}
	if len(out) == 0 && !condition(pod, corev1.PodReady) {
		out = append(out, unready(pod)...)
	}
	return append(out, warnings(pod, events, out)...)
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

func container(pod *corev1.Pod, c corev1.ContainerStatus, events []*corev1.Event) (Finding, bool) {
	subject := "container " + c.Name
	switch {
	case c.State.Waiting != nil:
		return waiting(subject, pod, c)
	case c.State.Terminated != nil && c.State.Terminated.ExitCode != 0:
		t := c.State.Terminated
		return Finding{subject, Ending(pod, c.Name, t), endingHint(t, pod, c.Name)}, true
	case c.State.Running != nil && c.Started != nil && !*c.Started:
		return Finding{subject, "its startup probe has not succeeded yet" + probeFailure(events, c.Name, "Startup"), ""}, true
	case c.State.Running != nil && !c.Ready:
		f := Finding{subject, "is running, but its readiness probe does not succeed" + probeFailure(events, c.Name, "Readiness"), ""}
		if t := c.LastTerminationState.Terminated; t != nil && c.RestartCount > 0 {
			f.Text += fmt.Sprintf("; it has been restarted %d times, it last %s", c.RestartCount, Ending(pod, c.Name, t))
		}
		return f, true
	}
	return Finding{}, false
}

func waiting(subject string, pod *corev1.Pod, c corev1.ContainerStatus) (Finding, bool) {
	w := c.State.Waiting
	if w.Reason == "PodInitializing" {
		return Finding{}, false
	}
	f := Finding{subject, w.Reason, hint(w.Reason, pod, c.Name)}
	if w.Message != "" {
		f.Text += ": " + w.Message
	}
	if t := c.LastTerminationState.Terminated; t != nil {
		f.Text += "; it last " + Ending(pod, c.Name, t)
		f.Hint = endingHint(t, pod, c.Name)
	}
	return f, true
}

// Ending says in words how a container ended.
func Ending(pod *corev1.Pod, name string, t *corev1.ContainerStateTerminated) string {
	text := fmt.Sprintf("ended with %s, exit code %d", t.Reason, t.ExitCode)
	switch {
	case t.Reason == "OOMKilled":
		text = "was killed (OOMKilled)"
		if limit := memoryLimit(pod, name); limit != "" {
			text += " for needing more memory than its limit of " + limit
		}
	case t.ExitCode == 126:
		text += " (its command cannot be executed)"
	case t.ExitCode == 127:
		text += " (its command was not found)"
	case t.ExitCode > 128 && t.ExitCode <= 128+64:
		text += fmt.Sprintf(" (signal %d, %s)", t.ExitCode-128, syscall.Signal(t.ExitCode-128))
	}
	if t.Message != "" {
		text += ": " + strings.TrimSpace(t.Message)
	}
	return text
}

func memoryLimit(pod *corev1.Pod, name string) string {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range list {
			if q, ok := c.Resources.Limits[corev1.ResourceMemory]; ok && c.Name == name {
				return q.String()
			}
		}
	}
	return ""
}

func endingHint(t *corev1.ContainerStateTerminated, pod *corev1.Pod, name string) string {
	switch {
	case t.Reason == "OOMKilled":
		return hint(t.Reason, pod, name)
	case t.ExitCode == 126 || t.ExitCode == 127 || t.Reason == "StartError":
		return "check command and args, and that the image has the program"
	}
	return hint("Error", pod, name)
}

// probeFailure is what the newest failure of a container's probe said.
func probeFailure(events []*corev1.Event, container, probe string) string {
	for i := len(events) - 1; i >= 0; i-- {
		e := events[i]
		if e.Reason == "Unhealthy" && strings.HasPrefix(e.Message, probe) && (e.InvolvedObject.FieldPath == "" || strings.Contains(e.InvolvedObject.FieldPath, "{"+container+"}")) {
			_, text, _ := strings.Cut(e.Message, ": ")
			return ": " + strings.TrimSpace(text)
		}
	}
	return ""
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

// warnings are the newest warning events, once each, that tell what the findings do not.
func warnings(pod *corev1.Pod, events []*corev1.Event, told []Finding) []Finding {
	var out []Finding
	if condition(pod, corev1.PodReady) {
		return nil
	}
	known := func(message string) bool {
		_, detail, _ := strings.Cut(message, ": ")
		return slices.ContainsFunc(append(told, out...), func(f Finding) bool {
			return strings.Contains(f.Text, message) || detail != "" && strings.Contains(f.Text, strings.TrimSpace(detail))
		})
	}
	for i := len(events) - 1; i >= 0 && len(out) < maxWarnings; i-- {
		e := events[i]
		if message := strings.TrimSpace(e.Message); e.Type == corev1.EventTypeWarning && e.Reason != "BackOff" && !known(message) {
			out = append(out, Finding{"event " + e.Reason, message, ""})
		}
	}
	return out
}

package describe

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func (p *printer) pod(pod *corev1.Pod, _ Related) {
	p.line(0, "Service Account", "%s", orNone(pod.Spec.ServiceAccountName))
	node := orNone(pod.Spec.NodeName)
	if pod.Status.HostIP != "" {
		node += "/" + pod.Status.HostIP
	}
	p.line(0, "Node", "%s", node)
	if pod.Status.StartTime != nil {
		p.line(0, "Start Time", "%s", pod.Status.StartTime.UTC().Format(time.RFC3339))
	}
	p.line(0, "Status", "%s", pod.Status.Phase)
	if pod.Status.Reason != "" {
		p.line(0, "Reason", "%s", pod.Status.Reason)
	}
	if pod.Status.Message != "" {
		p.line(0, "Message", "%s", pod.Status.Message)
	}
	p.line(0, "IP", "%s", orNone(pod.Status.PodIP))
	p.line(0, "QoS Class", "%s", pod.Status.QOSClass)
	if len(pod.Spec.InitContainers) > 0 {
		p.containers("Init Containers", pod.Spec.InitContainers, pod.Status.InitContainerStatuses)
	}
	p.containers("Containers", pod.Spec.Containers, pod.Status.ContainerStatuses)
	var rows [][]string
	for _, c := range pod.Status.Conditions {
		rows = append(rows, []string{string(c.Type), string(c.Status), c.Reason, c.Message})
	}
	p.table("Conditions", []string{"Type", "Status", "Reason", "Message"}, rows)
	p.volumes(0, pod.Spec.Volumes)
	if len(pod.Spec.NodeSelector) > 0 {
		p.pairs(0, "Node-Selectors", pod.Spec.NodeSelector)
	}
	p.line(0, "Tolerations", "%s", tolerations(pod.Spec.Tolerations))
}

func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}

func (p *printer) containers(title string, specs []corev1.Container, statuses []corev1.ContainerStatus) {
	p.line(0, title, "")
	for _, c := range specs {
		p.line(1, c.Name, "")
		p.line(2, "Image", "%s", c.Image)
		for _, st := range statuses {
			if st.Name == c.Name {
				p.containerStatus(st)
			}
		}
		p.containerSpec(2, c)
	}
}

func (p *printer) containerStatus(st corev1.ContainerStatus) {
	if st.ContainerID != "" {
		p.line(2, "Container ID", "%s", st.ContainerID)
	}
	if st.ImageID != "" {
		p.line(2, "Image ID", "%s", st.ImageID)
	}
	p.state("State", st.State)
	if st.LastTerminationState.Terminated != nil {
		p.state("Last State", st.LastTerminationState)
	}
	p.line(2, "Ready", "%t", st.Ready)
	p.line(2, "Restart Count", "%d", st.RestartCount)
}

func (p *printer) state(key string, s corev1.ContainerState) {
	switch {
	case s.Running != nil:
		p.line(2, key, "Running since %s", s.Running.StartedAt.UTC().Format(time.RFC3339))
	case s.Terminated != nil:
		t := s.Terminated
		p.line(2, key, "Terminated: %s, exit code %d, %s to %s", orNone(t.Reason), t.ExitCode, t.StartedAt.UTC().Format(time.RFC3339), t.FinishedAt.UTC().Format(time.RFC3339))
		if t.Message != "" {
			p.line(3, "Message", "%s", shorten(t.Message))
		}
	case s.Waiting != nil:
		p.line(2, key, "Waiting: %s", orNone(s.Waiting.Reason))
		if s.Waiting.Message != "" {
			p.line(3, "Message", "%s", shorten(s.Waiting.Message))
		}
	default:
		p.line(2, key, "Waiting")
	}
}

func (p *printer) containerSpec(depth int, c corev1.Container) {
	var ports []string
	for _, port := range c.Ports {
		ports = append(ports, fmt.Sprintf("%d/%s", port.ContainerPort, port.Protocol))
	}
	p.line(depth, "Ports", "%s", orNone(strings.Join(ports, ", ")))
	if len(c.Command) > 0 {
		p.line(depth, "Command", "%s", strings.Join(c.Command, " "))
	}
	if len(c.Args) > 0 {
		p.line(depth, "Args", "%s", shorten(strings.Join(c.Args, " ")))
	}
	p.resources(depth, "Requests", c.Resources.Requests)
	p.resources(depth, "Limits", c.Resources.Limits)
	for _, check := range []struct {
		name  string
		probe *corev1.Probe
	}{{"Startup", c.StartupProbe}, {"Readiness", c.ReadinessProbe}, {"Liveness", c.LivenessProbe}} {
		if probe := check.probe; probe != nil {
			p.line(depth, check.name, "%s delay=%ds timeout=%ds period=%ds #success=%d #failure=%d", handler(probe), probe.InitialDelaySeconds, probe.TimeoutSeconds, probe.PeriodSeconds, probe.SuccessThreshold, probe.FailureThreshold)
		}
	}
	for i, e := range c.Env {
		key := ""
		if i == 0 {
			key = "Environment"
		}
		p.line(depth, key, "%s=%s", e.Name, envValue(e))
	}
	for i, m := range c.VolumeMounts {
		key := ""
		if i == 0 {
			key = "Mounts"
		}
		mode := "rw"
		if m.ReadOnly {
			mode = "ro"
		}
		p.line(depth, key, "%s from %s (%s)", m.MountPath, m.Name, mode)
	}
}

func (p *printer) resources(depth int, key string, list corev1.ResourceList) {
	if len(list) == 0 {
		return
	}
	m := map[string]string{}
	for name, q := range list {
		m[string(name)] = q.String()
	}
	p.pairs(depth, key, m)
}

func handler(probe *corev1.Probe) string {
	switch {
	case probe.HTTPGet != nil:
		return fmt.Sprintf("http-get :%s%s", probe.HTTPGet.Port.String(), probe.HTTPGet.Path)
	case probe.TCPSocket != nil:
		return "tcp-socket :" + probe.TCPSocket.Port.String()
	case probe.Exec != nil:
		return fmt.Sprintf("exec %v", probe.Exec.Command)
	case probe.GRPC != nil:
		return fmt.Sprintf("grpc :%d", probe.GRPC.Port)
	}
	return "none"
}

func envValue(e corev1.EnvVar) string {
	f := e.ValueFrom
	switch {
	case f == nil:
		return shorten(e.Value)
	case f.SecretKeyRef != nil:
		return fmt.Sprintf("<key %q of secret %q>", f.SecretKeyRef.Key, f.SecretKeyRef.Name)
	case f.ConfigMapKeyRef != nil:
		return fmt.Sprintf("<key %q of config map %q>", f.ConfigMapKeyRef.Key, f.ConfigMapKeyRef.Name)
	case f.FieldRef != nil:
		return fmt.Sprintf("(%s)", f.FieldRef.FieldPath)
	case f.ResourceFieldRef != nil:
		return fmt.Sprintf("(%s)", f.ResourceFieldRef.Resource)
	}
	return "<other>"
}

func (p *printer) volumes(depth int, volumes []corev1.Volume) {
	if len(volumes) == 0 {
		return
	}
	p.line(depth, "Volumes", "")
	for _, v := range volumes {
		p.line(depth+1, v.Name, "%s", source(v))
	}
}

func source(v corev1.Volume) string {
	switch {
	case v.EmptyDir != nil && v.EmptyDir.Medium != "":
		return fmt.Sprintf("EmptyDir (%s)", v.EmptyDir.Medium)
	case v.EmptyDir != nil:
		return "EmptyDir"
	case v.ConfigMap != nil:
		return "ConfigMap " + v.ConfigMap.Name
	case v.Secret != nil:
		return "Secret " + v.Secret.SecretName
	case v.HostPath != nil:
		return "HostPath " + v.HostPath.Path
	case v.PersistentVolumeClaim != nil:
		return "PersistentVolumeClaim " + v.PersistentVolumeClaim.ClaimName
	case v.Projected != nil:
		return "Projected"
	case v.DownwardAPI != nil:
		return "DownwardAPI"
	}
	return "other; see -o yaml"
}

func tolerations(list []corev1.Toleration) string {
	var out []string
	for _, t := range list {
		s := t.Key
		if t.Operator == corev1.TolerationOpExists {
			s += " op=Exists"
		} else {
			s += "=" + t.Value
		}
		if t.Effect != "" {
			s += ":" + string(t.Effect)
		}
		if t.TolerationSeconds != nil {
			s += fmt.Sprintf(" for %ds", *t.TolerationSeconds)
		}
		out = append(out, s)
	}
	return orNone(strings.Join(out, ", "))
}

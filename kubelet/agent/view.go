package agent

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// podView is a pod as an action sees it.
type podView struct {
	pod       *corev1.Pod
	sandbox   Sandbox
	sandboxID string
	ips       []string
}

func setIPs(p *corev1.Pod, ips []string) {
	p.Status.PodIP, p.Status.PodIPs = ips[0], nil
	for _, ip := range ips {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
	}
}

func setHostIPs(p *corev1.Pod, ips []string) {
	if len(ips) == 0 {
		return
	}
	p.Status.HostIP, p.Status.HostIPs = ips[0], nil
	for _, ip := range ips {
		p.Status.HostIPs = append(p.Status.HostIPs, corev1.HostIP{IP: ip})
	}
}

// findContainer returns a container of any kind by name, ephemeral ones as ordinary ones.
func findContainer(p *corev1.Pod, name string) *corev1.Container {
	for i := range p.Spec.Containers {
		if p.Spec.Containers[i].Name == name {
			return &p.Spec.Containers[i]
		}
	}
	for i := range p.Spec.InitContainers {
		if p.Spec.InitContainers[i].Name == name {
			return &p.Spec.InitContainers[i]
		}
	}
	for i := range p.Spec.EphemeralContainers {
		if p.Spec.EphemeralContainers[i].Name == name {
			c := corev1.Container(p.Spec.EphemeralContainers[i].EphemeralContainerCommon)
			return &c
		}
	}
	return nil
}

// fieldPath is how events name a container of a pod.
func fieldPath(p *corev1.Pod, name string) string {
	for i := range p.Spec.InitContainers {
		if p.Spec.InitContainers[i].Name == name {
			return "spec.initContainers{" + name + "}"
		}
	}
	for i := range p.Spec.EphemeralContainers {
		if p.Spec.EphemeralContainers[i].Name == name {
			return "spec.ephemeralContainers{" + name + "}"
		}
	}
	return "spec.containers{" + name + "}"
}

// specGrace is a pod's own termination grace.
func specGrace(p *corev1.Pod) time.Duration {
	if g := p.Spec.TerminationGracePeriodSeconds; g != nil {
		return time.Duration(*g) * time.Second
	}
	return corev1.DefaultTerminationGracePeriodSeconds * time.Second
}

package node

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fill writes into n what the node knows of itself.
func (m *Manager) fill(n *corev1.Node, now time.Time) {
	s := &n.Status
	s.Capacity, s.Allocatable = keepForeign(s.Capacity, m.Capacity()), keepForeign(s.Allocatable, m.Allocatable())
	s.NodeInfo = m.c.Facts.Info
	// There is one way of running containers; its name is empty.
	s.RuntimeHandlers = []corev1.NodeRuntimeHandler{{Features: &corev1.NodeRuntimeHandlerFeatures{
		RecursiveReadOnlyMounts: new(m.c.Facts.ReadOnlyMounts), UserNamespaces: new(m.c.Facts.UserNamespaces),
	}}}
	s.Features = &corev1.NodeFeatures{SupplementalGroupsPolicy: new(true)}
	s.DaemonEndpoints.KubeletEndpoint.Port = m.c.Port
	s.Addresses = nil
	for _, ip := range m.c.IPs {
		s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: m.c.Name})
	if m.c.VolumesInUse != nil {
		s.VolumesInUse = m.c.VolumesInUse()
	}
	if m.c.Images != nil {
		s.Images = largest(m.c.Images())
	}
	var checks Checks
	if m.c.Checks != nil {
		checks = m.c.Checks()
	}
	for _, c := range conditions(checks) {
		setCondition(s, c, now)
	}
}

// keepForeign adds extended resources that somebody else has told of the node (KEP-123: "Advertise extended resources").
func keepForeign(have, ours corev1.ResourceList) corev1.ResourceList {
	for name, q := range have {
		domain, _, extended := strings.Cut(string(name), "/")
		if _, known := ours[name]; extended && !known && !strings.HasSuffix(domain, "kubernetes.io") {
			ours[name] = q
		}
	}
	return ours
}

// largest are the images that the status has room for.
func largest(images []corev1.ContainerImage) []corev1.ContainerImage {
	slices.SortFunc(images, func(a, b corev1.ContainerImage) int {
		if a.SizeBytes != b.SizeBytes {
			return int(b.SizeBytes - a.SizeBytes)
		}
		return slices.Compare(a.Names, b.Names)
	})
	return images[:min(len(images), imagesMax)]
}

// conditions are the node's conditions, worded as Kubernetes words them.
func conditions(c Checks) []corev1.NodeCondition {
	pressure := func(t corev1.NodeConditionType, under bool, yes, yesMessage, no, noMessage string) corev1.NodeCondition {
		if under {
			return corev1.NodeCondition{Type: t, Status: corev1.ConditionTrue, Reason: yes, Message: yesMessage}
		}
		return corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: no, Message: noMessage}
	}
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	if c.NotReady != "" {
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "KubeletNotReady", c.NotReady
	}
	return []corev1.NodeCondition{
		pressure(corev1.NodeMemoryPressure, c.MemoryPressure, "KubeletHasInsufficientMemory", "kubelet has insufficient memory available",
			"KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
		pressure(corev1.NodeDiskPressure, c.DiskPressure, "KubeletHasDiskPressure", "kubelet has disk pressure",
			"KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
		pressure(corev1.NodePIDPressure, c.PIDs, "KubeletHasInsufficientPID", "kubelet has insufficient PID available",
			"KubeletHasSufficientPID", "kubelet has sufficient PID available"),
		ready,
	}
}

func setCondition(s *corev1.NodeStatus, c corev1.NodeCondition, now time.Time) {
	c.LastHeartbeatTime, c.LastTransitionTime = metav1.NewTime(now), metav1.NewTime(now)
	for i := range s.Conditions {
		if old := &s.Conditions[i]; old.Type == c.Type {
			if old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
			*old = c
			return
		}
	}
	s.Conditions = append(s.Conditions, c)
}

package describe

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/duration"
)

func (p *printer) node(n *corev1.Node, rel Related) {
	var taints []string
	for _, t := range n.Spec.Taints {
		taints = append(taints, t.ToString())
	}
	p.line(0, "Taints", "%s", orNone(strings.Join(taints, ", ")))
	p.line(0, "Unschedulable", "%t", n.Spec.Unschedulable)
	var rows [][]string
	for _, c := range n.Status.Conditions {
		rows = append(rows, []string{string(c.Type), string(c.Status), c.Reason, duration.HumanDuration(p.now.Sub(c.LastTransitionTime.Time)), c.Message})
	}
	p.table("Conditions", []string{"Type", "Status", "Reason", "Since", "Message"}, rows)
	for _, a := range n.Status.Addresses {
		p.line(0, string(a.Type), "%s", a.Address)
	}
	p.line(0, "Pod CIDR", "%s", orNone(strings.Join(n.Spec.PodCIDRs, ",")))
	i := n.Status.NodeInfo
	p.line(0, "System", "%s, kernel %s, %s/%s, kubelet %s, runtime %s", i.OSImage, i.KernelVersion, i.OperatingSystem, i.Architecture, i.KubeletVersion, i.ContainerRuntimeVersion)
	p.line(0, "Images", "%d, %s", len(n.Status.Images), imageBytes(n.Status.Images))
	p.nodeResources(n, rel.Pods)
	p.nodePods(n, rel.Pods)
}

func imageBytes(list []corev1.ContainerImage) string {
	var sum int64
	for _, i := range list {
		sum += i.SizeBytes
	}
	return fmt.Sprintf("%.1f MiB", float64(sum)/(1<<20))
}

// running are the pods that hold their requests.
func running(pods []*corev1.Pod) []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
}

// asked sums what a pod's containers request or may use at most. Init containers run before the others, so that the larger of
// both counts; those that go on beside the others (restartPolicy Always) add to them.
func asked(pod *corev1.Pod, name corev1.ResourceName, of func(corev1.ResourceRequirements) corev1.ResourceList) resource.Quantity {
	var sum, sidecars, most resource.Quantity
	for _, c := range pod.Spec.InitContainers {
		q := of(c.Resources)[name]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars.Add(q)
			q = resource.Quantity{}
		}
		q.Add(sidecars)
		if q.Cmp(most) > 0 {
			most = q
		}
	}
	for _, c := range pod.Spec.Containers {
		sum.Add(of(c.Resources)[name])
	}
	sum.Add(sidecars)
	if most.Cmp(sum) > 0 {
		sum = most
	}
	sum.Add(pod.Spec.Overhead[name])
	return sum
}

func requests(r corev1.ResourceRequirements) corev1.ResourceList { return r.Requests }
func limits(r corev1.ResourceRequirements) corev1.ResourceList   { return r.Limits }

func share(q, of resource.Quantity) string {
	if of.IsZero() {
		return q.String()
	}
	return fmt.Sprintf("%s (%d%%)", q.String(), int64(100*q.AsApproximateFloat64()/of.AsApproximateFloat64()))
}

// nodeResources shows what the node has, what of it pods have asked for, and what is left for another pod.
func (p *printer) nodeResources(n *corev1.Node, pods []*corev1.Pod) {
	var names []string
	for name := range n.Status.Allocatable {
		names = append(names, string(name))
	}
	slices.Sort(names)
	var rows [][]string
	for _, name := range names {
		rn := corev1.ResourceName(name)
		capacity, allocatable := n.Status.Capacity[rn], n.Status.Allocatable[rn]
		if capacity.IsZero() {
			continue
		}
		var req, lim resource.Quantity
		for _, pod := range running(pods) {
			req.Add(asked(pod, rn, requests))
			lim.Add(asked(pod, rn, limits))
		}
		if rn == corev1.ResourcePods {
			req = *resource.NewQuantity(int64(len(running(pods))), resource.DecimalSI)
		}
		free := allocatable.DeepCopy()
		free.Sub(req)
		rows = append(rows, []string{name, capacity.String(), allocatable.String(), share(req, allocatable), share(lim, allocatable), free.String()})
	}
	p.table("Resources", []string{"Resource", "Capacity", "Allocatable", "Requests", "Limits", "Free"}, rows)
}

func (p *printer) nodePods(n *corev1.Node, pods []*corev1.Pod) {
	var rows [][]string
	for _, pod := range running(pods) {
		row := []string{pod.Namespace, pod.Name}
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			req, lim := asked(pod, name, requests), asked(pod, name, limits)
			row = append(row, share(req, n.Status.Allocatable[name]), share(lim, n.Status.Allocatable[name]))
		}
		rows = append(rows, append(row, duration.HumanDuration(p.now.Sub(pod.CreationTimestamp.Time))))
	}
	p.table("Non-terminated Pods", []string{"Namespace", "Name", "CPU Requests", "CPU Limits", "Memory Requests", "Memory Limits", "Age"}, rows)
}

package plan

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	helpers "k8s.io/component-helpers/resource"
)

// Resource numbers: the first are fixed, extended resources follow in the order in which they are met.
const (
	cpu = iota
	memory
	ephemeral
	fixedResources
)

// What a container without a request counts as when nodes are scored (not when they are filtered), as in kube-scheduler: 100m and
// 200 MB, so that pods without requests spread too.
const (
	defaultMilliCPU = 100
	defaultMemory   = 200 * 1024 * 1024
)

// resourceTable numbers resource names.
type resourceTable struct {
	ids   map[corev1.ResourceName]int
	names []corev1.ResourceName
}

func newResourceTable() *resourceTable {
	t := &resourceTable{ids: map[corev1.ResourceName]int{}}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		t.id(name)
	}
	return t
}

func (t *resourceTable) id(name corev1.ResourceName) int {
	id, ok := t.ids[name]
	if !ok {
		id = len(t.names)
		t.ids[name] = id
		t.names = append(t.names, name)
	}
	return id
}

// amount is a quantity of one resource: millicores for cpu, units for the others.
type amount struct {
	id    int
	value int64
}

func valueOf(id int, q resource.Quantity) int64 {
	if id == cpu {
		return q.MilliValue()
	}
	return q.Value()
}

// requests is what a pod asks for.
type requests struct {
	amounts []amount
	// scoreCPU and scoreMemory are the requests with defaults in place of missing ones.
	scoreCPU, scoreMemory int64
}

// podRequests adds up a pod's containers, init containers, sidecars and overhead, as KEP-753 and KEP-2837 define it.
func (t *resourceTable) podRequests(pod *corev1.Pod) requests {
	var out requests
	list := helpers.PodRequests(pod, helpers.PodResourcesOptions{UseStatusResources: true})
	for name, q := range list {
		if name == corev1.ResourcePods {
			continue
		}
		id := t.id(name)
		if v := valueOf(id, q); v > 0 {
			out.amounts = append(out.amounts, amount{id, v})
		}
	}
	sortAmounts(out.amounts)
	out.scoreCPU, out.scoreMemory = list.Cpu().MilliValue(), list.Memory().Value()
	if missesRequests(pod) {
		full := helpers.PodRequests(pod, helpers.PodResourcesOptions{UseStatusResources: true, NonMissingContainerRequests: corev1.ResourceList{
			corev1.ResourceCPU:    *resource.NewMilliQuantity(defaultMilliCPU, resource.DecimalSI),
			corev1.ResourceMemory: *resource.NewQuantity(defaultMemory, resource.BinarySI),
		}})
		out.scoreCPU, out.scoreMemory = full.Cpu().MilliValue(), full.Memory().Value()
	}
	return out
}

// missesRequests tells whether a container has no request for cpu or memory.
func missesRequests(pod *corev1.Pod) bool {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			r := list[i].Resources.Requests
			if _, ok := r[corev1.ResourceCPU]; !ok {
				return true
			}
			if _, ok := r[corev1.ResourceMemory]; !ok {
				return true
			}
		}
	}
	return false
}

// sortAmounts orders by resource, in place; the lists are a handful long.
func sortAmounts(a []amount) {
	for i := 1; i < len(a); i++ {
		for j := i; j > 0 && a[j].id < a[j-1].id; j-- {
			a[j], a[j-1] = a[j-1], a[j]
		}
	}
}

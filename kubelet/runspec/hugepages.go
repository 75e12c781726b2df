package runspec

import (
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// hugePageSize turns "hugepages-2Mi" into the kernel's "2MB".
func hugePageSize(name corev1.ResourceName) (string, bool) {
	size, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix)
	if !ok {
		return "", false
	}
	q, err := resource.ParseQuantity(size)
	if err != nil {
		return "", false
	}
	for _, u := range []struct {
		bytes int64
		name  string
	}{{1 << 30, "GB"}, {1 << 20, "MB"}, {1 << 10, "KB"}} {
		if n := q.Value(); n >= u.bytes && n%u.bytes == 0 {
			return fmt.Sprintf("%d%s", n/u.bytes, u.name), true
		}
	}
	return "", false
}

// hugepageLimits are a pod's huge pages in bytes by the kernel's name of their size: what its containers may use at the same time, as
// podSum has it for CPU and memory. Never nil.
func hugepageLimits(spec *corev1.PodSpec) map[string]uint64 {
	add := func(sums map[string]uint64, r *corev1.ResourceRequirements) map[string]uint64 {
		for name, q := range r.Limits {
			if size, ok := hugePageSize(name); ok {
				sums[size] += uint64(q.Value())
			}
		}
		return sums
	}
	sidecars, peak := map[string]uint64{}, map[string]uint64{}
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		now := add(maps.Clone(sidecars), &c.Resources)
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars = now
		}
		for size, n := range now {
			peak[size] = max(peak[size], n)
		}
	}
	for i := range spec.Containers {
		add(sidecars, &spec.Containers[i].Resources)
	}
	for size, n := range peak {
		sidecars[size] = max(sidecars[size], n)
	}
	return sidecars
}

package runspec

import (
	"math"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/cgroup"
	"bareboat.dev/kubelet/pod"
)

const (
	// sharesPerCPU and the least shares are the kernel's units of CPU weight on cgroup v1; runc turns them into v2's.
	sharesPerCPU, leastShares, mostShares = 1024, 2, 262144
	// quotaPeriod is the CPU quota's period in microseconds, and leastQuota the least that the kernel takes.
	quotaPeriod, leastQuota = 100000, 1000
	// OOM scores of the classes, as Kubernetes documents them (node-pressure eviction).
	oomGuaranteed, oomBestEffort = -997, 1000
	oomBurstableMin, oomMax      = 2, 999
)

// Shares is the CPU weight for a request in thousandths of a CPU.
func Shares(milli int64) uint64 {
	if milli <= 0 {
		return leastShares
	}
	return uint64(min(max(milli*sharesPerCPU/1000, leastShares), mostShares))
}

// Quota is the run time per period, in microseconds, for a limit in thousandths of a CPU; 0 for none.
func Quota(milli int64) int64 {
	if milli <= 0 {
		return 0
	}
	return max(milli*quotaPeriod/1000, leastQuota)
}

// request is a container's request, or its limit where only that is set.
func request(r *corev1.ResourceRequirements, name corev1.ResourceName) int64 {
	q, ok := r.Requests[name]
	if !ok {
		q = r.Limits[name]
	}
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// Resources are a container's limits.
func Resources(r *corev1.ResourceRequirements) *specs.LinuxResources {
	shares, period := Shares(request(r, corev1.ResourceCPU)), uint64(quotaPeriod)
	res := &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}}
	if quota := Quota(r.Limits.Cpu().MilliValue()); quota > 0 {
		res.CPU.Quota, res.CPU.Period = &quota, &period
	}
	if limit := r.Limits.Memory().Value(); limit > 0 {
		res.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &limit}
	}
	for name, q := range r.Limits {
		if size, ok := hugePageSize(name); ok {
			res.HugepageLimits = append(res.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: size, Limit: uint64(q.Value())})
		}
	}
	return res
}

// PodResources are a pod's own limits: the sum of its containers', each limit only if all containers have it.
func PodResources(spec *corev1.PodSpec, pids int64) cgroup.Resources {
	cpu, cpuLimit, memory := podSum(spec)
	r := cgroup.Resources{CPUShares: Shares(cpu), CPUQuota: Quota(cpuLimit), MemoryLimit: memory, PidsLimit: pids, HugepageLimits: hugepageLimits(spec)}
	if spec.Resources != nil {
		if q, ok := spec.Resources.Requests[corev1.ResourceCPU]; ok {
			r.CPUShares = Shares(q.MilliValue())
		}
		if q, ok := spec.Resources.Limits[corev1.ResourceCPU]; ok {
			r.CPUQuota = Quota(q.MilliValue())
		}
		if q, ok := spec.Resources.Limits[corev1.ResourceMemory]; ok {
			r.MemoryLimit = q.Value()
		}
		for name, q := range spec.Resources.Limits {
			if size, ok := hugePageSize(name); ok {
				r.HugepageLimits[size] = uint64(q.Value())
			}
		}
	}
	return r
}

// podSum adds up what may run at the same time: regular containers and sidecars together, or one init container with the
// sidecars before it (KEP-753). A limit that any of them lacks is 0: none.
func podSum(spec *corev1.PodSpec) (cpu, cpuLimit, memoryLimit int64) {
	type sums struct{ cpu, cpuLimit, memory int64 }
	var regular, sidecars, peak sums
	unlimitedCPU, unlimitedMemory := false, false
	add := func(s *sums, r *corev1.ResourceRequirements) {
		s.cpu += request(r, corev1.ResourceCPU)
		s.cpuLimit += r.Limits.Cpu().MilliValue()
		s.memory += r.Limits.Memory().Value()
		unlimitedCPU = unlimitedCPU || r.Limits.Cpu().IsZero()
		unlimitedMemory = unlimitedMemory || r.Limits.Memory().IsZero()
	}
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		now := sidecars
		add(&now, &c.Resources)
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars = now
		}
		peak = sums{max(peak.cpu, now.cpu), max(peak.cpuLimit, now.cpuLimit), max(peak.memory, now.memory)}
	}
	regular = sidecars
	for i := range spec.Containers {
		add(&regular, &spec.Containers[i].Resources)
	}
	cpu = max(regular.cpu, peak.cpu)
	if !unlimitedCPU {
		cpuLimit = max(regular.cpuLimit, peak.cpuLimit)
	}
	if !unlimitedMemory {
		memoryLimit = max(regular.memory, peak.memory)
	}
	return cpu, cpuLimit, memoryLimit
}

// OOMScore is how readily the kernel kills the container when the node is out of memory.
func OOMScore(p *corev1.Pod, c *corev1.Container, capacity int64) int {
	if p.Spec.PriorityClassName == systemNodeCritical {
		return oomGuaranteed // only admission gives a pod that class; it is the last to go
	}
	switch pod.QOSClass(&p.Spec) {
	case corev1.PodQOSGuaranteed:
		return oomGuaranteed
	case corev1.PodQOSBestEffort:
		return oomBestEffort
	}
	if capacity <= 0 {
		return oomMax
	}
	wanted := request(&c.Resources, corev1.ResourceMemory)
	if isSidecar(p, c) {
		// A sidecar goes no sooner than the containers that it serves (KEP-753).
		least := int64(math.MaxInt64)
		for i := range p.Spec.Containers {
			least = min(least, request(&p.Spec.Containers[i].Resources, corev1.ResourceMemory))
		}
		wanted = max(wanted, least)
	}
	score := 1000 - 1000*(wanted+unassigned(p))/capacity
	return int(min(max(score, oomBurstableMin), oomMax))
}

// systemNodeCritical is the priority class of pods that a node cannot do without.
const systemNodeCritical = "system-node-critical"

func isSidecar(p *corev1.Pod, c *corev1.Container) bool {
	return slices.ContainsFunc(p.Spec.InitContainers, func(i corev1.Container) bool { return i.Name == c.Name && restartable(&i) })
}

func restartable(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// unassigned is each lasting container's part of the memory that the pod as a whole requests beyond what its containers do.
func unassigned(p *corev1.Pod) int64 {
	if p.Spec.Resources == nil {
		return 0
	}
	left, ok := p.Spec.Resources.Requests[corev1.ResourceMemory]
	if !ok {
		return 0
	}
	rest, parts := left.Value(), int64(0)
	for _, c := range slices.Concat(p.Spec.Containers, slices.DeleteFunc(slices.Clone(p.Spec.InitContainers), func(c corev1.Container) bool { return !restartable(&c) })) {
		rest, parts = rest-request(&c.Resources, corev1.ResourceMemory), parts+1
	}
	return max(rest, 0) / max(parts, 1)
}

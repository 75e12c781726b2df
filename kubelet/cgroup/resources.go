package cgroup

import "time"

// Version tells the two interfaces of the kernel apart.
type Version int

// V1 is one hierarchy per controller; V2 the unified one. A "hybrid" host, whose v2 hierarchy has no controllers, is V1.
const (
	V1 Version = 1
	V2 Version = 2
)

// QoS is a pod's quality-of-service class; its values are those of PodStatus.qosClass.
type QoS string

// The three classes.
const (
	Guaranteed QoS = "Guaranteed"
	Burstable  QoS = "Burstable"
	BestEffort QoS = "BestEffort"
)

// Resources are a group's limits. Zero leaves a limit as it is; -1 lifts it, where it can be lifted.
type Resources struct {
	// CPUShares is relative weight in v1 units (2 to 262144; 1024 per CPU requested); on v2 it becomes cpu.weight: see [Weight].
	CPUShares uint64
	// CPUQuota is run time allowed per CPUPeriod, in microseconds; the period defaults to 100000.
	CPUQuota  int64
	CPUPeriod uint64
	// MemoryLimit and MemoryHigh are in bytes; MemoryHigh exists on v2 only. MemoryMin and MemoryLow likewise protect memory on v2.
	MemoryLimit int64
	MemoryHigh  int64
	MemoryMin   int64
	// PidsLimit is the number of processes and threads.
	PidsLimit int64
	// HugepageLimits maps a page size ("2MB", "1GB") to bytes. Ignored where the kernel has no such controller.
	HugepageLimits map[string]uint64
	// CPUSet and MemSet are lists as in "0-3,8". Empty leaves them.
	CPUSet string
	MemSet string
	// OOMGroup kills the whole group when one of its processes is out of memory (v2).
	OOMGroup bool
}

// Stats is what a group, with all below it, has used. A controller that is not there leaves its fields zero.
type Stats struct {
	Time time.Time
	// CPU run time, in all, in user mode and in the kernel.
	CPUUsage, CPUUser, CPUSystem time.Duration
	// Enforcement periods elapsed, those in which the group was throttled, and for how long.
	CPUPeriods, CPUThrottled uint64
	CPUThrottledTime         time.Duration
	// Bytes. MemoryWorkingSet is usage less inactive file pages, as Kubernetes defines it. MemoryLimit is 0 if there is none.
	MemoryUsage, MemoryWorkingSet, MemoryRSS, MemoryCache, MemorySwap, MemoryMaxUsage, MemoryLimit uint64
	MemoryMappedFile                                                                               uint64
	PageFaults, MajorPageFaults                                                                    uint64
	// OOMKills counts processes that the kernel killed for lack of memory.
	OOMKills uint64
	// Processes and threads.
	Pids, PidsLimit uint64
	// Block I/O, all devices.
	ReadBytes, WriteBytes, ReadOps, WriteOps uint64
}

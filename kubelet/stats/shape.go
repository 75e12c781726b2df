package stats

import "time"

// Summary is what /stats/summary answers, in the shape that its readers know (k8s.io/kubelet's stats/v1alpha1).
type Summary struct {
	Node Node  `json:"node"`
	Pods []Pod `json:"pods"`
}

// Node is the node's part.
type Node struct {
	NodeName  string    `json:"nodeName"`
	StartTime time.Time `json:"startTime"`
	CPU       *CPU      `json:"cpu,omitempty"`
	Memory    *Memory   `json:"memory,omitempty"`
	Network   *Network  `json:"network,omitempty"`
	FS        *FS       `json:"fs,omitempty"`
	Runtime   *Runtime  `json:"runtime,omitempty"`
	Rlimit    *Rlimit   `json:"rlimit,omitempty"`
	Swap      *Swap     `json:"swap,omitempty"`
}

// Runtime is what images and containers' own files use.
type Runtime struct {
	ImageFS     *FS `json:"imageFs,omitempty"`
	ContainerFS *FS `json:"containerFs,omitempty"`
}

// Rlimit is how many processes and threads there may be, and are.
type Rlimit struct {
	Time    time.Time `json:"time"`
	MaxPID  *int64    `json:"maxpid,omitempty"`
	Current *int64    `json:"curproc,omitempty"`
}

// Pod is one pod's part. EphemeralStorage is all that counts against its limits of local storage.
type Pod struct {
	PodRef           PodRef      `json:"podRef"`
	StartTime        time.Time   `json:"startTime"`
	Containers       []Container `json:"containers"`
	CPU              *CPU        `json:"cpu,omitempty"`
	Memory           *Memory     `json:"memory,omitempty"`
	Network          *Network    `json:"network,omitempty"`
	Volumes          []Volume    `json:"volume,omitempty"`
	EphemeralStorage *FS         `json:"ephemeral-storage,omitempty"`
	Processes        *Processes  `json:"process_stats,omitempty"`
	Swap             *Swap       `json:"swap,omitempty"`
}

// PodRef names a pod.
type PodRef struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	UID       string `json:"uid"`
}

// Container is one container's part. RootFS is what it has written to its root file system, Logs what its logs take.
type Container struct {
	Name      string    `json:"name"`
	StartTime time.Time `json:"startTime"`
	CPU       *CPU      `json:"cpu,omitempty"`
	Memory    *Memory   `json:"memory,omitempty"`
	RootFS    *FS       `json:"rootfs,omitempty"`
	Logs      *FS       `json:"logs,omitempty"`
	Swap      *Swap     `json:"swap,omitempty"`
}

// CPU is use of processors: now, in thousand-millionths of one, and in all, in nanoseconds.
type CPU struct {
	Time                 time.Time `json:"time"`
	UsageNanoCores       *uint64   `json:"usageNanoCores,omitempty"`
	UsageCoreNanoSeconds uint64    `json:"usageCoreNanoSeconds"`
}

// Memory is in bytes.
type Memory struct {
	Time            time.Time `json:"time"`
	AvailableBytes  *uint64   `json:"availableBytes,omitempty"`
	UsageBytes      uint64    `json:"usageBytes"`
	WorkingSetBytes uint64    `json:"workingSetBytes"`
	RSSBytes        uint64    `json:"rssBytes"`
	PageFaults      uint64    `json:"pageFaults"`
	MajorPageFaults uint64    `json:"majorPageFaults"`
}

// Swap is in bytes.
type Swap struct {
	Time           time.Time `json:"time"`
	AvailableBytes *uint64   `json:"swapAvailableBytes,omitempty"`
	UsageBytes     uint64    `json:"swapUsageBytes"`
}

// Network is what interfaces have carried since they were made; that of the default one stands beside the list.
type Network struct {
	Time time.Time `json:"time"`
	Interface
	Interfaces []Interface `json:"interfaces,omitempty"`
}

// Interface is one of them.
type Interface struct {
	Name     string `json:"name"`
	RxBytes  uint64 `json:"rxBytes"`
	RxErrors uint64 `json:"rxErrors"`
	TxBytes  uint64 `json:"txBytes"`
	TxErrors uint64 `json:"txErrors"`
}

// FS is a file system; Used is the part of who it is given for.
type FS struct {
	Time           time.Time `json:"time"`
	AvailableBytes uint64    `json:"availableBytes"`
	CapacityBytes  uint64    `json:"capacityBytes"`
	UsedBytes      uint64    `json:"usedBytes"`
	InodesFree     uint64    `json:"inodesFree"`
	Inodes         uint64    `json:"inodes"`
	InodesUsed     uint64    `json:"inodesUsed"`
}

// Volume is one of a pod's volumes.
type Volume struct {
	FS
	Name   string  `json:"name"`
	PVCRef *PVCRef `json:"pvcRef,omitempty"`
}

// PVCRef names the claim that a volume is bound to.
type PVCRef struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// Processes counts processes and threads.
type Processes struct {
	Count uint64 `json:"process_count"`
}

package stats

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// Summary is what /stats/summary answers, in the shape that its readers know.
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
	FS        *FS       `json:"fs,omitempty"`
	Runtime   *Runtime  `json:"runtime,omitempty"`
}

// Runtime is what the image store uses.
type Runtime struct {
	ImageFS *FS `json:"imageFs,omitempty"`
}

// Pod is one pod's part.
type Pod struct {
	PodRef     PodRef      `json:"podRef"`
	Containers []Container `json:"containers"`
	CPU        *CPU        `json:"cpu,omitempty"`
	Memory     *Memory     `json:"memory,omitempty"`
	Processes  *Processes  `json:"process_stats,omitempty"`
}

// PodRef names a pod.
type PodRef struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	UID       string `json:"uid"`
}

// Container is one container's part.
type Container struct {
	Name   string  `json:"name"`
	CPU    *CPU    `json:"cpu,omitempty"`
	Memory *Memory `json:"memory,omitempty"`
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

// FS is a file system.
type FS struct {
	Time           time.Time `json:"time"`
	AvailableBytes uint64    `json:"availableBytes"`
	CapacityBytes  uint64    `json:"capacityBytes"`
	UsedBytes      uint64    `json:"usedBytes"`
	InodesFree     uint64    `json:"inodesFree"`
	Inodes         uint64    `json:"inodes"`
	InodesUsed     uint64    `json:"inodesUsed"`
}

// Processes counts processes and threads.
type Processes struct {
	Count uint64 `json:"process_count"`
}

// Summary measures everything.
func (c *Collector) Summary(ctx context.Context) Summary {
	s := Summary{Node: c.nodePart(), Pods: []Pod{}}
	live := map[string]bool{"node": true}
	var pod *Pod
	for _, m := range c.containers(ctx) {
		ref := PodRef{Name: m.Pod, Namespace: m.Namespace, UID: m.UID}
		if pod == nil || pod.PodRef != ref {
			s.Pods = append(s.Pods, Pod{PodRef: ref, CPU: &CPU{Time: m.used.Time}, Memory: &Memory{Time: m.used.Time}, Processes: &Processes{}})
			pod = &s.Pods[len(s.Pods)-1]
		}
		live[m.ID] = true
		pod.add(c.containerPart(m), m.used.Pids)
	}
	c.forget(live)
	return s
}

// add takes a container in: a pod uses what its containers use.
func (p *Pod) add(c Container, pids uint64) {
	p.Containers = append(p.Containers, c)
	p.CPU.UsageCoreNanoSeconds += c.CPU.UsageCoreNanoSeconds
	if r := c.CPU.UsageNanoCores; r != nil {
		sum := *r
		if p.CPU.UsageNanoCores != nil {
			sum += *p.CPU.UsageNanoCores
		}
		p.CPU.UsageNanoCores = &sum
	}
	p.Memory.UsageBytes += c.Memory.UsageBytes
	p.Memory.WorkingSetBytes += c.Memory.WorkingSetBytes
	p.Memory.RSSBytes += c.Memory.RSSBytes
	p.Memory.PageFaults += c.Memory.PageFaults
	p.Memory.MajorPageFaults += c.Memory.MajorPageFaults
	p.Processes.Count += pids
}

func (c *Collector) containerPart(m container) Container {
	memory := &Memory{Time: m.used.Time, UsageBytes: m.used.MemoryUsage, WorkingSetBytes: m.used.MemoryWorkingSet, RSSBytes: m.used.MemoryRSS,
		PageFaults: m.used.PageFaults, MajorPageFaults: m.used.MajorPageFaults}
	if limit := m.used.MemoryLimit; limit > 0 {
		left := limit - min(limit, m.used.MemoryWorkingSet)
		memory.AvailableBytes = &left
	}
	return Container{Name: m.Container, Memory: memory, CPU: &CPU{Time: m.used.Time,
		UsageNanoCores: c.rate(m.ID, m.used.Time, m.used.CPUUsage), UsageCoreNanoSeconds: uint64(m.used.CPUUsage.Nanoseconds())}}
}

func (c *Collector) nodePart() Node {
	h := readHost()
	available := h.memoryAvailable
	n := Node{
		NodeName: c.node, StartTime: c.booted,
		CPU:    &CPU{Time: h.at, UsageNanoCores: c.rate("node", h.at, h.cpu), UsageCoreNanoSeconds: uint64(h.cpu.Nanoseconds())},
		Memory: &Memory{Time: h.at, AvailableBytes: &available, UsageBytes: h.workingSet(), WorkingSetBytes: h.workingSet(), RSSBytes: h.rss},
		FS:     fileSystem("/"),
	}
	if c.images != nil {
		if u, err := c.images.Usage(); err == nil {
			n.Runtime = &Runtime{ImageFS: fileSystem(u.Path)}
			if n.Runtime.ImageFS != nil {
				n.Runtime.ImageFS.UsedBytes = u.ImagesBytes
			}
		}
	}
	return n
}

func fileSystem(path string) *FS {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return nil
	}
	size := uint64(st.Bsize)
	return &FS{Time: time.Now(), AvailableBytes: st.Bavail * size, CapacityBytes: st.Blocks * size, UsedBytes: (st.Blocks - st.Bfree) * size,
		InodesFree: st.Ffree, Inodes: st.Files, InodesUsed: st.Files - st.Ffree}
}

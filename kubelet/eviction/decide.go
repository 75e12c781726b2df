// Package eviction decides which pods must go when the node runs short of memory, disk, inodes or process ids, and when a pod
// uses more local storage than it may.
//
// [Decide] is pure: from what is left on the node, the thresholds, what the pods use and what was remembered, it returns the
// node's pressure conditions and the pods to end. The order is that of Kubernetes: first pods that use more than they
// requested, then those of lower priority, then those that exceed their request by most.
package eviction

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
)

// Signal is something that a node can run short of, as --eviction-hard names it.
type Signal string

const (
	MemoryAvailable   Signal = "memory.available"
	NodeFSAvailable   Signal = "nodefs.available"
	NodeFSInodesFree  Signal = "nodefs.inodesFree"
	ImageFSAvailable  Signal = "imagefs.available"
	ImageFSInodesFree Signal = "imagefs.inodesFree"
	PIDAvailable      Signal = "pid.available"
)

// Level is how much there is of something, and how much of it is left.
type Level struct{ Capacity, Available int64 }

// Threshold is the least that must be left: an amount, or a share of the capacity in percent.
type Threshold struct {
	Amount  int64
	Percent float64
}

// Least is the threshold as an amount.
func (t Threshold) Least(capacity int64) int64 {
	if t.Percent > 0 {
		return int64(t.Percent / 100 * float64(capacity))
	}
	return t.Amount
}

// Defaults are Kubernetes' hard thresholds on Linux.
func Defaults() map[Signal]Threshold {
	return map[Signal]Threshold{
		MemoryAvailable: {Amount: 100 << 20}, NodeFSAvailable: {Percent: 10}, NodeFSInodesFree: {Percent: 5},
		ImageFSAvailable: {Percent: 15}, ImageFSInodesFree: {Percent: 5},
	}
}

// Pod is what a pod uses, and what it may.
type Pod struct {
	UID      types.UID
	Name     string
	Priority int32
	// Critical pods are never evicted: static ones, and those of system priority.
	Critical bool
	// Memory in bytes: working set and request. Disk in bytes and inodes: local storage written and requested.
	Memory, MemoryRequest int64
	Disk, DiskRequest     int64
	PIDs                  int64
	// Exceeded says which limit of local storage the pod has passed, empty if none.
	Exceeded string
}

// Memory is what a decision must know of the ones before it.
type Memory struct {
	// seen is when each signal last was below its threshold.
	seen map[Signal]time.Time
	// last is when a pod was last evicted for a signal.
	last time.Time
}

// Input is everything a decision is made from.
type Input struct {
	Levels     map[Signal]Level
	Thresholds map[Signal]Threshold
	Pods       []Pod
	Memory     Memory
	Now        time.Time
}

// Victim is a pod to be ended, and what to tell of it.
type Victim struct {
	UID     types.UID
	Message string
}

// Decision is what follows.
type Decision struct {
	Memory                                    Memory
	MemoryPressure, DiskPressure, PIDPressure bool
	// Reclaim says that unused images should go before any pod does.
	Reclaim bool
	Victims []Victim
}

const (
	// transition is how long a condition stays after the shortage has passed (upstream's evictionPressureTransitionPeriod), so that
	// the scheduler does not send pods at once that bring it back.
	transition = 5 * time.Minute
	// settle is how long an evicted pod's resources are awaited before the next one is evicted for a shortage.
	settle = 10 * time.Second
)

// Decide decides.
func Decide(in Input) Decision {
	d := Decision{Memory: Memory{seen: map[Signal]time.Time{}, last: in.Memory.last}}
	for s, t := range in.Memory.seen {
		d.Memory.seen[s] = t
	}
	short := shortages(in)
	for _, s := range short {
		d.Memory.seen[s] = in.Now
	}
	d.MemoryPressure = recent(d.Memory, in.Now, MemoryAvailable)
	d.DiskPressure = recent(d.Memory, in.Now, NodeFSAvailable, NodeFSInodesFree, ImageFSAvailable, ImageFSInodesFree)
	d.PIDPressure = recent(d.Memory, in.Now, PIDAvailable)
	for _, p := range in.Pods {
		if p.Exceeded != "" && !p.Critical {
			d.Victims = append(d.Victims, Victim{p.UID, p.Exceeded})
		}
	}
	if len(short) == 0 || len(d.Victims) > 0 || in.Now.Sub(in.Memory.last) < settle {
		return d
	}
	d.Reclaim = disk(short[0])
	if v, ok := choose(in, short[0]); ok {
		d.Victims, d.Memory.last = []Victim{v}, in.Now
	}
	return d
}

// shortages are the signals below their thresholds, memory first: the kernel does not wait.
func shortages(in Input) []Signal {
	var short []Signal
	for _, s := range []Signal{MemoryAvailable, PIDAvailable, NodeFSAvailable, NodeFSInodesFree, ImageFSAvailable, ImageFSInodesFree} {
		level, ok := in.Levels[s]
		t, set := in.Thresholds[s]
		if ok && set && level.Available < t.Least(level.Capacity) {
			short = append(short, s)
		}
	}
	return short
}

func recent(m Memory, now time.Time, signals ...Signal) bool {
	for _, s := range signals {
		if t, ok := m.seen[s]; ok && now.Sub(t) < transition {
			return true
		}
	}
	return false
}

func disk(s Signal) bool { return s != MemoryAvailable && s != PIDAvailable }

// choose picks the pod to go for a shortage.
func choose(in Input, s Signal) (Victim, bool) {
	candidates := slices.DeleteFunc(slices.Clone(in.Pods), func(p Pod) bool { return p.Critical })
	if len(candidates) == 0 {
		return Victim{}, false
	}
	slices.SortStableFunc(candidates, func(a, b Pod) int { return rank(a, b, s) })
	v := candidates[0]
	level := in.Levels[s]
	message := fmt.Sprintf("The node was low on resource: %s. Threshold quantity: %s, available: %s. ", resourceOf(s),
		quantity(in.Thresholds[s].Least(level.Capacity)), quantity(level.Available))
	return Victim{v.UID, message}, true
}

// rank orders pods for a shortage, those to go first before the others.
func rank(a, b Pod, s Signal) int {
	useA, requestA := usage(a, s)
	useB, requestB := usage(b, s)
	if overA, overB := useA > requestA, useB > requestB; overA != overB {
		if overA {
			return -1
		}
		return 1
	}
	if a.Priority != b.Priority {
		return int(a.Priority) - int(b.Priority)
	}
	switch excessA, excessB := useA-requestA, useB-requestB; {
	case excessA > excessB:
		return -1
	case excessA < excessB:
		return 1
	}
	return 0
}

func usage(p Pod, s Signal) (used, requested int64) {
	switch s {
	case MemoryAvailable:
		return p.Memory, p.MemoryRequest
	case PIDAvailable:
		return p.PIDs, 0
	}
	return p.Disk, p.DiskRequest
}

func resourceOf(s Signal) corev1.ResourceName {
	switch s {
	case MemoryAvailable:
		return corev1.ResourceMemory
	case PIDAvailable:
		return "pids"
	case NodeFSInodesFree, ImageFSInodesFree:
		return "inodes"
	}
	return corev1.ResourceEphemeralStorage
}

func quantity(n int64) string { return resource.NewQuantity(n, resource.BinarySI).String() }

package eviction

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
)

// Container is what one container uses and has requested, in bytes.
type Container struct {
	Name                  string
	Memory, MemoryRequest int64
	Disk, DiskRequest     int64
}

// Pod is what a pod uses, and what it may.
type Pod struct {
	UID      types.UID
	Name     string
	Priority int32
	// Critical pods are never evicted: static ones, and those of system priority.
	Critical bool
	// Memory in bytes: working set and request. Disk in bytes and Inodes: local storage written, and requested.
	Memory, MemoryRequest int64
	Disk, DiskRequest     int64
	Inodes                int64
	PIDs                  int64
	Containers            []Container
	// Exceeded says which limit of local storage the pod has passed, empty if none.
	Exceeded string
}

// Memory is what a decision must know of the ones before it.
type Memory struct {
	// met are the thresholds that were passed at the last decision, with the time since when.
	met map[bound]time.Time
	// seen is when each signal last was below a threshold.
	seen map[Signal]time.Time
	// last is when a pod was last evicted for a shortage.
	last time.Time
}

// bound is one threshold.
type bound struct {
	Signal Signal
	Soft   bool
}

// Input is everything a decision is made from.
type Input struct {
	Config Config
	Levels map[Signal]Level
	Pods   []Pod
	Memory Memory
	Now    time.Time
}

// Victim is a pod to be ended, how long it has for that, and what to tell of it.
type Victim struct {
	UID     types.UID
	Grace   time.Duration
	Message string
}

// Decision is what follows.
type Decision struct {
	Memory                                    Memory
	MemoryPressure, DiskPressure, PIDPressure bool
	// Acting is the signal for whose sake a pod would go now; empty if none. Pods must have been measured for it.
	Acting Signal
	// Reclaim says that unused images and dead containers should go before any pod does.
	Reclaim bool
	Victims []Victim
}

// settle is how long an evicted pod's resources are awaited before the next one is evicted for a shortage.
const settle = 10 * time.Second

// Decide decides.
func Decide(in Input) Decision {
	m := Memory{met: passed(in), seen: map[Signal]time.Time{}, last: in.Memory.last}
	for s, t := range in.Memory.seen {
		m.seen[s] = t
	}
	for b := range m.met {
		m.seen[b.Signal] = in.Now
	}
	d := Decision{Memory: m}
	d.MemoryPressure = recent(in, m, MemoryAvailable, AllocatableMemory)
	d.DiskPressure = recent(in, m, NodeFSAvailable, NodeFSInodesFree, ImageFSAvailable, ImageFSInodesFree)
	d.PIDPressure = recent(in, m, PIDAvailable)
	for _, p := range in.Pods {
		if p.Exceeded != "" && !p.Critical {
			d.Victims = append(d.Victims, Victim{UID: p.UID, Message: p.Exceeded})
		}
	}
	b, ok := acting(in, m)
	if !ok || len(d.Victims) > 0 || in.Now.Sub(in.Memory.last) < settle {
		return d
	}
	d.Acting, d.Reclaim = b.Signal, disk(b.Signal)
	if v, ok := choose(in, b); ok {
		d.Victims, d.Memory.last = []Victim{v}, in.Now
	}
	return d
}

// passed are the thresholds below which a level is. One that was passed stays so until the minimum to be reclaimed is there, too.
func passed(in Input) map[bound]time.Time {
	met := map[bound]time.Time{}
	for _, s := range Signals() {
		level, ok := in.Levels[s]
		if !ok {
			continue
		}
		for _, soft := range []bool{false, true} {
			b := bound{s, soft}
			t, set := in.Config.threshold(b)
			if !set {
				continue
			}
			since, before := in.Memory.met[b]
			least := t.Least(level.Capacity)
			if before {
				reclaim := in.Config.MinimumReclaim[s]
				least += reclaim.Least(level.Capacity)
			} else {
				since = in.Now
			}
			if level.Available < least {
				met[b] = since
			}
		}
	}
	return met
}

// acting is the passed threshold to act on: soft ones only when their grace is over, memory first, since the kernel does not wait,
// hard ones before soft ones.
func acting(in Input, m Memory) (bound, bool) {
	for _, soft := range []bool{false, true} {
		for _, s := range Signals() {
			b := bound{s, soft}
			since, ok := m.met[b]
			if ok && (!soft || in.Now.Sub(since) >= in.Config.SoftGrace[s]) {
				return b, true
			}
		}
	}
	return bound{}, false
}

// recent says whether one of the signals was short within the transition period, so that a condition does not flap.
func recent(in Input, m Memory, signals ...Signal) bool {
	for _, s := range signals {
		if t, ok := m.seen[s]; ok && (t.Equal(in.Now) || in.Now.Sub(t) < in.Config.Transition) {
			return true
		}
	}
	return false
}

func disk(s Signal) bool { return s != MemoryAvailable && s != AllocatableMemory && s != PIDAvailable }

// choose picks the pod to go for a shortage.
func choose(in Input, b bound) (Victim, bool) {
	candidates := slices.DeleteFunc(slices.Clone(in.Pods), func(p Pod) bool { return p.Critical })
	if len(candidates) == 0 {
		return Victim{}, false
	}
	slices.SortStableFunc(candidates, func(x, y Pod) int { return rank(x, y, b.Signal) })
	p, v := candidates[0], Victim{UID: candidates[0].UID}
	if b.Soft {
		v.Grace = in.Config.MaxPodGrace
	}
	level := in.Levels[b.Signal]
	t, _ := in.Config.threshold(b)
	v.Message = fmt.Sprintf("The node was low on resource: %s. Threshold quantity: %s, available: %s. ", resourceOf(b.Signal),
		quantity(t.Least(level.Capacity)), quantity(level.Available)) + consumers(p, b.Signal)
	return v, true
}

// consumers tells which of a pod's containers use more than they have requested.
func consumers(p Pod, s Signal) string {
	var b strings.Builder
	for _, c := range p.Containers {
		used, requested := c.Memory, c.MemoryRequest
		switch resourceOf(s) {
		case corev1.ResourceMemory:
		case corev1.ResourceEphemeralStorage:
			used, requested = c.Disk, c.DiskRequest
		default:
			return ""
		}
		if used > requested {
			const kibi = 1 << 10 // usage is told in whole KiB
			fmt.Fprintf(&b, "Container %s was using %s, request is %s, has larger consumption of %s. ", c.Name,
				quantity(used/kibi*kibi), quantity(requested), resourceOf(s))
		}
	}
	return b.String()
}

// rank orders pods for a shortage, those to go first before the others.
func rank(a, b Pod, s Signal) int {
	useA, requestA := usage(a, s)
	useB, requestB := usage(b, s)
	if s != PIDAvailable { // of which nothing can be requested
		if overA, overB := useA > requestA, useB > requestB; overA != overB {
			if overA {
				return -1
			}
			return 1
		}
	}
	return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(useB-requestB, useA-requestA))
}

func usage(p Pod, s Signal) (used, requested int64) {
	switch s {
	case MemoryAvailable, AllocatableMemory:
		return p.Memory, p.MemoryRequest
	case PIDAvailable:
		return p.PIDs, 0
	case NodeFSInodesFree, ImageFSInodesFree:
		return p.Inodes, 0
	}
	return p.Disk, p.DiskRequest
}

func resourceOf(s Signal) corev1.ResourceName {
	switch s {
	case MemoryAvailable, AllocatableMemory:
		return corev1.ResourceMemory
	case PIDAvailable:
		return "pids"
	case NodeFSInodesFree, ImageFSInodesFree:
		return "inodes"
	}
	return corev1.ResourceEphemeralStorage
}

func quantity(n int64) string { return resource.NewQuantity(n, resource.BinarySI).String() }

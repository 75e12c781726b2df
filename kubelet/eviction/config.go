// Package eviction decides which pods must go when the node runs short of memory, disk, inodes or process ids, and when a pod
// uses more local storage than it may.
//
// [Decide] is pure: from what is left on the node, the thresholds, what the pods use and what was remembered, it returns the
// node's pressure conditions and the pods to end. The order is that of Kubernetes: first pods that use more than they
// requested, then those of lower priority, then those that exceed their request by most
// (https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/).
package eviction

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Signal is something that a node can run short of, as --eviction-hard names it.
type Signal string

// The signals. Those of memory are in bytes; allocatableMemory is what pods together have left of what they may have.
const (
	MemoryAvailable   Signal = "memory.available"
	AllocatableMemory Signal = "allocatableMemory.available"
	NodeFSAvailable   Signal = "nodefs.available"
	NodeFSInodesFree  Signal = "nodefs.inodesFree"
	ImageFSAvailable  Signal = "imagefs.available"
	ImageFSInodesFree Signal = "imagefs.inodesFree"
	PIDAvailable      Signal = "pid.available"
)

// Signals are all signals, in the order in which they are acted on.
func Signals() []Signal {
	return []Signal{MemoryAvailable, AllocatableMemory, PIDAvailable, NodeFSAvailable, NodeFSInodesFree, ImageFSAvailable, ImageFSInodesFree}
}

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

// Config is when to act, and how.
type Config struct {
	// Hard thresholds are acted on at once, Soft ones when they have been passed for their SoftGrace.
	Hard, Soft map[Signal]Threshold
	SoftGrace  map[Signal]time.Duration
	// MinimumReclaim is what must be left beyond a threshold before it counts as no longer passed.
	MinimumReclaim map[Signal]Threshold
	// Transition is how long a condition of the node stays after the shortage has passed.
	Transition time.Duration
	// MaxPodGrace is the most time that pods get to end for a soft threshold; they get none for a hard one.
	MaxPodGrace time.Duration
}

// DefaultTransition is Kubernetes' evictionPressureTransitionPeriod.
const DefaultTransition = 5 * time.Minute

// Defaults are Kubernetes' hard thresholds on Linux.
func Defaults() map[Signal]Threshold {
	return map[Signal]Threshold{
		MemoryAvailable: {Amount: 100 << 20}, NodeFSAvailable: {Percent: 10}, NodeFSInodesFree: {Percent: 5},
		ImageFSAvailable: {Percent: 15}, ImageFSInodesFree: {Percent: 5},
	}
}

// threshold is that of a bound. What pods may have in all is held against the same hard threshold as what the host has.
func (c Config) threshold(b bound) (Threshold, bool) {
	s := b.Signal
	if s == AllocatableMemory && !b.Soft {
		s = MemoryAvailable
	}
	set := c.Hard
	if b.Soft {
		set = c.Soft
	}
	t, ok := set[s]
	return t, ok && t != Threshold{}
}

// Parse reads hard thresholds as --eviction-hard has them: "memory.available<100Mi,nodefs.available<10%". What is not named keeps
// its default; "0" or "0%" switches a signal off.
func Parse(text string) (map[Signal]Threshold, error) {
	thresholds := Defaults()
	return thresholds, parseInto(text, "<", thresholds)
}

// ParseSoft reads soft thresholds and their grace periods, as --eviction-soft and --eviction-soft-grace-period have them:
// "memory.available<500Mi" and "memory.available=1m30s". Each threshold needs a grace period.
func ParseSoft(text, grace string) (map[Signal]Threshold, map[Signal]time.Duration, error) {
	thresholds, periods := map[Signal]Threshold{}, map[Signal]time.Duration{}
	if err := parseInto(text, "<", thresholds); err != nil {
		return nil, nil, err
	}
	err := each(grace, "=", func(s Signal, value string) error {
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			return fmt.Errorf("want a time such as 1m30s")
		}
		periods[s] = d
		return nil
	})
	for _, s := range Signals() {
		if _, ok := periods[s]; err == nil && !ok && (thresholds[s] != Threshold{}) {
			err = fmt.Errorf("grace period must be specified for the soft eviction threshold %s", s)
		}
	}
	return thresholds, periods, err
}

// ParseReclaim reads minimum reclaims, as --eviction-minimum-reclaim has them: "memory.available=200Mi,nodefs.available=5%".
func ParseReclaim(text string) (map[Signal]Threshold, error) {
	thresholds := map[Signal]Threshold{}
	return thresholds, parseInto(text, "=", thresholds)
}

func parseInto(text, separator string, into map[Signal]Threshold) error {
	return each(text, separator, func(s Signal, value string) error {
		t, err := parseThreshold(value)
		into[s] = t
		return err
	})
}

// each calls f with the parts of a list of signal, separator, value.
func each(text, separator string, f func(s Signal, value string) error) error {
	known := slices.DeleteFunc(Signals(), func(s Signal) bool { return s == AllocatableMemory })
	for _, part := range strings.Split(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, separator)
		if !ok || !slices.Contains(known, Signal(name)) {
			return fmt.Errorf("%q: want signal%squantity, with a signal of %v", part, separator, known)
		}
		if err := f(Signal(name), value); err != nil {
			return fmt.Errorf("%q: %w", part, err)
		}
	}
	return nil
}

func parseThreshold(value string) (Threshold, error) {
	if percent, ok := strings.CutSuffix(value, "%"); ok {
		n, err := strconv.ParseFloat(percent, 64)
		if err != nil || n < 0 || n > 100 {
			return Threshold{}, fmt.Errorf("want a share from 0%% to 100%%")
		}
		return Threshold{Percent: n}, nil
	}
	q, err := resource.ParseQuantity(value)
	if err != nil || q.Sign() < 0 {
		return Threshold{}, fmt.Errorf("want a quantity such as 100Mi")
	}
	return Threshold{Amount: q.Value()}, nil
}

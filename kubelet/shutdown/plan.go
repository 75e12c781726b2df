package shutdown

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Group is how much time pods get from a priority on, up to the next group's.
type Group struct {
	Priority int32
	Period   time.Duration
}

// Pod is what is known of a pod that is to end.
type Pod struct {
	UID      types.UID
	Priority int32
	// Grace is the pod's own termination grace.
	Grace time.Duration
}

// Step is one group's end: its pods get their grace, at most Period, and the next step begins when they have ended or Period is over.
type Step struct {
	Period time.Duration
	Pods   []Pod
}

// critical is the priority from which pods are critical: that of system-cluster-critical.
const critical = 2000000000

// Simple are the groups of shutdownGracePeriod and, within it, shutdownGracePeriodCriticalPods: critical pods end last.
func Simple(period, criticalPeriod time.Duration) []Group {
	if period == 0 {
		return nil
	}
	return []Group{{0, period - criticalPeriod}, {critical, criticalPeriod}}
}

// Check says what is wrong with groups.
func Check(groups []Group) error {
	seen := map[int32]bool{}
	for _, g := range groups {
		switch {
		case g.Period < 0:
			return fmt.Errorf("priority %d has a period of %s, which is negative", g.Priority, g.Period)
		case seen[g.Priority]:
			return fmt.Errorf("priority %d is there twice", g.Priority)
		}
		seen[g.Priority] = true
	}
	return nil
}

// Total is the time that all groups need.
func Total(groups []Group) (sum time.Duration) {
	for _, g := range groups {
		sum += g.Period
	}
	return sum
}

// Plan puts pods into groups, those of the lowest priority first. A pod belongs to the group of the highest priority that is not
// above its own; those below all groups belong to the lowest.
func Plan(pods []Pod, groups []Group) []Step {
	if len(groups) == 0 {
		return nil
	}
	groups = slices.SortedFunc(slices.Values(groups), func(a, b Group) int { return cmp.Compare(a.Priority, b.Priority) })
	steps := make([]Step, len(groups))
	for i, g := range groups {
		steps[i].Period = g.Period
	}
	for _, p := range pods {
		i := len(groups) - 1
		for i > 0 && groups[i].Priority > p.Priority {
			i--
		}
		p.Grace = min(p.Grace, groups[i].Period)
		steps[i].Pods = append(steps[i].Pods, p)
	}
	return slices.DeleteFunc(steps, func(s Step) bool { return len(s.Pods) == 0 })
}

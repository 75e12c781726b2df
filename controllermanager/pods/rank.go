package pods

import (
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// DeletionCostAnnotation ranks pods for scale-down (KEP-2255): lower goes first; unset or malformed is 0.
const DeletionCostAnnotation = "controller.kubernetes.io/pod-deletion-cost"

// RankForDeletion returns the pods in the order in which a scale-down removes them, first to go first. The order is
// that of the API documentation: unassigned before assigned; pending before unknown before running; not ready before
// ready; lower deletion cost; on the node with more related pods; ready for a shorter time (in powers of two); more
// restarts; created later (in powers of two). What is left is decided by uid, so the order is total.
//
// related counts, per node, the pods of all owners that do the same job; nil if that does not matter.
func RankForDeletion(in []*corev1.Pod, related map[string]int, now time.Time) []*corev1.Pod {
	out := slices.Clone(in)
	slices.SortFunc(out, func(a, b *corev1.Pod) int { return compareForDeletion(a, b, related, now) })
	return out
}

func compareForDeletion(a, b *corev1.Pod, related map[string]int, now time.Time) int {
	if c := first(a.Spec.NodeName == "", b.Spec.NodeName == ""); c != 0 {
		return c
	}
	if c := phaseRank(a) - phaseRank(b); c != 0 {
		return c
	}
	readyA, readyB := Ready(a), Ready(b)
	if c := first(!readyA, !readyB); c != 0 {
		return c
	}
	if c := compare(deletionCost(a), deletionCost(b)); c != 0 {
		return c
	}
	if c := related[b.Spec.NodeName] - related[a.Spec.NodeName]; c != 0 {
		return c
	}
	if readyA && readyB {
		sinceA, _ := ReadySince(a)
		sinceB, _ := ReadySince(b)
		if c := compareAge(sinceA, sinceB, now); c != 0 {
			return c
		}
	}
	if c := restarts(b) - restarts(a); c != 0 {
		return c
	}
	if c := compareAge(a.CreationTimestamp.Time, b.CreationTimestamp.Time, now); c != 0 {
		return c
	}
	return strings.Compare(string(a.UID), string(b.UID))
}

// first orders true before false.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func compare(a, b int32) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func phaseRank(p *corev1.Pod) int {
	switch p.Status.Phase {
	case corev1.PodRunning:
		return 2
	case corev1.PodUnknown:
		return 1
	}
	return 0
}

func deletionCost(p *corev1.Pod) int32 {
	v, err := strconv.ParseInt(p.Annotations[DeletionCostAnnotation], 10, 32)
	if err != nil {
		return 0
	}
	return int32(v)
}

func restarts(p *corev1.Pod) int {
	most := int32(0)
	for _, s := range p.Status.ContainerStatuses {
		most = max(most, s.RestartCount)
	}
	for _, s := range p.Status.InitContainerStatuses {
		if sidecar(p, s.Name) {
			most = max(most, s.RestartCount)
		}
	}
	return int(most)
}

func sidecar(p *corev1.Pod, name string) bool {
	return slices.ContainsFunc(p.Spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == name && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	})
}

// compareAge orders the younger first, ages compared by their power of two (KEP-2185), so that pods of about the same age
// are victims at random (by uid) and not always the newest.
func compareAge(a, b, now time.Time) int {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.IsZero():
		return -1
	case b.IsZero():
		return 1
	}
	return magnitude(now.Sub(a)) - magnitude(now.Sub(b))
}

func magnitude(d time.Duration) int {
	if d <= 0 {
		return 0
	}
	return bits.Len64(uint64(d))
}

package job

import (
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// interval is first to last, both included.
type interval struct{ first, last int }

// indexes is a set of completion indexes, written "1,3-5,7" as in status.completedIndexes: sorted, disjoint and not touching.
type indexes []interval

func parseIndexes(s string) indexes {
	var out indexes
	for _, part := range strings.Split(s, ",") {
		a, b, ranged := strings.Cut(part, "-")
		first, err := strconv.Atoi(a)
		if err != nil {
			continue
		}
		last := first
		if ranged {
			if last, err = strconv.Atoi(b); err != nil {
				continue
			}
		}
		out = append(out, interval{first, last})
	}
	return out
}

// String is the inverse of parseIndexes.
func (x indexes) String() string {
	var parts []string
	for _, iv := range x {
		switch {
		case iv.first == iv.last:
			parts = append(parts, strconv.Itoa(iv.first))
		case iv.first+1 == iv.last:
			parts = append(parts, strconv.Itoa(iv.first), strconv.Itoa(iv.last))
		default:
			parts = append(parts, strconv.Itoa(iv.first)+"-"+strconv.Itoa(iv.last))
		}
	}
	return strings.Join(parts, ",")
}

// below returns the members that are less than n.
func (x indexes) below(n int) indexes {
	var out indexes
	for _, iv := range x {
		if iv.first < n {
			out = append(out, interval{iv.first, min(iv.last, n-1)})
		}
	}
	return out
}

func (x indexes) has(i int) bool {
	_, found := slices.BinarySearchFunc(x, i, func(iv interval, i int) int {
		switch {
		case iv.last < i:
			return -1
		case iv.first > i:
			return 1
		}
		return 0
	})
	return found
}

func (x indexes) total() (n int) {
	for _, iv := range x {
		n += iv.last - iv.first + 1
	}
	return n
}

func (x *indexes) add(i int) {
	if i < 0 || x.has(i) {
		return
	}
	all := append(slices.Clone(*x), interval{i, i})
	slices.SortFunc(all, func(a, b interval) int { return a.first - b.first })
	var out indexes
	for _, iv := range all {
		if n := len(out); n > 0 && iv.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, iv.last)
			continue
		}
		out = append(out, iv)
	}
	*x = out
}

// indexOf reads a pod's completion index, -1 if it has none.
func indexOf(p *corev1.Pod) int {
	i, err := strconv.Atoi(p.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil {
		return -1
	}
	return i
}

package plan

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/selection"
)

// labelPair is a label that a selector demands.
type labelPair struct{ key, value string }

// pair returns a label that every pod which the matcher matches has; false if it demands none.
func (m *podMatcher) pair() (labelPair, bool) {
	requirements, selectable := m.selector.Requirements()
	if !selectable {
		return labelPair{}, false
	}
	for _, r := range requirements {
		switch r.Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals:
			if values := r.Values(); values.Len() == 1 {
				return labelPair{r.Key(), values.UnsortedList()[0]}, true
			}
		}
	}
	return labelPair{}, false
}

// matcherIndex finds the entries that may match a pod by the pod's labels, so that a pod is not compared with what thousands of
// other applications say.
type matcherIndex[E interface{ order() uint64 }] struct {
	byPair map[labelPair][]E
	// rest demand no label.
	rest []E
}

func newMatcherIndex[E interface{ order() uint64 }]() *matcherIndex[E] {
	return &matcherIndex[E]{byPair: map[labelPair][]E{}}
}

func (x *matcherIndex[E]) add(m *podMatcher, e E) {
	if p, ok := m.pair(); ok {
		x.byPair[p] = append(x.byPair[p], e)
		return
	}
	x.rest = append(x.rest, e)
}

func (x *matcherIndex[E]) remove(m *podMatcher, e E) {
	same := func(other E) bool { return other.order() == e.order() }
	p, ok := m.pair()
	if !ok {
		x.rest = slices.DeleteFunc(x.rest, same)
		return
	}
	if x.byPair[p] = slices.DeleteFunc(x.byPair[p], same); len(x.byPair[p]) == 0 {
		delete(x.byPair, p)
	}
}

// candidates appends the entries that may match the pod to out, in their order.
func (x *matcherIndex[E]) candidates(pod *corev1.Pod, out []E) []E {
	out = append(out, x.rest...)
	for key, value := range pod.Labels {
		out = append(out, x.byPair[labelPair{key, value}]...)
	}
	slices.SortFunc(out, func(a, b E) int { return cmp.Compare(a.order(), b.order()) })
	return out
}

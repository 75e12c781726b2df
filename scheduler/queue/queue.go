// Package queue holds the pods that wait for a node. It is pure: the time is an argument.
//
// A pod is in one of three places. Active: to be decided on, highest priority first, then first come, first served. Backing off:
// to become active when its pause is over, 1 s after the first attempt and doubling to 10 s. Parked: no node would do, and
// nothing has happened since that could change that; Wake moves those out that something has happened for, and after five
// minutes a parked pod is tried again in any case.
package queue

import (
	"container/heap"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/scheduler/plan"
)

// The pauses of kube-scheduler.
const (
	initialBackoff = 1 * time.Second
	maxBackoff     = 10 * time.Second
	maxParked      = 5 * time.Minute
)

// Item is one waiting pod.
type Item struct {
	Pod *corev1.Pod
	// Added is when the pod was first seen, Attempts how often it was decided on since.
	Added    time.Time
	Attempts int
	// Plugins rejected it last.
	Plugins plan.Plugin

	place place
	// due is when a pause ends or, parked, when the pod is tried again in any case.
	due time.Time
	// retryAt is when the pause after the last attempt ends.
	retryAt time.Time
	seq     uint64
	index   int
}

type place int

const (
	nowhere place = iota
	active
	backingOff
	parked
)

// Queue is the waiting pods. It is used by one goroutine at a time.
type Queue struct {
	items  map[types.UID]*Item
	active byPriority
	paused byTime
	parked byTime
	seq    uint64
}

// New returns an empty queue.
func New() *Queue {
	return &Queue{items: map[types.UID]*Item{}}
}

// Add makes a pod active: a new one, or one that was changed so that it may be schedulable now.
func (q *Queue) Add(pod *corev1.Pod, now time.Time) {
	it := q.items[pod.UID]
	if it == nil {
		q.seq++
		it = &Item{Added: now, seq: q.seq, index: -1}
		q.items[pod.UID] = it
	}
	q.take(it)
	it.Pod = pod
	q.activate(it)
}

// Replace takes over a waiting pod's new state without moving it; false if it is not here.
func (q *Queue) Replace(pod *corev1.Pod) bool {
	it := q.items[pod.UID]
	if it == nil {
		return false
	}
	it.Pod = pod
	if it.place == active {
		heap.Fix(&q.active, it.index)
	}
	return true
}

// Delete forgets a pod wherever it is.
func (q *Queue) Delete(uid types.UID) {
	if it := q.items[uid]; it != nil {
		q.take(it)
		delete(q.items, uid)
	}
}

// Pop removes up to max active pods, the most urgent first. They stay forgotten until Park or Retry takes them back.
func (q *Queue) Pop(now time.Time, max int) []*Item {
	q.release(now)
	var out []*Item
	for len(out) < max && len(q.active) > 0 {
		it := heap.Pop(&q.active).(*Item)
		it.place = nowhere
		delete(q.items, it.Pod.UID)
		it.Attempts++
		out = append(out, it)
	}
	return out
}

// release activates what has waited long enough.
func (q *Queue) release(now time.Time) {
	for len(q.paused) > 0 && !q.paused[0].due.After(now) {
		q.activate(heap.Pop(&q.paused).(*Item))
	}
	for len(q.parked) > 0 && !q.parked[0].due.After(now) {
		q.activate(heap.Pop(&q.parked).(*Item))
	}
}

// Park takes back a popped pod that no node would take.
func (q *Queue) Park(it *Item, plugins plan.Plugin, now time.Time) {
	q.items[it.Pod.UID] = it
	it.Plugins, it.place, it.due, it.retryAt = plugins, parked, now.Add(maxParked), now.Add(pause(it.Attempts))
	heap.Push(&q.parked, it)
}

// Retry takes back a popped pod that something went wrong with, to be tried again after its pause.
func (q *Queue) Retry(it *Item, now time.Time) {
	q.items[it.Pod.UID] = it
	it.retryAt = now.Add(pause(it.Attempts))
	q.backOff(it)
}

// Wake moves the parked pods that may be schedulable now out: at once, or when their pause is over. It returns how many.
func (q *Queue) Wake(now time.Time, may func(*Item) bool) int {
	n := 0
	for _, it := range slices.Clone(q.parked) {
		if !may(it) {
			continue
		}
		n++
		q.take(it)
		if it.retryAt.After(now) {
			q.backOff(it)
		} else {
			q.activate(it)
		}
	}
	return n
}

// NextDue is when a pod becomes active by the time alone; false if none will.
func (q *Queue) NextDue() (time.Time, bool) {
	var next time.Time
	if len(q.paused) > 0 {
		next = q.paused[0].due
	}
	if len(q.parked) > 0 && (next.IsZero() || q.parked[0].due.Before(next)) {
		next = q.parked[0].due
	}
	return next, !next.IsZero()
}

// Len returns how many pods are active, backing off and parked.
func (q *Queue) Len() (active, backingOff, parked int) {
	return len(q.active), len(q.paused), len(q.parked)
}

// Waiting tells whether any pod is parked.
func (q *Queue) Waiting() bool { return len(q.parked) > 0 }

func (q *Queue) activate(it *Item) {
	it.place = active
	heap.Push(&q.active, it)
}

func (q *Queue) backOff(it *Item) {
	it.place, it.due = backingOff, it.retryAt
	heap.Push(&q.paused, it)
}

// take removes an item from its place, not from the queue.
func (q *Queue) take(it *Item) {
	switch it.place {
	case active:
		heap.Remove(&q.active, it.index)
	case backingOff:
		heap.Remove(&q.paused, it.index)
	case parked:
		heap.Remove(&q.parked, it.index)
	}
	it.place = nowhere
}

// pause is how long a pod waits after its n-th attempt.
func pause(n int) time.Duration {
	d := initialBackoff
	for ; n > 1 && d < maxBackoff; n-- {
		d *= 2
	}
	return min(d, maxBackoff)
}

// byPriority orders active pods.
type byPriority []*Item

func (h byPriority) Len() int { return len(h) }
func (h byPriority) Less(i, j int) bool {
	if a, b := priority(h[i].Pod), priority(h[j].Pod); a != b {
		return a > b
	}
	return h[i].seq < h[j].seq
}
func (h byPriority) Swap(i, j int) { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }
func (h *byPriority) Push(x any)   { it := x.(*Item); it.index = len(*h); *h = append(*h, it) }
func (h *byPriority) Pop() any     { it := (*h)[len(*h)-1]; *h = (*h)[:len(*h)-1]; return it }

// byTime orders paused and parked pods.
type byTime []*Item

func (h byTime) Len() int           { return len(h) }
func (h byTime) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h byTime) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }
func (h *byTime) Push(x any)        { it := x.(*Item); it.index = len(*h); *h = append(*h, it) }
func (h *byTime) Pop() any          { it := (*h)[len(*h)-1]; *h = (*h)[:len(*h)-1]; return it }

func priority(pod *corev1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}

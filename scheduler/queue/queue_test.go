package queue_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/scheduler/plan"
	"bareboat.dev/scheduler/queue"
)

func pod(name string, priority int32) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}, Spec: corev1.PodSpec{Priority: &priority}}
}

func names(items []*queue.Item) string {
	var out []string
	for _, it := range items {
		out = append(out, it.Pod.Name)
	}
	return strings.Join(out, " ")
}

func at(seconds int) time.Time { return time.Unix(1_000_000+int64(seconds), 0) }

// Shows the order of active pods: priority first, then arrival; a changed pod keeps its place in line.
func TestOrder(t *testing.T) {
	q := queue.New()
	for i, p := range []int32{0, 5, 0, 7, 5} {
		q.Add(pod(fmt.Sprint("p", i), p), at(i))
	}
	q.Add(pod("p0", 0), at(9))
	q.Replace(pod("p2", 9))
	q.Delete("p1")
	if got := names(q.Pop(at(10), 3)) + " " + names(q.Pop(at(10), 9)); got != "p2 p3 p4 p0" {
		t.Errorf("order: %s", got)
	}
}

// Shows that pauses double from one second to ten, and that waking a pod does not shorten its pause.
func TestPauses(t *testing.T) {
	q, now := queue.New(), 0
	q.Add(pod("p", 0), at(0))
	var pauses []int
	for range 6 {
		it := q.Pop(at(now), 1)[0]
		q.Park(it, plan.NodeResourcesFit, at(now))
		if n := q.Wake(at(now), func(*queue.Item) bool { return true }); n != 1 {
			t.Fatalf("woken: %d", n)
		}
		due, ok := q.NextDue()
		if !ok || len(q.Pop(due.Add(-time.Nanosecond), 1)) != 0 {
			t.Fatalf("due %v, %v", due, ok)
		}
		pauses = append(pauses, int(due.Sub(at(now))/time.Second))
		now += pauses[len(pauses)-1]
	}
	if fmt.Sprint(pauses) != "[1 2 4 8 10 10]" {
		t.Errorf("pauses: %v", pauses)
	}
}

// Shows that a parked pod stays until it is woken, changed, or five minutes have passed.
func TestParked(t *testing.T) {
	q := queue.New()
	park := func(name string) {
		q.Add(pod(name, 0), at(0))
		q.Park(q.Pop(at(0), 1)[0], plan.NodeAffinity, at(0))
	}
	for _, name := range []string{"woken", "changed", "waiting", "gone"} {
		park(name)
	}
	q.Wake(at(5), func(it *queue.Item) bool { return it.Pod.Name == "woken" && it.Plugins == plan.NodeAffinity })
	q.Add(pod("changed", 0), at(5))
	q.Delete("gone")
	if a, b, p := q.Len(); a != 2 || b != 0 || p != 1 {
		t.Errorf("active %d, backing off %d, parked %d", a, b, p)
	}
	if got := names(q.Pop(at(5), 9)); got != "woken changed" {
		t.Errorf("after waking: %s", got)
	}
	if got := names(q.Pop(at(299), 9)); got != "" {
		t.Errorf("before five minutes: %s", got)
	}
	if got := names(q.Pop(at(300), 9)); got != "waiting" {
		t.Errorf("after five minutes: %s", got)
	}
}

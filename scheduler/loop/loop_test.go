package loop_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
	"bareboat.dev/scheduler/loop"
)

// rig is a model server with a scheduler.
type rig struct {
	t *testing.T
	s *clienttest.Server
}

// story runs f with a server; what it starts must have ended when it returns.
func story(t *testing.T, f func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) { f(t, &rig{t, clienttest.NewServer(t)}) })
}

// scheduler runs a leading scheduler until the returned function is called.
func (r *rig) scheduler() (stop func()) {
	sched := loop.New(loop.Config{Client: r.s.NewClient()})
	ctx, cancel := context.WithCancel(r.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := sched.Run(ctx); err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
	wg.Go(func() { sched.Lead(ctx) })
	return func() { cancel(); wg.Wait() }
}

func (r *rig) node(name string, pods int) {
	clienttest.Put(r.s, client.Nodes(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi"), "pods": *resource.NewQuantity(int64(pods), resource.DecimalSI),
		}},
	})
}

func (r *rig) create(names ...string) {
	r.t.Helper()
	for _, name := range names {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "x"}}}
		pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
		if _, err := client.Of(r.s.Client(), client.Pods()).Create(r.t.Context(), pod); err != nil {
			r.t.Fatal(err)
		}
	}
}

// where lists "pod=node" of all pods, in the order of their names.
func (r *rig) where() string {
	r.t.Helper()
	pods, _, err := client.Of(r.s.Client(), client.Pods()).List(r.t.Context(), "", client.ListOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, p := range pods {
		out = append(out, p.Name+"="+p.Spec.NodeName)
	}
	return strings.Join(out, " ")
}

func (r *rig) expect(want string) {
	r.t.Helper()
	if got := r.where(); got != want {
		r.t.Errorf("pods: %s\nwant: %s", got, want)
	}
}

func numbered(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("p%04d", i))
	}
	return out
}

// Shows that waiting pods are bound, evenly, and that Scheduled events tell where.
func TestBinds(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		r.node("a", 10)
		r.node("b", 10)
		stop := r.scheduler()
		r.create("p1", "p2", "p3", "p4")
		time.Sleep(time.Second)
		on := map[string]int{}
		for _, part := range strings.Fields(r.where()) {
			on[strings.Split(part, "=")[1]]++
		}
		if on["a"] != 2 || on["b"] != 2 {
			t.Errorf("pods by node: %v", on)
		}
		evs, _, err := client.Of(r.s.Client(), client.Events()).List(t.Context(), "default", client.ListOptions{FieldSelector: "reason=Scheduled"})
		if err != nil || len(evs) != 4 || !strings.HasPrefix(evs[0].Message, "Successfully assigned default/p1 to ") {
			t.Errorf("events: %v, %v", evs, err)
		}
		stop()
	})
}

// Shows that a pod without a node is told why, in its condition and an event, and is bound as soon as room is made: by a node that
// comes, and by a pod that goes.
func TestWaitsForRoom(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		r.node("a", 1)
		stop := r.scheduler()
		r.create("p1")
		time.Sleep(time.Second)
		r.create("p2", "p3")
		time.Sleep(5 * time.Second)
		r.expect("p1=a p2= p3=")
		pod, err := client.Of(r.s.Client(), client.Pods()).Get(t.Context(), "default", "p2")
		if err != nil || len(pod.Status.Conditions) != 1 {
			t.Fatal(pod, err)
		}
		why := "0/1 nodes are available: 1 Too many pods."
		if c := pod.Status.Conditions[0]; c.Type != "PodScheduled" || c.Status != "False" || c.Reason != "Unschedulable" || c.Message != why {
			t.Errorf("condition: %+v", c)
		}
		evs, _, err := client.Of(r.s.Client(), client.Events()).List(t.Context(), "default", client.ListOptions{FieldSelector: "reason=FailedScheduling,involvedObject.name=p2"})
		if err != nil || len(evs) != 1 || evs[0].Message != why || evs[0].Type != "Warning" {
			t.Errorf("events: %v, %v", evs, err)
		}
		revision := r.s.Revision()
		time.Sleep(time.Minute)
		if r.s.Revision() != revision {
			t.Error("something was written although nothing happened")
		}
		r.node("b", 1)
		time.Sleep(time.Second)
		r.expect("p1=a p2=b p3=")
		if err := client.Of(r.s.Client(), client.Pods()).Delete(t.Context(), "default", "p1", client.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // the pause after p3's second attempt
		r.expect("p2=b p3=a")
		stop()
	})
}

// Shows that what an unrelated change cannot help is left alone.
func TestWakesOnlyWhatItHelps(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		r.node("a", 0)
		stop := r.scheduler()
		r.create("p1")
		time.Sleep(20 * time.Second)
		asked := 0
		r.s.Fail(func(method string, _ *apiv1.ResourceRef) error {
			if method == "Batch" {
				asked++
			}
			return nil
		})
		clienttest.Put(r.s, client.Nodes(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "full"}, Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{"cpu": resource.MustParse("1")}}})
		time.Sleep(20 * time.Second)
		if asked != 0 {
			t.Errorf("%d requests for a node that takes no pods", asked)
		}
		stop()
	})
}

// Shows that pods with scheduling gates, of other schedulers, or under deletion are left alone, until the gates go.
func TestLeavesAlone(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		r.node("a", 10)
		stop := r.scheduler()
		pods := client.Of(r.s.Client(), client.Pods())
		gated := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "gated"}, Spec: corev1.PodSpec{SchedulingGates: []corev1.PodSchedulingGate{{Name: "x"}}}}
		other := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "other"}, Spec: corev1.PodSpec{SchedulerName: "mine"}}
		for _, p := range []*corev1.Pod{gated, other} {
			if _, err := pods.Create(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		r.expect("gated= other=")
		if _, err := pods.Patch(t.Context(), "default", "gated", client.MergePatch, []byte(`{"spec":{"schedulingGates":null}}`), client.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		r.expect("gated=a other=")
		stop()
	})
}

// Shows that failing bindings are tried again until they succeed, and that no node ever gets more than it takes.
func TestBindingFails(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		for i := range 10 {
			r.node(fmt.Sprintf("n%d", i), 10)
		}
		n := 0
		r.s.Fail(func(method string, ref *apiv1.ResourceRef) error {
			if method == "Create" && ref.GetSubresource() == "binding" {
				if n++; n%3 == 0 {
					return status.Error(codes.Unavailable, "injected")
				}
			}
			if method == "Batch" {
				if n++; n%7 == 0 {
					return status.Error(codes.Unavailable, "injected")
				}
			}
			return nil
		})
		stop := r.scheduler()
		r.create(numbered(100)...)
		time.Sleep(2 * time.Minute)
		r.full(100, 10)
		stop()
	})
}

// full checks that all pods are bound, at most max to a node.
func (r *rig) full(pods, max int) {
	r.t.Helper()
	on, unbound := map[string]int{}, 0
	for _, part := range strings.Fields(r.where()) {
		if _, node, _ := strings.Cut(part, "="); node == "" {
			unbound++
		} else if on[node]++; on[node] > max {
			r.t.Errorf("node %s has more than %d pods", node, max)
		}
	}
	if unbound > 0 {
		r.t.Errorf("%d of %d pods unbound", unbound, pods)
	}
}

// Shows that killing schedulers at any time, and two at once, lose and double nothing: bindings are made once per pod.
func TestRestartsAndRivals(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		for i := range 20 {
			r.node(fmt.Sprintf("n%d", i), 50)
		}
		stop := r.scheduler()
		for i, name := range numbered(600) {
			r.create(name)
			switch {
			case i%150 == 70:
				stop()
				stop = r.scheduler()
			case i == 300:
				rival := r.scheduler()
				defer rival()
			}
		}
		time.Sleep(time.Minute)
		stop()
		r.full(600, 50)
	})
}

// Shows that a more important pod has less important ones deleted, waits for them in the room that is kept for it, and goes there;
// that nobody else gets the room meanwhile; and that no more pods are deleted than needed although it is decided on again.
func TestPreempts(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		r.node("a", 2)
		stop := r.scheduler()
		pods := client.Of(r.s.Client(), client.Pods())
		create := func(name string, priority int32) {
			t.Helper()
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{Priority: &priority}}
			if _, err := pods.Create(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		create("low", 1)
		create("mid", 5)
		create("high", 9)
		r.expect("high= low=a mid=a")
		create("rival", 5) // decided on while low is still terminating
		low, err := pods.Get(t.Context(), "default", "low")
		if err != nil || low.DeletionTimestamp == nil || !strings.Contains(r.s.Dump(), `"reason":"PreemptionByScheduler"`) {
			t.Errorf("victim: %+v, %v", low, err)
		}
		high, err := pods.Get(t.Context(), "default", "high")
		if err != nil || high.Status.NominatedNodeName != "a" {
			t.Errorf("preemptor: %+v, %v", high.Status, err)
		}
		r.node("b", 0) // news that does not help
		time.Sleep(20 * time.Second)
		r.expect("high= low=a mid=a rival=")
		if err := pods.Delete(t.Context(), "default", "low", client.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil { // as the kubelet does at the end
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		r.expect("high=a mid=a rival=")
		mid, err := pods.Get(t.Context(), "default", "mid")
		if err != nil || mid.DeletionTimestamp != nil {
			t.Errorf("bystander: %+v, %v", mid, err)
		}
		stop()
	})
}

// Shows that a deletion that failed is made soon again: the pod that room is made for does not wait for news that nobody will bring.
func TestPreemptsAfterFailure(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		r.node("a", 1)
		stop := r.scheduler()
		pods := client.Of(r.s.Client(), client.Pods())
		create := func(name string, priority int32) {
			t.Helper()
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{Priority: &priority}}
			if _, err := pods.Create(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		create("low", 1)
		var failed atomic.Int32
		r.s.Fail(func(method string, _ *apiv1.ResourceRef) error {
			if method == "Delete" && failed.Add(1) == 1 {
				return status.Error(codes.Unavailable, "the server is going away")
			}
			return nil
		})
		create("high", 9)
		time.Sleep(20 * time.Second)
		low, err := pods.Get(t.Context(), "default", "low")
		if err != nil || low.DeletionTimestamp == nil || failed.Load() != 2 {
			t.Errorf("victim after %d deletions: %+v, %v", failed.Load(), low, err)
		}
		stop()
	})
}

// Shows that liveness is the deciding goroutine's own answer: there is none before it runs and after it has ended.
func TestAlive(t *testing.T) {
	story(t, func(t *testing.T, r *rig) {
		alive := func(s *loop.Scheduler) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return s.Alive(ctx)
		}
		sched := loop.New(loop.Config{Client: r.s.NewClient()})
		if err := alive(sched); !errors.Is(err, loop.ErrStuck) {
			t.Errorf("before it runs: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- sched.Run(ctx) }()
		if err := alive(sched); err != nil {
			t.Errorf("while it runs: %v", err)
		}
		cancel()
		<-done
		if err := alive(sched); !errors.Is(err, loop.ErrStuck) {
			t.Errorf("after its end: %v", err)
		}
	})
}

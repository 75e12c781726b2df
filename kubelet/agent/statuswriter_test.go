package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// writerFixture is a status writer on a model server, with one bound pod.
func writerFixture(t *testing.T) (*clienttest.Server, *statusWriter, *worker, *corev1.Pod) {
	t.Helper()
	s := clienttest.NewServer(t)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: corev1.PodSpec{NodeName: "n"}}
	p, err := client.Of(s.Client(), client.Pods()).Create(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{Deps: Deps{Client: s.Client(), Log: slog.New(slog.DiscardHandler)}, ctx: context.Background()}
	a.writer = newStatusWriter(a)
	return s, a.writer, newWorker(a, p), p
}

func runWriter(t *testing.T, s *statusWriter) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// awaitPod waits until the stored pod is as wanted.
func awaitPod(t *testing.T, s *clienttest.Server, ok func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for e, err := range client.Of(s.Client(), client.Pods()).Watch(ctx, "ns", client.WatchOptions{}) {
		if err != nil {
			break
		}
		if e.Object != nil && ok(e.Object) {
			return e.Object
		}
	}
	t.Fatal("the status was not written")
	return nil
}

func running(phase corev1.PodPhase) corev1.PodStatus {
	return corev1.PodStatus{Phase: phase, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
}

// TestStatusSurvivesConflicts shows that a write on a stale view is made again on the fresh one, and keeps the conditions that
// others have written meanwhile.
func TestStatusSurvivesConflicts(t *testing.T) {
	server, s, w, p := writerFixture(t)
	other := p.DeepCopy()
	other.Status.Conditions = []corev1.PodCondition{{Type: "example.com/gate", Status: corev1.ConditionTrue}}
	if _, err := client.Of(server.Client(), client.Pods()).UpdateStatus(context.Background(), other); err != nil {
		t.Fatal(err)
	}
	s.want(w, p, running(corev1.PodRunning), false) // p is stale by now
	runWriter(t, s)
	got := awaitPod(t, server, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	if len(got.Status.Conditions) != 2 {
		t.Errorf("conditions are %v", got.Status.Conditions)
	}
}

// TestOnlyTheNewestIsWritten shows that statuses that come while the API is away are not queued: the last one is written.
func TestOnlyTheNewestIsWritten(t *testing.T) {
	server, s, w, p := writerFixture(t)
	var writes atomic.Int32
	server.Fail(func(method string, _ *apiv1.ResourceRef) error {
		switch {
		case method == "Batch" && writes.Add(1) == 1:
			return status.Error(codes.Unavailable, "down")
		case method == "Update":
			writes.Add(1)
		}
		return nil
	})
	for i := range 10 {
		st := running(corev1.PodPending)
		st.Message = fmt.Sprint(i)
		s.want(w, p, st, false)
	}
	runWriter(t, s)
	awaitPod(t, server, func(p *corev1.Pod) bool { return p.Status.Message == "9" })
	if n := writes.Load(); n != 3 { // a batch that failed, one that did not, one update in it
		t.Errorf("%d requests and writes", n)
	}
}

// TestDeletionIsConfirmedAfterTheLastStatus shows that the object goes only after its final status is stored, and that a pod
// that is another one by now is left alone.
func TestDeletionIsConfirmedAfterTheLastStatus(t *testing.T) {
	server, s, w, p := writerFixture(t)
	pods := client.Of(server.Client(), client.Pods())
	grace := int64(30)
	if err := pods.Delete(context.Background(), "ns", "p", client.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
		t.Fatal(err)
	}
	p, err := pods.Get(context.Background(), "ns", "p")
	if err != nil {
		t.Fatal(err)
	}
	last, from := make(chan corev1.PodPhase, 1), server.Revision()
	go func() {
		for e, err := range pods.Watch(context.Background(), "ns", client.WatchOptions{From: from}) {
			if err != nil {
				return
			}
			if e.Type == client.Deleted {
				last <- e.Object.Status.Phase
				return
			}
		}
	}()
	s.want(w, p, running(corev1.PodSucceeded), true)
	runWriter(t, s)
	select {
	case phase := <-last:
		if phase != corev1.PodSucceeded {
			t.Errorf("the object went with phase %q", phase)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the deletion was not confirmed")
	}
}

package agent

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/client"
)

// statusWriter reports statuses to the API and confirms deletions. One batch is under way at a time; what changes
// meanwhile goes into the next. Only the newest status of a pod is ever written.
type statusWriter struct {
	a    *Agent
	kick chan struct{}

	mu      sync.Mutex
	entries map[*worker]*statusEntry
	dirty   map[*worker]bool
}

// statusEntry is what the API has and what it should have of one pod.
type statusEntry struct {
	// base is the newest state of the object that is known here.
	base *corev1.Pod
	want corev1.PodStatus
	// confirm says that the object may go: nothing of the pod is left.
	confirm bool
	wanted  bool
}

func newStatusWriter(a *Agent) *statusWriter {
	return &statusWriter{a: a, kick: make(chan struct{}, 1), entries: map[*worker]*statusEntry{}, dirty: map[*worker]bool{}}
}

// want asks for a status to be written, and for the deletion to be confirmed after it.
func (s *statusWriter) want(w *worker, p *corev1.Pod, status corev1.PodStatus, confirm bool) {
	s.mu.Lock()
	e := s.entryLocked(w, p)
	e.want, e.confirm, e.wanted = status, confirm, true
	dirty := e.confirm || !s.reportedLocked(e)
	if dirty {
		s.dirty[w] = true
	}
	s.mu.Unlock()
	if dirty {
		s.nudge()
	}
}

// observed takes in a newer state of the object.
func (s *statusWriter) observed(w *worker, p *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entryLocked(w, p)
	if newer(p, e.base) {
		e.base = p
	}
}

func (s *statusWriter) entryLocked(w *worker, p *corev1.Pod) *statusEntry {
	e := s.entries[w]
	if e == nil {
		e = &statusEntry{base: p}
		s.entries[w] = e
	}
	return e
}

// newer says whether a is a later state of the object than b.
func newer(a, b *corev1.Pod) bool {
	if len(a.ResourceVersion) != len(b.ResourceVersion) {
		return len(a.ResourceVersion) > len(b.ResourceVersion)
	}
	return a.ResourceVersion > b.ResourceVersion
}

func (s *statusWriter) forget(w *worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, w)
	delete(s.dirty, w)
}

func (s *statusWriter) nudge() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// reportedLocked says whether the API has the wanted status.
func (s *statusWriter) reportedLocked(e *statusEntry) bool {
	return equality.Semantic.DeepEqual(e.base.Status, *e.merged())
}

// merged is the wanted status with the conditions that others own, and the claims that were made for the pod.
func (e *statusEntry) merged() *corev1.PodStatus {
	st := e.want.DeepCopy()
	st.Conditions = mergeConditions(st.Conditions, e.base.Status.Conditions)
	st.ResourceClaimStatuses, st.ExtendedResourceClaimStatus = e.base.Status.ResourceClaimStatuses, e.base.Status.ExtendedResourceClaimStatus
	return st
}

// writeRetry is the pause after a batch that the API did not take.
const writeRetry = time.Second

// run writes until ctx ends.
func (s *statusWriter) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.kick:
		}
		for s.flush(ctx) {
			timer := time.NewTimer(writeRetry)
			select {
			case <-ctx.Done():
				timer.Stop()
				return nil
			case <-timer.C:
			}
		}
	}
}

// job is one pod's part of a batch.
type job struct {
	w *worker
	e *statusEntry
	// confirm says that the operation is the object's deletion, not a write of its status.
	confirm bool
}

// flush writes what is wanted, in one batch, and says whether some of it must be tried again after a pause.
func (s *statusWriter) flush(ctx context.Context) (again bool) {
	jobs, ops := s.gather()
	if len(ops) == 0 {
		return false
	}
	results, err := s.a.Client.Batch(ctx, ops...)
	if err != nil && ctx.Err() == nil {
		s.a.Log.Warn("pod statuses were not written", "pods", len(jobs), "error", err)
	}
	for i, r := range results {
		if s.settle(ctx, jobs[i], r) {
			again = true
		}
	}
	return again
}

// gather turns what is dirty into operations.
func (s *statusWriter) gather() (jobs []job, ops []client.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.dirty {
		delete(s.dirty, w)
		e := s.entries[w]
		if e == nil || !e.wanted {
			continue
		}
		switch {
		case !s.reportedLocked(e):
			p := *e.base
			p.Status = *e.merged()
			jobs, ops = append(jobs, job{w, e, false}), append(ops, client.UpdateStatusOp(client.Pods(), &p))
		case e.confirm:
			now := int64(0)
			jobs = append(jobs, job{w, e, true})
			ops = append(ops, client.DeleteOp(client.Pods(), e.base.Namespace, e.base.Name,
				client.DeleteOptions{GracePeriodSeconds: &now, UID: string(e.base.UID)}))
		}
	}
	return jobs, ops
}

// settle takes the result of one operation in, and says whether the pod is to be tried again after a pause.
func (s *statusWriter) settle(ctx context.Context, j job, r client.OpResult) (again bool) {
	switch {
	case r.Err == nil && j.confirm:
		return false
	case r.Err == nil:
		s.written(j, r)
		return false
	case apierrors.IsNotFound(r.Err):
		j.w.unknown(j.e.base)
		return false
	case apierrors.IsConflict(r.Err):
		return s.reread(ctx, j)
	}
	s.mu.Lock()
	s.dirty[j.w] = true
	s.mu.Unlock()
	if !client.IsUnavailable(r.Err) && ctx.Err() == nil {
		s.a.Log.Warn("pod status was not written", "pod", podKey(j.e.base), "error", r.Err)
	}
	return true
}

// written notes what the API has now, and goes on with what changed meanwhile.
func (s *statusWriter) written(j job, r client.OpResult) {
	p, err := client.Pods().Decode(r.Object)
	s.mu.Lock()
	if err == nil && newer(p, j.e.base) {
		j.e.base = p
	}
	more := j.e.confirm || !s.reportedLocked(j.e)
	if more && s.entries[j.w] == j.e {
		s.dirty[j.w] = true
	}
	s.mu.Unlock()
	if more {
		s.nudge()
	}
}

// reread gets the object's newest state after a conflict. A pod that is another one by now is gone.
func (s *statusWriter) reread(ctx context.Context, j job) (again bool) {
	p, err := client.Of(s.a.Client, client.Pods()).Get(ctx, j.e.base.Namespace, j.e.base.Name)
	if apierrors.IsNotFound(err) || err == nil && p.UID != j.e.base.UID {
		j.w.unknown(j.e.base)
		return false
	}
	s.mu.Lock()
	if err == nil {
		j.e.base = p
	}
	s.dirty[j.w] = true
	s.mu.Unlock()
	s.nudge()
	return err != nil
}

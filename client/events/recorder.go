// Package events records core/v1 Events about objects, as kubectl describe shows them.
//
// The contract: recording never blocks and never fails; what the queue or an object's rate cannot take is dropped and
// counted. Events that say the same thing of the same object are one Event whose count and lastTimestamp grow. Events are
// written in batches.
//
//	rec := events.NewRecorder(c, "default-scheduler", "")
//	go rec.Run(ctx)
//	rec.Event(pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, node)
package events

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
)

const (
	// queueSize bounds events waiting to be written: a burst of 5,000 scheduled pods fits twice, at about 300 bytes each 3 MiB.
	queueSize = 10_000
	// batchSize is how many events are written in one request.
	batchSize = 500
	// gatherTime is how long the writer lets events gather before it writes, so that a burst makes few requests.
	gatherTime = 50 * time.Millisecond
	// flushTime bounds how long Run goes on writing what was recorded when ctx ends: a full queue is 20 requests, and a server
	// that does not answer must not hold a daemon up.
	flushTime = 2 * time.Second
)

// Recorder records events about objects.
type Recorder struct {
	c      *client.Client
	source corev1.EventSource
	log    *slog.Logger

	mu      sync.Mutex
	known   *correlator
	pending []occurrence
	stamp   int64 // newest used
	wake    chan struct{}

	dropped atomic.Int64
}

// occurrence is one call of Event, waiting to be written.
type occurrence struct {
	id  identity
	obj corev1.ObjectReference
	at  time.Time
	// stamp makes the name of the event: at in nanoseconds, or more if that is taken.
	stamp int64
}

// NewRecorder makes a recorder for the events of one component; host may be empty for the machine's own name. Events are
// kept until Run is called.
func NewRecorder(c *client.Client, component, host string) *Recorder {
	if host == "" {
		host, _ = os.Hostname()
	}
	return &Recorder{
		c: c, source: corev1.EventSource{Component: component, Host: host}, log: slog.New(slog.DiscardHandler),
		known: newCorrelator(), wake: make(chan struct{}, 1),
	}
}

// SetLog makes the recorder report events that could not be written. Call it before Run.
func (r *Recorder) SetLog(log *slog.Logger) { r.log = log }

// Event records that something happened to obj. eventtype is corev1.EventTypeNormal or EventTypeWarning, reason a short
// upper-camel-case word, and the message is formatted as by fmt.Sprintf.
func (r *Recorder) Event(obj client.Object, eventtype, reason, messageFmt string, args ...any) {
	r.EventRef(Reference(obj), eventtype, reason, messageFmt, args...)
}

// EventRef is Event for an object that only its reference is known of, or for a part of one (FieldPath).
func (r *Recorder) EventRef(ref corev1.ObjectReference, eventtype, reason, messageFmt string, args ...any) {
	message := messageFmt
	if len(args) > 0 {
		message = fmt.Sprintf(messageFmt, args...)
	}
	o := occurrence{id: identityOf(ref, eventtype, reason, message), obj: ref, at: time.Now()}
	r.mu.Lock()
	full := len(r.pending) >= queueSize
	admitted := !full && r.known.admit(ref, r.source.Component, o.at)
	if admitted {
		r.stamp = max(r.stamp+1, o.at.UnixNano())
		o.stamp = r.stamp
		r.pending = append(r.pending, o)
	}
	r.mu.Unlock()
	if !admitted {
		r.dropped.Add(1)
		return
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Dropped returns how many events were not recorded because of a limit.
func (r *Recorder) Dropped() int64 { return r.dropped.Load() }

// Run writes events until ctx ends, then those that are left, for a moment, and then returns nil.
func (r *Recorder) Run(ctx context.Context) error {
	writing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	context.AfterFunc(ctx, func() {
		limit := time.NewTimer(flushTime)
		defer limit.Stop()
		select {
		case <-limit.C:
			cancel()
		case <-writing.Done():
		}
	})
	for ctx.Err() == nil {
		select {
		case <-r.wake:
		case <-ctx.Done():
		}
		timer := time.NewTimer(gatherTime)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		for batch := r.take(); len(batch) > 0 && writing.Err() == nil; batch = r.take() {
			r.write(writing, batch)
		}
	}
	return nil
}

// take removes the next events to write from the queue.
func (r *Recorder) take() []occurrence {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.pending), batchSize)
	batch := r.pending[:n:n]
	r.pending = r.pending[n:]
	if len(r.pending) == 0 {
		r.pending = nil
	}
	return batch
}

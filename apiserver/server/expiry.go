package server

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/watchcache"
)

const (
	// eventTTL is how long an Event is kept after its last change, as with kube-apiserver's --event-ttl.
	eventTTL = time.Hour
	// expireEvery is how often expired Events are removed, so one lives at most this much too long.
	expireEvery = time.Minute
	// expireBatch bounds how many are removed at a time.
	expireBatch = pipeline.MaxBatch
)

// expire removes Events that nobody has touched for eventTTL. All servers of a cluster do so; a deletion that another was
// faster with finds nothing, and one of an Event that changed meanwhile fails its precondition.
func (s *Server) expire(ctx context.Context) error {
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.expireOnce(ctx, s.cfg.Now()); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("removing expired events failed", "error", err)
		}
	}
}

func (s *Server) expireOnce(ctx context.Context, now time.Time) error {
	events, err := s.pipeline.Select(ctx, "", "events", watchcache.Query{}, false)
	if err != nil {
		return err
	}
	var requests []*pipeline.Request
	for _, obj := range events {
		e, ok := obj.(*corev1.Event)
		if !ok || now.Sub(lastSeen(e)) < eventTTL {
			continue
		}
		r := &pipeline.Request{
			Verb: pipeline.Delete, Caller: pipeline.System(),
			Ref: pipeline.Ref{Version: "v1", Resource: "events", Namespace: e.Namespace, Name: e.Name},
		}
		version, uid := e.ResourceVersion, e.UID
		r.Delete.Preconditions = &metav1.Preconditions{UID: &uid, ResourceVersion: &version}
		if requests = append(requests, r); len(requests) == expireBatch {
			break
		}
	}
	_, errs := s.pipeline.Batch(ctx, requests)
	for _, err := range errs {
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return err
		}
	}
	return nil
}

// lastSeen is the newest of an Event's times.
func lastSeen(e *corev1.Event) time.Time {
	t := e.CreationTimestamp.Time
	for _, other := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time} {
		if other.After(t) {
			t = other
		}
	}
	if e.Series != nil && e.Series.LastObservedTime.After(t) {
		t = e.Series.LastObservedTime.Time
	}
	return t
}

package events

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
)

// group is what one batch says of one identity.
type group struct {
	occurrence
	last  time.Time
	count int32
}

// write turns occurrences into one operation per identity and sends them: a new Event, or the count of one that exists.
func (r *Recorder) write(ctx context.Context, batch []occurrence) {
	var order []*group
	byID := map[identity]*group{}
	for _, o := range batch {
		g := byID[o.id]
		if g == nil {
			g = &group{occurrence: o}
			byID[o.id] = g
			order = append(order, g)
		}
		g.last, g.count = o.at, g.count+1
	}
	retry := r.send(ctx, order)
	if len(retry) > 0 { // counted up an Event that has expired: write it anew
		r.send(ctx, retry)
	}
}

// send writes the groups and returns those whose Event turned out to be gone.
func (r *Recorder) send(ctx context.Context, groups []*group) (gone []*group) {
	ops := make([]client.Op, len(groups))
	next := make([]*written, len(groups))
	for i, g := range groups {
		ops[i], next[i] = r.operation(g)
	}
	results, err := r.c.BatchOmit(ctx, ops...)
	if err != nil {
		r.log.Warn("events not written", "count", len(groups), "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, res := range results {
		switch {
		case res.Err == nil:
			r.known.events.put(groups[i].id, next[i])
		case apierrors.IsNotFound(res.Err) && next[i].count > groups[i].count:
			r.known.events.remove(groups[i].id)
			gone = append(gone, groups[i])
		default:
			r.dropped.Add(int64(groups[i].count))
		}
	}
	return gone
}

// operation creates the group's Event or patches its count, and returns what is known of it once that succeeded.
func (r *Recorder) operation(g *group) (client.Op, *written) {
	r.mu.Lock()
	w, ok := r.known.events.get(g.id)
	r.mu.Unlock()
	if ok {
		next := &written{w.namespace, w.name, w.first, w.count + g.count}
		return client.PatchOp(client.Events(), w.namespace, w.name, client.MergePatch, countPatch(next.count, g.last), client.PatchOptions{}), next
	}
	ev := r.event(g)
	return client.CreateOp(client.Events(), ev), &written{ev.Namespace, ev.Name, g.at, g.count}
}

func (r *Recorder) event(g *group) *corev1.Event {
	namespace := g.obj.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: namespace, Name: eventName(g.obj.Name, g.stamp)},
		InvolvedObject: g.obj, Type: g.id.eventtype, Reason: g.id.reason, Message: g.id.message, Source: r.source,
		FirstTimestamp: metav1.NewTime(g.at), LastTimestamp: metav1.NewTime(g.last), Count: g.count,
		ReportingController: r.source.Component, ReportingInstance: r.source.Host,
	}
}

// maxNamePrefix keeps an event's name within the 253 bytes of a DNS subdomain, with 17 for the time.
const maxNamePrefix = 253 - 17

// eventName is the object's name and the time in hexadecimal nanoseconds, as Kubernetes names events.
func eventName(object string, stamp int64) string {
	if len(object) > maxNamePrefix {
		object = object[:maxNamePrefix]
	}
	return fmt.Sprintf("%s.%x", object, stamp)
}

func countPatch(count int32, last time.Time) []byte {
	data, err := json.Marshal(struct {
		Count         int32       `json:"count"`
		LastTimestamp metav1.Time `json:"lastTimestamp"`
	}{count, metav1.NewTime(last)})
	if err != nil { // two plain values always encode
		panic(err)
	}
	return data
}

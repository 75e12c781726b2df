package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// EventType is what happened to an object, from the point of view of the watch's selectors.
type EventType int

// The event types.
const (
	// Added: created, or began to match.
	Added EventType = iota + 1
	// Updated: changed, and still matches.
	Updated
	// Deleted: deleted, or stopped matching.
	Deleted
	// Bookmark: nothing happened up to the event's revision; there is no object.
	Bookmark
)

// String returns the type as Kubernetes' watch API spells it.
func (t EventType) String() string {
	switch t {
	case Added:
		return "ADDED"
	case Updated:
		return "MODIFIED"
	case Deleted:
		return "DELETED"
	case Bookmark:
		return "BOOKMARK"
	}
	return fmt.Sprintf("EventType(%d)", int(t))
}

// Event is one event of a watch.
type Event[T Object] struct {
	Type EventType
	// Object is the new state; after Deleted the last matching one, with the resource version of its deletion.
	Object T
	// Revision is where a watch may go on once this event is handled: it misses nothing, though it may repeat events of the
	// same message. 0 within the initial events, which must be asked for again as a whole.
	Revision Revision
	// InitialEnd is set on the Bookmark that ends the initial events.
	InitialEnd bool
}

// Watch streams every matching event after opts.From exactly once and in order. The sequence ends with an error:
// IsExpired when the revision is no longer held, IsUnavailable when the stream broke, the context's error when ctx ended. It
// does not reconnect; use a Mirror for that. Leaving the loop ends the stream.
//
//	for ev, err := range pods.Watch(ctx, "default", client.WatchOptions{}) { … }
func (r *Resource[T]) Watch(ctx context.Context, namespace string, opts WatchOptions) iter.Seq2[Event[T], error] {
	return func(yield func(Event[T], error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		resumable := opts.From
		err := r.stream(ctx, namespace, opts, func(m message[T]) error {
			for i, ev := range m.events {
				ev.Revision = resumable
				if i == len(m.events)-1 {
					ev.Revision, resumable = m.revision, m.revision
				}
				if !yield(ev, nil) {
					return errStop
				}
			}
			if len(m.events) == 0 && m.revision > resumable {
				resumable = m.revision
			}
			return nil
		})
		if !errors.Is(err, errStop) {
			yield(Event[T]{}, err)
		}
	}
}

// errStop ends a stream from its handler.
var errStop = errors.New("stop")

// message is one decoded message of a watch stream.
type message[T Object] struct {
	events []Event[T]
	// revision to resume from after this message; 0 until the initial events are complete.
	revision Revision
}

// stream runs one watch and hands every message to handle, until either returns an error; it never returns nil.
func (r *Resource[T]) stream(ctx context.Context, namespace string, opts WatchOptions, handle func(message[T]) error) error {
	req := &apiv1.WatchRequest{
		Ref: r.kind.Ref(namespace, ""), LabelSelector: opts.LabelSelector, FieldSelector: opts.FieldSelector,
		SendInitialEvents: opts.InitialEvents, AllowBookmarks: opts.Bookmarks || opts.InitialEvents,
	}
	if opts.From > 0 {
		req.ResourceVersion = formatRevision(opts.From)
	}
	stream, err := r.c.resources.Watch(ctx, req)
	if err != nil {
		return FromGRPC(ctx, err)
	}
	decode := r.kind.decoder()
	initial := opts.InitialEvents
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: the server ended the watch", ErrUnavailable)
		}
		if err != nil {
			return FromGRPC(ctx, err)
		}
		m := message[T]{revision: resp.GetRevision(), events: make([]Event[T], 0, len(resp.GetEvents()))}
		for _, wire := range resp.GetEvents() {
			ev := Event[T]{Type: eventType(wire.GetType()), InitialEnd: wire.GetInitialEventsEnd()}
			if ev.Type != Bookmark {
				if ev.Object, err = decode(wire.GetObject()); err != nil {
					return err
				}
			}
			initial = initial && !ev.InitialEnd
			m.events = append(m.events, ev)
		}
		if initial {
			m.revision = 0
		}
		if err := handle(m); err != nil {
			return err
		}
	}
}

func eventType(t apiv1.Event_Type) EventType {
	switch t {
	case apiv1.Event_TYPE_ADDED:
		return Added
	case apiv1.Event_TYPE_MODIFIED:
		return Updated
	case apiv1.Event_TYPE_DELETED:
		return Deleted
	}
	return Bookmark
}

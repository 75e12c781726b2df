package clienttest

import (
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"bareboat.dev/client"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// maxBatch is how many events one message carries: small, so that tests see several messages.
const maxBatch = 50

// Watch implements ResourceService. Fail is asked with the method "Watch" when the stream starts, and with "Watch.Send"
// before each message.
func (s *Server) Watch(req *apiv1.WatchRequest, stream grpc.ServerStreamingServer[apiv1.WatchResponse]) error {
	if err := s.check("Watch", req.GetRef()); err != nil {
		return toGRPC(err)
	}
	w, err := s.newWatcher(req, stream)
	if err != nil {
		return toGRPC(err)
	}
	return toGRPC(w.run())
}

// watcher is one watch stream.
type watcher struct {
	s      *Server
	k      kind
	req    *apiv1.WatchRequest
	sel    selector
	stream grpc.ServerStreamingServer[apiv1.WatchResponse]
	// rev is up to where events have been sent; initial is the snapshot to begin with.
	rev     client.Revision
	initial []*record
}

func (s *Server) newWatcher(req *apiv1.WatchRequest, stream grpc.ServerStreamingServer[apiv1.WatchResponse]) (*watcher, error) {
	k, err := s.kind(req.GetRef())
	if err != nil {
		return nil, err
	}
	sel, err := newSelector(k, req.GetRef().GetNamespace(), req.GetLabelSelector(), req.GetFieldSelector())
	if err != nil {
		return nil, err
	}
	w := &watcher{s: s, k: k, req: req, sel: sel, stream: stream}
	fresh := req.GetResourceVersion() == "" || req.GetResourceVersion() == "0"
	if !fresh {
		if w.rev, err = parseRevision(req.GetResourceVersion()); err != nil {
			return nil, err
		}
	}
	if !fresh && !req.GetSendInitialEvents() {
		return w, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w.rev = s.state.revision
	all, _ := s.state.at(k.name, w.rev)
	for _, r := range all {
		if sel.matches(r) {
			w.initial = append(w.initial, r)
		}
	}
	return w, nil
}

func (w *watcher) run() error {
	if err := w.sendInitial(); err != nil {
		return err
	}
	for {
		w.s.mu.Lock()
		changes, ok := w.s.state.since(w.rev)
		changed, newest := w.s.state.changed, w.s.state.revision
		w.s.mu.Unlock()
		if !ok {
			return expired(w.rev)
		}
		if err := w.sendChanges(changes, newest); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-w.stream.Context().Done():
			return w.stream.Context().Err()
		}
	}
}

func (w *watcher) sendInitial() error {
	for records := w.initial; len(records) > 0; {
		n := min(maxBatch, len(records))
		msg := &apiv1.WatchResponse{}
		for _, r := range records[:n] {
			msg.Events = append(msg.Events, w.event(apiv1.Event_TYPE_ADDED, r, r.wire))
		}
		records = records[n:]
		if len(records) == 0 && !w.req.GetSendInitialEvents() {
			msg.Revision = w.rev
		}
		if err := w.send(msg); err != nil {
			return err
		}
	}
	if !w.req.GetSendInitialEvents() {
		return nil
	}
	return w.send(&apiv1.WatchResponse{Revision: w.rev, Events: []*apiv1.Event{{Type: apiv1.Event_TYPE_BOOKMARK, InitialEventsEnd: true}}})
}

// sendChanges sends what matches of changes; if nothing does, a bookmark tells the newest revision to who asked for them.
func (w *watcher) sendChanges(changes []change, newest client.Revision) error {
	msg := &apiv1.WatchResponse{}
	for _, c := range changes {
		if ev := w.convert(c); ev != nil {
			msg.Events = append(msg.Events, ev)
		}
		msg.Revision, w.rev = c.rev, c.rev
		if len(msg.Events) == maxBatch {
			if err := w.send(msg); err != nil {
				return err
			}
			msg = &apiv1.WatchResponse{}
		}
	}
	if len(msg.Events) == 0 {
		if msg.Revision == 0 || !w.req.GetAllowBookmarks() {
			return nil
		}
		msg.Events = []*apiv1.Event{{Type: apiv1.Event_TYPE_BOOKMARK}}
	}
	msg.Revision, w.rev = newest, newest
	return w.send(msg)
}

// convert is what a change is to this watch: nil if it concerns none of the selected objects.
func (w *watcher) convert(c change) *apiv1.Event {
	if c.key.resourceName != w.k.name {
		return nil
	}
	before, after := w.sel.matches(c.old), w.sel.matches(c.new)
	switch {
	case after && before:
		return w.event(apiv1.Event_TYPE_MODIFIED, c.new, c.new.wire)
	case after:
		return w.event(apiv1.Event_TYPE_ADDED, c.new, c.new.wire)
	case before:
		return w.event(apiv1.Event_TYPE_DELETED, c.old, lastState(w.k, c))
	}
	return nil
}

// lastState is the last matching state with the resource version of the change that ended it.
func lastState(k kind, c change) *anypb.Any {
	obj := c.old.obj.DeepCopyObject().(client.Object)
	obj.SetResourceVersion(formatRevision(c.rev))
	r, err := newRecord(k, obj)
	if err != nil { // it was encoded before
		panic(err)
	}
	return r.wire
}

func (w *watcher) event(t apiv1.Event_Type, r *record, wire *anypb.Any) *apiv1.Event {
	if w.req.GetView() == apiv1.View_VIEW_TABLE {
		return &apiv1.Event{Type: t, Table: table([]*record{r})}
	}
	return &apiv1.Event{Type: t, Object: wire}
}

func (w *watcher) send(msg *apiv1.WatchResponse) error {
	if err := w.s.check("Watch.Send", w.req.GetRef()); err != nil {
		return err
	}
	return w.stream.Send(msg)
}

package grpc

import (
	"context"
	"errors"

	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/watchcache"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

const (
	watchEvents   = 1
	watchRevision = 2

	eventType   = 1
	eventObject = 2

	// revisionRoom is what a message's revision takes at most.
	revisionRoom = 11

	// A watch's message is cut when it has this many bytes.
	watchBytes = 512 << 10
)

// errStopping ends watches when the server stops; clients resume on another server, or on this one when it is back.
var errStopping = status.New(codes.Unavailable, "the server is stopping").Err()

// Watch implements apiv1.ResourceServiceServer.
func (s *Server) Watch(q *apiv1.WatchRequest, stream rpc.ServerStreamingServer[apiv1.WatchResponse]) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.stopping, func() { cancel(errStopping) })()
	r := &pipeline.Request{
		Verb: pipeline.Watch, Ref: ref(q.GetRef()), Caller: CallerOf(ctx),
		LabelSelector: q.GetLabelSelector(), FieldSelector: q.GetFieldSelector(), ResourceVersion: q.GetResourceVersion(),
		SendInitialEvents: q.GetSendInitialEvents(), Bookmarks: q.GetAllowBookmarks(),
	}
	start := s.cfg.Now()
	w, err := s.cfg.Pipeline.Watch(ctx, r)
	if err != nil {
		s.cfg.Pipeline.Observed(ctx, r, start, err)
		return err
	}
	defer w.Cursor.Close()
	if s.cfg.LongRunning != nil {
		s.cfg.LongRunning(r, 1)
		defer s.cfg.LongRunning(r, -1)
	}
	// The header tells the client that the watch stands, however long nothing happens.
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	err = s.follow(ctx, w, q, stream)
	if cause := context.Cause(ctx); errors.Is(cause, errStopping) {
		err = cause
	}
	s.cfg.Pipeline.Observed(ctx, r, start, ignoreEnd(ctx, err))
	return err
}

// ignoreEnd makes a watch that ended because its client left a success.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// follow sends what the cursor delivers until it or the client ends. A slow client blocks only its own goroutine, here: the
// cursor keeps a position, not events.
func (s *Server) follow(ctx context.Context, w *pipeline.Stream, q *apiv1.WatchRequest, stream rpc.ServerStream) error {
	m := watchMessage{server: s, watch: w, view: q.GetView(), stream: stream}
	for {
		batch, err := w.Cursor.Next(ctx)
		if err != nil {
			return w.Error(err)
		}
		w.Prepare(batch.Events)
		if sent, err := m.whole(&batch); sent || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		for _, e := range batch.Events {
			if err := m.add(e); err != nil {
				return err
			}
		}
		switch {
		case batch.InitialEventsEnd && q.GetSendInitialEvents():
			err = m.bookmark(true)
		case len(batch.Events) == 0 && q.GetAllowBookmarks() && !batch.InitialEventsEnd:
			err = m.bookmark(false)
		}
		if err == nil {
			err = m.flush(int64(batch.Revision))
		}
		if err != nil {
			return err
		}
	}
}

// watchMessage is a message under construction.
type watchMessage struct {
	server *Server
	watch  *pipeline.Stream
	view   apiv1.View
	stream rpc.ServerStream

	msg   framed
	bytes int
	// sent is the revision of the last whole batch.
	sent int64
	// heads says that the table's columns have been sent.
	heads bool
}

// Forms under which an event's encodings are shared by its watchers.
const (
	formFull     = "grpc/full"
	formMetadata = "grpc/metadata"

	formWhole         = "grpc/full/whole"
	formWholeMetadata = "grpc/metadata/whole"
)

// whole sends a batch of one event as a message that its watchers share, with its revision; false if the batch is none of those.
func (m *watchMessage) whole(b *watchcache.Batch) (bool, error) {
	if len(b.Events) != 1 || len(m.msg.parts) > 0 || m.view == apiv1.View_VIEW_TABLE || b.Events[0].Item.Revision != b.Revision {
		return false, nil
	}
	form := formWhole
	if m.view == apiv1.View_VIEW_METADATA {
		form = formWholeMetadata
	}
	shared, err := m.watch.Shared(b.Events[0], form, m.wholeMessage)
	if err != nil {
		return false, err
	}
	m.sent = int64(b.Revision)
	return true, m.stream.SendMsg(shared)
}

// wholeMessage makes the message of one event.
func (m *watchMessage) wholeMessage(e *watchcache.Event) (any, error) {
	b, err := encodeEvent(e.Type, m.watch.Object(e), m.view)
	if err != nil {
		return nil, err
	}
	f := &framed{}
	f.add(protowire.AppendVarint(protowire.AppendTag(b, watchRevision, protowire.VarintType), uint64(e.Item.Revision)))
	return f, nil
}

func (m *watchMessage) add(e *watchcache.Event) error {
	var b []byte
	var err error
	switch m.view {
	case apiv1.View_VIEW_TABLE:
		b, err = m.tableEvent(e)
	case apiv1.View_VIEW_METADATA:
		b, err = m.watch.Encoded(e, formMetadata, func(e *watchcache.Event) ([]byte, error) { return encodeEvent(e.Type, m.watch.Object(e), m.view) })
	default:
		b, err = m.watch.Encoded(e, formFull, func(e *watchcache.Event) ([]byte, error) { return encodeEvent(e.Type, m.watch.Object(e), m.view) })
	}
	if err != nil {
		return err
	}
	m.msg.add(b)
	if m.bytes += len(b); m.bytes < watchBytes {
		return nil
	}
	return m.send(m.sent)
}

// encodeEvent makes the bytes of one element of WatchResponse.events.
func encodeEvent(t watchcache.EventType, o *pipeline.Object, view apiv1.View) ([]byte, error) {
	url, value, err := encode(o, view)
	if err != nil {
		return nil, err
	}
	any := sizeAny(url, len(value))
	event := 2 + 1 + protowire.SizeBytes(any)
	b := make([]byte, 0, 1+protowire.SizeBytes(event)+revisionRoom)
	b = protowire.AppendTag(b, watchEvents, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(event))
	b = protowire.AppendTag(b, eventType, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(wireType(t)))
	b = protowire.AppendTag(b, eventObject, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(any))
	return append(appendAnyHead(b, url, len(value)), value...), nil
}

func wireType(t watchcache.EventType) apiv1.Event_Type {
	switch t {
	case watchcache.Added:
		return apiv1.Event_TYPE_ADDED
	case watchcache.Modified:
		return apiv1.Event_TYPE_MODIFIED
	}
	return apiv1.Event_TYPE_DELETED
}

func (m *watchMessage) tableEvent(e *watchcache.Event) ([]byte, error) {
	t, err := table(m.watch.Object(e), m.server.cfg.Now(), !m.heads)
	if err != nil {
		return nil, err
	}
	m.heads = true
	return proto.Marshal(&apiv1.WatchResponse{Events: []*apiv1.Event{{Type: wireType(e.Type), Table: t}}})
}

func (m *watchMessage) bookmark(initialEnd bool) error {
	b, err := proto.Marshal(&apiv1.WatchResponse{Events: []*apiv1.Event{{Type: apiv1.Event_TYPE_BOOKMARK, InitialEventsEnd: initialEnd}}})
	if err == nil {
		m.msg.add(b)
	}
	return err
}

// flush sends the rest of a batch; the message's revision says that the batch is whole.
func (m *watchMessage) flush(revision int64) error {
	if len(m.msg.parts) == 0 && revision == m.sent {
		return nil
	}
	m.sent = revision
	return m.send(revision)
}

func (m *watchMessage) send(revision int64) error {
	if revision > 0 {
		m.msg.add(protowire.AppendVarint(protowire.AppendTag(nil, watchRevision, protowire.VarintType), uint64(revision)))
	}
	err := m.stream.SendMsg(&m.msg)
	m.msg, m.bytes = framed{}, 0
	return err
}

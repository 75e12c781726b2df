package grpc

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/wrapperspb"

	rpc "google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"bareboat.dev/apiserver/pipeline"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

const (
	// A list's message is sent when it has this many bytes or objects, so that a list of any length needs little memory: the objects
	// are shared, and what leads to them takes headRoom and two slices for each, 35 KiB for a message, of which one is on its way
	// while the next is made.
	pageBytes   = 256 << 10
	pageObjects = 250
	// headRoom is what stands in front of an object: the longest type URL of Kubernetes has 70 bytes.
	headRoom = 80

	listRevision = 1
	listItems    = 2
)

// List implements apiv1.ResourceServiceServer.
func (s *Server) List(q *apiv1.ListRequest, stream rpc.ServerStreamingServer[apiv1.ListResponse]) error {
	ctx := stream.Context()
	l, err := s.cfg.Pipeline.List(ctx, &pipeline.Request{
		Verb: pipeline.List, Ref: ref(q.GetRef()), Caller: CallerOf(ctx),
		LabelSelector: q.GetLabelSelector(), FieldSelector: q.GetFieldSelector(),
		ResourceVersion: q.GetResourceVersion(), Match: match(q.GetVersionMatch()), Limit: q.GetLimit(), Continue: q.GetContinue(),
	})
	if err != nil {
		return err
	}
	if q.GetView() == apiv1.View_VIEW_TABLE {
		return s.listTable(l, stream)
	}
	p := page{view: q.GetView(), revision: int64(l.Revision), stream: stream}
	p.reset()
	for o, err := range l.Objects {
		if err != nil {
			return err
		}
		if err := p.add(o); err != nil {
			return err
		}
	}
	return p.finish(l)
}

// page is one message of a list under construction: heads of items, each followed by the object's shared bytes.
type page struct {
	view     apiv1.View
	revision int64
	stream   rpc.ServerStream
	msg      framed
	heads    []byte
	bytes    int
	objects  int
}

func (p *page) reset() {
	// A list of a few objects is not worth the room for many.
	room := min(max(8, 4*p.objects), pageObjects)
	p.msg, p.bytes, p.objects = newFramed(1+2*room), 0, 0
	p.heads = make([]byte, 0, room*headRoom)
	p.heads = protowire.AppendVarint(protowire.AppendTag(p.heads, listRevision, protowire.VarintType), uint64(p.revision))
	p.msg.add(p.heads)
}

// head returns the bytes that lead from the message to an object's own.
func (p *page) head(url string, value, size int) []byte {
	if cap(p.heads)-len(p.heads) < headRoom+len(url) {
		p.heads = make([]byte, 0, min(2*cap(p.heads)+headRoom+len(url), pageObjects*headRoom))
	}
	start := len(p.heads)
	p.heads = protowire.AppendTag(p.heads, listItems, protowire.BytesType)
	p.heads = protowire.AppendVarint(p.heads, uint64(size))
	p.heads = appendAnyHead(p.heads, url, value)
	return p.heads[start:len(p.heads):len(p.heads)]
}

func (p *page) add(o *pipeline.Object) error {
	url, value, err := encode(o, p.view)
	if err != nil {
		return err
	}
	size := sizeAny(url, len(value))
	p.msg.add(p.head(url, len(value), size))
	p.msg.add(value)
	p.bytes += size
	p.objects++
	if p.bytes < pageBytes && p.objects < pageObjects {
		return nil
	}
	if err := p.stream.SendMsg(&p.msg); err != nil {
		return err
	}
	p.reset()
	return nil
}

// finish sends the last message, which is sent even if it is empty: it carries the revision and the continue token.
func (p *page) finish(l *pipeline.Listing) error {
	if l.Continue != "" {
		tail := &apiv1.ListResponse{Continue: l.Continue}
		if l.Remaining >= 0 {
			tail.RemainingItemCount = wrapperspb.Int64(l.Remaining)
		}
		b, err := proto.Marshal(tail)
		if err != nil {
			return err
		}
		p.msg.add(b)
	}
	return p.stream.SendMsg(&p.msg)
}

func (s *Server) listTable(l *pipeline.Listing, stream rpc.ServerStreamingServer[apiv1.ListResponse]) error {
	now := s.cfg.Now()
	msg := &apiv1.ListResponse{Revision: int64(l.Revision), Table: &apiv1.Table{Columns: columns(l.Resource)}}
	for o, err := range l.Objects {
		if err != nil {
			return err
		}
		r, err := row(o, now)
		if err != nil {
			return err
		}
		msg.Table.Rows = append(msg.Table.Rows, r)
		if len(msg.Table.Rows) < pageObjects {
			continue
		}
		if err := stream.Send(msg); err != nil {
			return err
		}
		msg = &apiv1.ListResponse{Revision: int64(l.Revision), Table: &apiv1.Table{}}
	}
	msg.Continue = l.Continue
	if l.Continue != "" && l.Remaining >= 0 {
		msg.RemainingItemCount = wrapperspb.Int64(l.Remaining)
	}
	return stream.Send(msg)
}

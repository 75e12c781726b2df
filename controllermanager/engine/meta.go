package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/plan"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// Meta is the metadata of an object of any kind.
type Meta = metav1.PartialObjectMetadata

func decodeMeta(a *anypb.Any) (*Meta, error) {
	m := new(Meta)
	if err := m.Unmarshal(a.GetValue()); err != nil {
		return nil, fmt.Errorf("decode metadata from %s: %w", a.GetTypeUrl(), err)
	}
	return m, nil
}

// MetaHandler is told what happens to the metadata of a kind's objects.
type MetaHandler struct {
	// Snapshot is called with all objects there are, at first and whenever the history since the last event was lost.
	Snapshot func(objects []*Meta)
	// Changed and Deleted follow, in order.
	Changed func(*Meta)
	Deleted func(*Meta)
}

const (
	// followRetryFirst and followRetryMost bound the pause between attempts to watch: short at first, since a server that
	// restarts is back in a second; at most 10 s, so that a kind that returns is seen soon.
	followRetryFirst = 100 * time.Millisecond
	followRetryMost  = 10 * time.Second
)

// FollowMeta watches the metadata of all objects of a kind until ctx ends, resuming by revision. Unlike a Mirror it keeps
// no copy.
func FollowMeta(ctx context.Context, c *client.Client, k plan.Kind, h MetaHandler) {
	f := metaFollower{rpc: apiv1.NewResourceServiceClient(c.Conn()), kind: k, handler: h, fresh: true}
	pause := followRetryFirst
	for ctx.Err() == nil {
		before := f.revision
		err := f.stream(ctx)
		if client.IsExpired(err) {
			f.fresh = true
		}
		if f.revision > before {
			pause = followRetryFirst
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, followRetryMost)
	}
}

type metaFollower struct {
	rpc      apiv1.ResourceServiceClient
	kind     plan.Kind
	handler  MetaHandler
	revision int64
	// fresh is set until the first snapshot is complete and after the history was lost.
	fresh bool
}

// stream follows one watch until it ends.
func (f *metaFollower) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req := &apiv1.WatchRequest{Ref: ref(f.kind, "", ""), AllowBookmarks: true, View: apiv1.View_VIEW_METADATA}
	if f.fresh {
		req.SendInitialEvents = true
	} else {
		req.ResourceVersion = strconv.FormatInt(f.revision, 10)
	}
	stream, err := f.rpc.Watch(ctx, req)
	if err != nil {
		return client.FromGRPC(ctx, err)
	}
	var snapshot []*Meta
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return client.FromGRPC(ctx, err)
		}
		for _, ev := range msg.GetEvents() {
			if snapshot, err = f.event(ev, snapshot); err != nil {
				return err
			}
		}
		if !f.fresh {
			f.revision = max(f.revision, msg.GetRevision())
		}
	}
}

// event handles one event; during the snapshot it only gathers.
func (f *metaFollower) event(ev *apiv1.Event, snapshot []*Meta) ([]*Meta, error) {
	if ev.GetType() == apiv1.Event_TYPE_BOOKMARK {
		if f.fresh && ev.GetInitialEventsEnd() {
			f.fresh = false
			f.handler.Snapshot(snapshot)
			return nil, nil
		}
		return snapshot, nil
	}
	m, err := decodeMeta(ev.GetObject())
	if err != nil {
		return nil, err
	}
	switch {
	case f.fresh:
		return append(snapshot, m), nil
	case ev.GetType() == apiv1.Event_TYPE_DELETED:
		f.handler.Deleted(m)
	default:
		f.handler.Changed(m)
	}
	return nil, nil
}

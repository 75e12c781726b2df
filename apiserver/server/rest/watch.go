package rest

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry/codec"
	"bareboat.dev/apiserver/server/inflight"
	"bareboat.dev/apiserver/watchcache"
)

// minWatch is how long a watch that names no timeout lasts at least; it ends at a random time within twice that, so that
// clients do not come back together.
const minWatch = 30 * time.Minute

func (h *Handler) watch(w http.ResponseWriter, r *http.Request, req *pipeline.Request) error {
	f, err := negotiateStream(r, h.inProtobuf(req.Ref))
	if err != nil {
		return err
	}
	q := r.URL.Query()
	timeout, err := watchTimeout(q.Get("timeoutSeconds"))
	if err != nil {
		return err
	}
	req.Verb = pipeline.Watch
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	defer context.AfterFunc(h.stopping, cancel)()
	leave, err := h.enter(req.Caller, inflight.Watch)
	if err != nil {
		return err
	}
	defer leave()
	start := h.cfg.Now()
	s, err := h.cfg.Pipeline.Watch(ctx, req)
	if err != nil {
		h.cfg.Pipeline.Observed(ctx, req, start, err)
		return err
	}
	defer s.Cursor.Close()
	if h.cfg.LongRunning != nil {
		h.cfg.LongRunning(req, 1)
		defer h.cfg.LongRunning(req, -1)
	}
	st := &watchStream{h: h, s: s, f: f, include: q.Get("includeObject")}
	serve := func(ctx context.Context) {
		err := st.follow(ctx, q.Has("sendInitialEvents") && req.SendInitialEvents, req.Bookmarks)
		if err != nil && ctx.Err() == nil {
			st.fail(err)
		}
		if ctx.Err() != nil {
			err = nil
		}
		h.cfg.Pipeline.Observed(r.Context(), req, start, err)
	}
	if isWebSocket(r) {
		st.serveWebSocket(ctx, w, r, serve)
		return nil
	}
	st.out = &chunks{w, http.NewResponseController(w)}
	warn(w, s.Resource)
	w.Header().Set("Content-Type", st.contentType())
	w.WriteHeader(http.StatusOK)
	st.out.Flush()
	serve(ctx)
	return nil
}

// eventWriter is where events go, each in one Write.
type eventWriter interface {
	io.Writer
	Flush() error
}

// chunks is the body of an answer.
type chunks struct {
	io.Writer
	*http.ResponseController
}

func watchTimeout(seconds string) (time.Duration, error) {
	if seconds == "" {
		return minWatch + rand.N(minWatch), nil
	}
	n, err := strconv.ParseInt(seconds, 10, 32)
	if err != nil {
		return 0, apierrors.NewBadRequest(err.Error())
	}
	if n <= 0 {
		return minWatch + rand.N(minWatch), nil
	}
	return time.Duration(n) * time.Second, nil
}

// watchStream writes events in one of the two framings: JSON texts one after the other, or protobuf messages behind their
// lengths.
type watchStream struct {
	h       *Handler
	s       *pipeline.Stream
	f       format
	out     eventWriter
	include string
	// message: each event is a message of its own, without the framing of a byte stream.
	message bool
	// heads says that the table's columns have been sent.
	heads bool
}

func (s *watchStream) contentType() string {
	if s.f.media == codec.Protobuf {
		return codec.Protobuf + ";stream=watch"
	}
	return s.f.media
}

func (s *watchStream) follow(ctx context.Context, initialEnd, bookmarks bool) error {
	for {
		batch, err := s.s.Cursor.Next(ctx)
		if err != nil {
			return s.s.Error(err)
		}
		s.s.Prepare(batch.Events)
		for _, e := range batch.Events {
			b, err := s.event(e)
			if err != nil {
				return err
			}
			if _, err := s.out.Write(b); err != nil {
				return err
			}
		}
		if batch.InitialEventsEnd && initialEnd || len(batch.Events) == 0 && bookmarks && !batch.InitialEventsEnd {
			b, err := s.bookmark(strconv.FormatInt(int64(batch.Revision), 10), batch.InitialEventsEnd)
			if err != nil {
				return err
			}
			if _, err := s.out.Write(b); err != nil {
				return err
			}
		}
		if err := s.out.Flush(); err != nil {
			return err
		}
	}
}

// event returns an event's framed bytes, which all watchers of the same format share.
func (s *watchStream) event(e *watchcache.Event) ([]byte, error) {
	if s.f.view == asTable {
		return s.frame(e.Type.String(), s.s.Object(e))
	}
	form := "rest/json"
	switch {
	case s.message:
		return s.frame(e.Type.String(), s.s.Object(e)) // few watch so
	case s.f.media == codec.Protobuf && s.f.view == metadataOnly:
		form = "rest/protobuf/metadata"
	case s.f.media == codec.Protobuf:
		form = "rest/protobuf"
	case s.f.view == metadataOnly:
		form = "rest/json/metadata"
	}
	return s.s.Encoded(e, form, func(e *watchcache.Event) ([]byte, error) { return s.frame(e.Type.String(), s.s.Object(e)) })
}

// frame encodes an object and frames it as an event.
func (s *watchStream) frame(kind string, o *pipeline.Object) ([]byte, error) {
	var b []byte
	var err error
	if s.f.view == asTable && o.Resource != nil {
		var t *metav1.Table
		if t, err = s.h.tableOf(s.f, o, s.include); err != nil {
			return nil, err
		}
		if s.heads {
			t.ColumnDefinitions = nil
		}
		s.heads = true
		b, err = s.h.marshal(format{media: s.f.media}, s.f.tableKind(), t)
	} else {
		b, err = s.h.encode(format{media: s.f.media, view: s.f.view}, o, "")
	}
	if err != nil {
		return nil, err
	}
	return s.wrap(kind, b)
}

func (s *watchStream) wrap(kind string, object []byte) ([]byte, error) {
	if s.f.media != codec.Protobuf {
		return wrapJSON(kind, object)
	}
	e := metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: object}}
	raw, err := e.Marshal()
	if err != nil {
		return nil, err
	}
	if s.message {
		return raw, nil // a WebSocket's messages have their own lengths
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...), nil
}

// wrapJSON makes an event of one line.
func wrapJSON(kind string, object []byte) ([]byte, error) {
	object = bytes.TrimSuffix(object, []byte{'\n'})
	b := make([]byte, 0, len(object)+len(kind)+32)
	b = append(b, `{"type":"`...)
	b = append(b, kind...)
	b = append(b, `","object":`...)
	if bytes.IndexByte(object, '\n') < 0 {
		b = append(b, object...)
	} else { // a custom resource that somebody else has put into the store
		line := bytes.NewBuffer(b)
		if err := json.Compact(line, object); err != nil {
			return nil, err
		}
		b = line.Bytes()
	}
	return append(b, "}\n"...), nil
}

// bookmark is an empty object of the kind with a resource version.
func (s *watchStream) bookmark(revision string, initialEnd bool) ([]byte, error) {
	res := s.s.Resource
	obj := res.New()
	obj.GetObjectKind().SetGroupVersionKind(res.Kind)
	obj.SetResourceVersion(revision)
	if initialEnd {
		obj.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	o := pipeline.Answer(res.Kind, obj).Object
	o.Resource = res
	return s.frame(string(watch.Bookmark), o)
}

// fail ends a watch whose header is out with an ERROR event.
func (s *watchStream) fail(err error) {
	status := statusOf(err)
	if errors.Is(err, context.Canceled) {
		return
	}
	b, err := s.h.encode(format{media: s.f.media}, pipeline.Answer(statusKind(), &status).Object, "")
	if err != nil {
		return
	}
	if b, err = s.wrap(string(watch.Error), b); err == nil {
		s.out.Write(b)
		s.out.Flush()
	}
}

package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/codec"
	"bareboat.dev/apiserver/server/inflight"
	"bareboat.dev/apiserver/watchcache/frame"
)

func (h *Handler) list(w http.ResponseWriter, r *http.Request, req *pipeline.Request) error {
	f, err := h.formatOf(r, req.Ref)
	if err != nil {
		return err
	}
	leave, err := h.enter(req.Caller, inflight.Read)
	if err != nil {
		return err
	}
	defer leave()
	req.Verb = pipeline.List
	limit, err := deadline(r.URL.Query())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	l, err := h.cfg.Pipeline.List(ctx, req)
	if err != nil {
		return err
	}
	return h.sendList(w, r, f, l)
}

func (h *Handler) sendList(w http.ResponseWriter, r *http.Request, f format, l *pipeline.Listing) error {
	warn(w, l.Resource)
	b := h.newBody(w, r, http.StatusOK, f.contentType())
	defer b.release()
	if err := h.writeList(b, f, l, r.URL.Query().Get("includeObject")); err != nil {
		if b.begun() {
			panic(http.ErrAbortHandler) // a part must not be taken for the whole
		}
		return err
	}
	b.end()
	return nil
}

// warn tells what all users of a custom resource are told: that its version is deprecated.
func warn(w http.ResponseWriter, res *registry.Resource) {
	if res.Custom == nil {
		return
	}
	addWarnings(w, res.Custom.Warnings)
}

func listMeta(l *pipeline.Listing) metav1.ListMeta {
	m := metav1.ListMeta{ResourceVersion: strconv.FormatInt(int64(l.Revision), 10), Continue: l.Continue}
	if l.Continue != "" && l.Remaining >= 0 {
		n := l.Remaining
		m.RemainingItemCount = &n
	}
	return m
}

// writeList writes a list as one message, from the objects' own bytes where that is possible.
func (h *Handler) writeList(b *body, f format, l *pipeline.Listing, include string) (err error) {
	keep := func() error { return nil }
	switch {
	case f.view == asTable && f.media == codec.JSON && !f.pretty:
		return h.jsonTable(b, f, l, include)
	case f.view == asTable:
		t, err := h.table(f, l.Resource, include, l.Objects)
		if err != nil {
			return err
		}
		t.ListMeta = listMeta(l)
		b.buf, err = h.marshal(f, f.tableKind(), t)
		return err
	case f.media == codec.Protobuf:
		return h.protobufList(b, f, l)
	case f.media == codec.YAML:
		if err := h.jsonList(b, keep, f, l); err != nil {
			return err
		}
		b.buf, err = jsonToYAML(b.buf)
		return err
	case f.pretty:
		if err := h.jsonList(b, keep, f, l); err != nil {
			return err
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, b.buf, "", "  "); err != nil {
			return apierrors.NewInternalError(err)
		}
		b.buf = indented.Bytes()
		return nil
	}
	return h.jsonList(b, b.spill, f, l)
}

// listKind is the kind of a list in a view.
func listKind(f format, l *pipeline.Listing) schema.GroupVersionKind {
	if f.view == metadataOnly {
		return metav1.SchemeGroupVersion.WithKind("PartialObjectMetadataList")
	}
	k := l.Resource.Kind
	if l.Resource.Custom != nil {
		k.Kind = l.Resource.Custom.ListKind
		return k
	}
	k.Kind += "List"
	return k
}

// jsonList writes the list's frame and each item's own JSON, without apiVersion and kind in the items as Kubernetes does. It calls
// spill after each item.
func (h *Handler) jsonList(b *body, spill func() error, f format, l *pipeline.Listing) error {
	kind := listKind(f, l)
	head, err := json.Marshal(struct {
		Kind       string          `json:"kind"`
		APIVersion string          `json:"apiVersion"`
		Metadata   metav1.ListMeta `json:"metadata"`
	}{kind.Kind, kind.GroupVersion().String(), listMeta(l)})
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	b.buf = append(b.buf, head[:len(head)-1]...)
	b.buf = append(b.buf, `,"items":[`...)
	first := true
	for o, err := range l.Objects {
		if err != nil {
			return err
		}
		if !first {
			b.buf = append(b.buf, ',')
		}
		first = false
		if b.buf, err = h.appendItem(b.buf, f, o); err != nil {
			return err
		}
		if err := spill(); err != nil {
			return err
		}
	}
	b.buf = append(b.buf, "]}\n"...)
	return nil
}

func (h *Handler) appendItem(dst []byte, f format, o *pipeline.Object) ([]byte, error) {
	if f.view == metadataOnly {
		return h.appendMetadata(dst, o)
	}
	if text, ok := jsonText(o); ok {
		return append(dst, text...), nil
	}
	if plan, raw := h.wire(o); plan != nil {
		if out, err := plan.Append(dst, raw); err == nil {
			return out, nil
		}
	}
	obj, err := o.Decoded()
	if err != nil {
		return dst, err
	}
	b, err := json.Marshal(obj)
	if err != nil {
		return dst, apierrors.NewInternalError(err)
	}
	return append(dst, withoutType(b, o.Kind)...), nil
}

func (h *Handler) appendMetadata(dst []byte, o *pipeline.Object) ([]byte, error) {
	if out, ok := h.wireMetadata(dst, o); ok {
		return out, nil
	}
	p, err := partial(o)
	if err != nil {
		return dst, err
	}
	return appendJSON(dst, p)
}

// withoutType drops the apiVersion and kind with which encoding/json begins an object that has them: the items of a typed
// list have none.
func withoutType(b []byte, kind schema.GroupVersionKind) []byte {
	head, err := json.Marshal(metav1.TypeMeta{APIVersion: kind.GroupVersion().String(), Kind: kind.Kind})
	if err != nil {
		return b
	}
	head[len(head)-1] = ','
	if rest, ok := bytes.CutPrefix(b, head); ok {
		return append([]byte{'{'}, rest...)
	}
	return b
}

// Field numbers of every list message, and of runtime.Unknown.
const (
	listMetadata = 1
	listItems    = 2
	unknownType  = 1
	unknownRaw   = 2
)

// protobufList puts a list message together from the items' shared frames and wraps it in the envelope.
func (h *Handler) protobufList(b *body, f format, l *pipeline.Listing) error {
	kind := listKind(f, l)
	m := listMeta(l)
	meta, err := m.Marshal()
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	var items [][]byte
	size := 1 + protowire.SizeBytes(len(meta))
	for o, err := range l.Objects {
		if err != nil {
			return err
		}
		raw, err := protobufItem(f, o)
		if err != nil {
			return err
		}
		items = append(items, raw)
		size += 1 + protowire.SizeBytes(len(raw))
	}
	b.buf = appendEnvelope(b.buf, kind, size)
	b.buf = protowire.AppendTag(b.buf, listMetadata, protowire.BytesType)
	b.buf = protowire.AppendBytes(b.buf, meta)
	for _, raw := range items {
		b.buf = protowire.AppendTag(b.buf, listItems, protowire.BytesType)
		b.buf = protowire.AppendBytes(b.buf, raw)
		if err := b.spill(); err != nil {
			return err
		}
	}
	return nil
}

func protobufItem(f format, o *pipeline.Object) ([]byte, error) {
	if f.view == metadataOnly {
		p, err := partial(o)
		if err != nil {
			return nil, err
		}
		return p.Marshal()
	}
	contentType, raw, err := o.Encoded()
	if err != nil || contentType != frame.Protobuf {
		return nil, apierrors.NewInternalError(io.ErrUnexpectedEOF)
	}
	return raw, nil
}

// appendEnvelope appends the magic number and runtime.Unknown up to where a message of the size begins.
func appendEnvelope(b []byte, kind schema.GroupVersionKind, size int) []byte {
	b = append(b, "k8s\x00"...)
	var typeMeta []byte
	typeMeta = protowire.AppendTag(typeMeta, 1, protowire.BytesType)
	typeMeta = protowire.AppendString(typeMeta, kind.GroupVersion().String())
	typeMeta = protowire.AppendTag(typeMeta, 2, protowire.BytesType)
	typeMeta = protowire.AppendString(typeMeta, kind.Kind)
	b = protowire.AppendTag(b, unknownType, protowire.BytesType)
	b = protowire.AppendBytes(b, typeMeta)
	b = protowire.AppendTag(b, unknownRaw, protowire.BytesType)
	return protowire.AppendVarint(b, uint64(size))
}

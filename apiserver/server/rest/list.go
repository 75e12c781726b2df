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
	"k8s.io/apimachinery/pkg/runtime"
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
	b, err := h.encodeList(f, l, r.URL.Query().Get("includeObject"))
	if err != nil {
		return err
	}
	warn(w, l.Resource)
	w.Header().Set("Content-Type", f.contentType())
	return write(w, r, http.StatusOK, b)
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

// encodeList encodes a list as one message, from the objects' own bytes where that is possible.
func (h *Handler) encodeList(f format, l *pipeline.Listing, include string) ([]byte, error) {
	switch {
	case f.view == asTable:
		t, err := h.table(l.Resource, include, l.Objects)
		if err != nil {
			return nil, err
		}
		t.ListMeta = listMeta(l)
		return h.marshal(f, tableKind(), t)
	case f.media == codec.Protobuf:
		return h.protobufList(f, l)
	case f.media == codec.YAML:
		return h.yamlList(f, l)
	}
	return h.jsonList(f, l)
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

// jsonList writes the list's frame and each item's own JSON, without apiVersion and kind in the items as Kubernetes does.
func (h *Handler) jsonList(f format, l *pipeline.Listing) ([]byte, error) {
	kind := listKind(f, l)
	var out bytes.Buffer
	head := struct {
		Kind       string          `json:"kind"`
		APIVersion string          `json:"apiVersion"`
		Metadata   metav1.ListMeta `json:"metadata"`
	}{kind.Kind, kind.GroupVersion().String(), listMeta(l)}
	b, err := json.Marshal(head)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	out.Write(b[:len(b)-1])
	out.WriteString(`,"items":[`)
	first := true
	for o, err := range l.Objects {
		if err != nil {
			return nil, err
		}
		if !first {
			out.WriteByte(',')
		}
		first = false
		if err := h.jsonItem(&out, f, o); err != nil {
			return nil, err
		}
	}
	out.WriteString("]}\n")
	if !f.pretty {
		return out.Bytes(), nil
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, out.Bytes(), "", "  "); err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return indented.Bytes(), nil
}

func (h *Handler) jsonItem(out *bytes.Buffer, f format, o *pipeline.Object) error {
	var obj runtime.Object
	var err error
	if f.view == metadataOnly {
		obj, err = partial(o)
	} else if text, ok := jsonText(o); ok {
		out.Write(text)
		return nil
	} else {
		obj, err = o.Decoded()
	}
	if err != nil {
		return err
	}
	b, err := json.Marshal(obj)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if f.view != metadataOnly {
		b = withoutType(b, o.Kind)
	}
	out.Write(b)
	return nil
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

func (h *Handler) yamlList(f format, l *pipeline.Listing) ([]byte, error) {
	j, err := h.jsonList(format{media: codec.JSON, view: f.view}, l)
	if err != nil {
		return nil, err
	}
	return jsonToYAML(j)
}

// Field numbers of every list message, and of runtime.Unknown.
const (
	listMetadata = 1
	listItems    = 2
	unknownType  = 1
	unknownRaw   = 2
)

// protobufList puts a list message together from the items' shared frames and wraps it in the envelope.
func (h *Handler) protobufList(f format, l *pipeline.Listing) ([]byte, error) {
	kind := listKind(f, l)
	m := listMeta(l)
	meta, err := m.Marshal()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	var items [][]byte
	size := 1 + protowire.SizeBytes(len(meta))
	for o, err := range l.Objects {
		if err != nil {
			return nil, err
		}
		raw, err := protobufItem(f, o)
		if err != nil {
			return nil, err
		}
		items = append(items, raw)
		size += 1 + protowire.SizeBytes(len(raw))
	}
	out := appendEnvelope(make([]byte, 0, size+256), kind, size)
	out = protowire.AppendTag(out, listMetadata, protowire.BytesType)
	out = protowire.AppendBytes(out, meta)
	for _, raw := range items {
		out = protowire.AppendTag(out, listItems, protowire.BytesType)
		out = protowire.AppendBytes(out, raw)
	}
	return out, nil
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

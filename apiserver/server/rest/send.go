package rest

import (
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/codec"
	"bareboat.dev/apiserver/registry/codec/wirejson"
	"bareboat.dev/apiserver/watchcache/frame"
)

// send answers with one object.
func (h *Handler) send(w http.ResponseWriter, r *http.Request, f format, code int, o *pipeline.Object) error {
	b, err := h.encode(f, o, r.URL.Query().Get("includeObject"))
	if err != nil {
		return err
	}
	h.write(w, r, code, f.contentType(), b)
	return nil
}

func (f format) contentType() string { return f.media }

// encode encodes one object in a format.
func (h *Handler) encode(f format, o *pipeline.Object, include string) ([]byte, error) {
	switch {
	case f.view == asTable && o.Resource != nil:
		t, err := h.tableOf(f, o, include)
		if err != nil {
			return nil, err
		}
		return h.marshal(f, f.tableKind(), t)
	case f.view == metadataOnly && o.Resource != nil:
		if text, ok := h.wireMetadata(nil, o); ok && f.media == codec.JSON && !f.pretty {
			return append(text, '\n'), nil
		}
		p, err := partial(o)
		if err != nil {
			return nil, err
		}
		return h.marshal(f, p.GroupVersionKind(), p)
	}
	if f.media == codec.JSON && !f.pretty {
		if text, ok := jsonText(o); ok {
			return append(text[:len(text):len(text)], '\n'), nil
		}
		if text, ok := h.wireText(o); ok {
			return text, nil
		}
	}
	if fr, ok := o.Frame(); ok && f.media == codec.Protobuf && fr.ContentType() == frame.Protobuf {
		return fr.Envelope(), nil
	}
	obj, err := o.Decoded()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return h.marshal(f, o.Kind, obj)
}

// jsonText returns the text of an object that is kept as JSON in the form in which it is served.
func jsonText(o *pipeline.Object) ([]byte, bool) {
	fr, ok := o.Frame()
	if !ok || fr.ContentType() != frame.JSON {
		return nil, false
	}
	return fr.Object(), true
}

// wire returns the protobuf encoding of an object that is kept so, and how its JSON is written from that.
func (h *Handler) wire(o *pipeline.Object) (*wirejson.Plan, []byte) {
	fr, ok := o.Frame()
	if !ok || fr.ContentType() != frame.Protobuf {
		return nil, nil
	}
	return h.cfg.Pipeline.Codec().Plan(o.Kind), fr.Object()
}

// wireText is the JSON of one object with a final newline, written from the bytes that it is kept in.
func (h *Handler) wireText(o *pipeline.Object) ([]byte, bool) {
	plan, raw := h.wire(o)
	if plan == nil {
		return nil, false
	}
	text, err := plan.AppendTyped(make([]byte, 0, 2*len(raw)+wireRoom), o.Kind.GroupVersion().String(), o.Kind.Kind, raw)
	if err != nil {
		return nil, false
	}
	return append(text, '\n'), true
}

// wireRoom is what the JSON of a small object takes beyond twice its protobuf encoding.
const wireRoom = 512

// wireMetadata appends the JSON of an object's metadata, as an object of its own, written from the bytes that it is kept in.
func (h *Handler) wireMetadata(dst []byte, o *pipeline.Object) ([]byte, bool) {
	plan, raw := h.wire(o)
	if plan == nil {
		return dst, false
	}
	kind := partialKind()
	dst, err := plan.AppendMetadata(dst, kind.GroupVersion().String(), kind.Kind, raw)
	return dst, err == nil
}

// marshal encodes a decoded object that carries its apiVersion and kind.
func (h *Handler) marshal(f format, kind schema.GroupVersionKind, obj runtime.Object) ([]byte, error) {
	c := h.cfg.Pipeline.Codec()
	switch f.media {
	case codec.Protobuf:
		return c.EncodeProtobuf(kind, obj)
	case codec.YAML:
		return c.EncodeYAML(obj)
	}
	return c.EncodeJSON(obj, f.pretty)
}

// one yields a single object.
func one(o *pipeline.Object) func(func(*pipeline.Object, error) bool) {
	return func(yield func(*pipeline.Object, error) bool) { yield(o, nil) }
}

func resourceVersion(o *pipeline.Object) string {
	if obj, err := o.Decoded(); err == nil {
		if m, ok := obj.(metav1.Object); ok {
			return m.GetResourceVersion()
		}
	}
	return ""
}

func partialKind() schema.GroupVersionKind {
	return metav1.SchemeGroupVersion.WithKind("PartialObjectMetadata")
}

func partial(o *pipeline.Object) (*metav1.PartialObjectMetadata, error) {
	obj, err := o.Decoded()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	a, ok := obj.(metav1.ObjectMetaAccessor)
	if !ok {
		return nil, apierrors.NewBadRequest(o.Kind.Kind + " has no metadata")
	}
	m, ok := a.GetObjectMeta().(*metav1.ObjectMeta)
	if !ok {
		return nil, apierrors.NewBadRequest(o.Kind.Kind + " has no metadata")
	}
	p := &metav1.PartialObjectMetadata{ObjectMeta: *m}
	p.SetGroupVersionKind(partialKind())
	return p, nil
}

// registryObject is the decoded object of a resource.
func registryObject(o *pipeline.Object) (registry.Object, error) {
	obj, err := o.Decoded()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	r, ok := obj.(registry.Object)
	if !ok {
		return nil, apierrors.NewBadRequest(o.Kind.Kind + " has no table")
	}
	return r, nil
}

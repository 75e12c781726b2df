package rest

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/codec"
	"bareboat.dev/apiserver/watchcache/frame"
)

const (
	// Answers larger than this are compressed for clients that accept it; below, gzip costs more than it saves.
	gzipFrom  = 128 << 10
	gzipLevel = 1
)

// send answers with one object.
func (h *Handler) send(w http.ResponseWriter, r *http.Request, f format, code int, o *pipeline.Object) error {
	b, err := h.encode(f, o, r.URL.Query().Get("includeObject"))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", f.contentType())
	return write(w, r, code, b)
}

func (f format) contentType() string { return f.media }

// encode encodes one object in a format.
func (h *Handler) encode(f format, o *pipeline.Object, include string) ([]byte, error) {
	switch {
	case f.view == asTable && o.Resource != nil:
		t, err := h.table(o.Resource, include, one(o))
		if err != nil {
			return nil, err
		}
		t.ResourceVersion = resourceVersion(o)
		return h.marshal(f, tableKind(), t)
	case f.view == metadataOnly && o.Resource != nil:
		p, err := partial(o)
		if err != nil {
			return nil, err
		}
		return h.marshal(f, p.GroupVersionKind(), p)
	}
	if text, ok := jsonText(o); ok && f.media == codec.JSON && !f.pretty {
		return append(text[:len(text):len(text)], '\n'), nil
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

// write sends a body, compressed if that pays.
func write(w http.ResponseWriter, r *http.Request, code int, b []byte) error {
	if len(b) < gzipFrom || !acceptsGzip(r) {
		w.WriteHeader(code)
		_, err := io.Copy(w, bytes.NewReader(b))
		return ignoreGone(err)
	}
	w.Header().Set("Content-Encoding", "gzip")
	w.Header().Add("Vary", "Accept-Encoding")
	w.WriteHeader(code)
	z, err := gzip.NewWriterLevel(w, gzipLevel)
	if err != nil {
		return err
	}
	if _, err := z.Write(b); err != nil {
		return ignoreGone(err)
	}
	return ignoreGone(z.Close())
}

// ignoreGone: once the header is out, a failing write only means that the client left.
func ignoreGone(error) error { return nil }

func acceptsGzip(r *http.Request) bool {
	for _, part := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		if name, _, _ := strings.Cut(strings.TrimSpace(part), ";"); name == "gzip" {
			return true
		}
	}
	return false
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

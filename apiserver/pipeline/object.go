package pipeline

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/watchcache"
	"bareboat.dev/apiserver/watchcache/frame"
)

// Object is what a request returns: an encoded object, a decoded one, or both; each is made from the other when a door asks.
type Object struct {
	Kind schema.GroupVersionKind
	// Resource is the object's resource; nil for objects that are of none (Status, Scale, TokenRequest).
	Resource *registry.Resource

	encoded frame.Frame
	decoded runtime.Object
	decode  func() (runtime.Object, error)
}

// marshaler is the generated protobuf encoder of k8s.io/api.
type marshaler interface{ Marshal() ([]byte, error) }

// Encoded returns the object's own encoding, complete with its resource version. It is shared and must not be modified.
func (o *Object) Encoded() (frame.ContentType, []byte, error) {
	if !o.encoded.IsZero() {
		return o.encoded.ContentType(), o.encoded.Object(), nil
	}
	d, err := o.Decoded()
	if err != nil {
		return 0, nil, err
	}
	m, ok := d.(marshaler)
	if _, custom := d.(*registry.CustomObject); custom {
		b, err := m.Marshal()
		return frame.JSON, b, err
	}
	if !ok {
		return 0, nil, fmt.Errorf("%T has no protobuf encoding", d)
	}
	b, err := m.Marshal()
	return frame.Protobuf, b, err
}

// Frame returns the object's frame, if it came from the store.
func (o *Object) Frame() (frame.Frame, bool) { return o.encoded, !o.encoded.IsZero() }

// Decoded returns the object decoded, with apiVersion, kind and resource version. It is shared and must not be modified.
func (o *Object) Decoded() (runtime.Object, error) {
	if o.decoded == nil {
		d, err := o.decode()
		if err != nil {
			return nil, err
		}
		o.decoded = d
	}
	return o.decoded, nil
}

// Result answers everything but List and Watch.
type Result struct {
	// Object is nil after DeleteCollection.
	Object *Object
	// Created: the request made the object. Unchanged: nothing was written as nothing changed. Deleted: the object is gone.
	Created, Unchanged, Deleted bool
	Warnings                    []string
	// Count is how many objects a DeleteCollection deleted or marked, Collection those that it found.
	Count      int64
	Collection *Listing
}

// itemObject wraps an item of a cache.
func (h *handle) itemObject(it *watchcache.Item) *Object {
	return h.framed(it.Frame, func() (runtime.Object, error) { return h.object(it) })
}

// storedObject wraps a decoded object of the handle's kind.
func (h *handle) storedObject(obj registry.Object) *Object {
	return &Object{Kind: h.res.Kind, Resource: h.res, decoded: obj}
}

// foreignObject wraps an object of another kind; it sets apiVersion and kind.
func foreignObject(kind schema.GroupVersionKind, obj runtime.Object) *Object {
	obj.GetObjectKind().SetGroupVersionKind(kind)
	return &Object{Kind: kind, decoded: obj}
}

// statusKind is metav1.Status as every group's legacy core version serves it.
var statusKind = schema.GroupVersionKind{Version: "v1", Kind: "Status"}

func successStatus() *Object {
	return foreignObject(statusKind, &metav1.Status{Status: metav1.StatusSuccess, Code: 201})
}

// decoder decodes a frame of the handle's kind when somebody asks.
func (h *handle) decoder(f frame.Frame) func() (runtime.Object, error) {
	return func() (runtime.Object, error) { return h.decodeFrame(f) }
}

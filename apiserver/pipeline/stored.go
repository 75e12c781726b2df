package pipeline

import (
	"bytes"
	"fmt"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/watchcache"
	"bareboat.dev/apiserver/watchcache/frame"
)

// The functions of this file are where an object passes between the form that it is kept in and the one that it is served
// in. For a resource without Stored they are the same, and its bytes go through as they are.

// shareCache gives a resource that is kept as another one that other one's cache.
func shareCache(set *registry.Set, handles map[schema.GroupVersionResource]*handle, res *registry.Resource) error {
	kept, ok := set.ForKind(res.Stored.Kind)
	if !ok || kept.Stored != nil || kept.KeyPrefix != res.KeyPrefix || kept.Namespaced != res.Namespaced {
		return fmt.Errorf("pipeline: %s cannot be kept as %s", res.Kind, res.Stored.Kind)
	}
	handles[res.GVR()] = &handle{res: res, cache: handles[kept.GVR()].cache}
	return nil
}

// object decodes an item as the handle's kind. It is shared and must not be modified.
func (h *handle) object(it *watchcache.Item) (registry.Object, error) {
	obj, err := h.cache.Object(it)
	if err != nil {
		return nil, err
	}
	return h.fromStored(obj.(registry.Object))
}

// decodeFrame decodes a frame of the store as the handle's kind.
func (h *handle) decodeFrame(f frame.Frame) (registry.Object, error) {
	if h.res.Stored == nil {
		return decodeFrame(h.res, f)
	}
	obj, err := h.cache.Config().Decode(f)
	if err != nil {
		return nil, err
	}
	return h.fromStored(obj.(registry.Object))
}

// inVersion reports whether the JSON text of a custom object, as registry.CustomObject writes it, is of an API version.
func inVersion(text []byte, apiVersion string) bool {
	rest, ok := bytes.CutPrefix(text, []byte(`{"apiVersion":"`))
	if !ok {
		return false
	}
	rest, ok = bytes.CutPrefix(rest, []byte(apiVersion))
	return ok && len(rest) > 0 && rest[0] == '"'
}

// frame makes the bytes that readers see of what the store has.
func (h *handle) frame(stored []byte, rev storage.Revision) (frame.Frame, error) {
	if h.res.Custom != nil && h.res.Custom.View != nil {
		seen, err := h.res.Custom.View(stored)
		if err != nil {
			return frame.Frame{}, err
		}
		stored = seen
	}
	return frame.Splice(stored, int64(rev))
}

func (h *handle) fromStored(obj registry.Object) (registry.Object, error) {
	if h.res.Stored == nil {
		return obj, nil
	}
	own, err := h.res.Stored.From(obj)
	if err != nil {
		return nil, err
	}
	if h.res.Custom == nil { // a custom object says itself what it is, and may be the stored one
		own.GetObjectKind().SetGroupVersionKind(h.res.Kind)
	}
	return own, nil
}

// encodeStored returns what is to be stored of an object of the handle's kind.
func (p *Pipeline) encodeStored(h *handle, obj registry.Object) ([]byte, error) {
	if h.res.Stored == nil {
		return p.codec.EncodeStored(h.res.Kind, obj)
	}
	kept, err := h.res.Stored.To(obj)
	if err != nil {
		return nil, err
	}
	return p.codec.EncodeStored(h.res.Stored.Kind, kept)
}

// framed is an object of the handle's kind that the store has: with the store's bytes if they are of that kind.
func (h *handle) framed(f frame.Frame, decode func() (runtime.Object, error)) *Object {
	o := &Object{Kind: h.res.Kind, Resource: h.res, decode: decode}
	if h.res.Stored == nil || h.res.Custom != nil && inVersion(f.Object(), h.res.Kind.GroupVersion().String()) {
		o.encoded = f
	}
	return o
}

// storedFields is a field selector in the names of the stored kind, by which the cache knows the fields.
func (h *handle) storedFields(s fields.Selector) (fields.Selector, error) {
	if h.res.Stored == nil {
		return s, nil
	}
	return s.Transform(func(field, value string) (string, string, error) {
		if kept, ok := h.res.Stored.Fields[field]; ok {
			field = kept
		}
		return field, value, nil
	})
}

package customresource

import (
	"sync"

	"bareboat.dev/apiserver/registry"
)

// Converted objects are kept so that a webhook is asked once for an object that many read. A definition keeps 4,096 of them, and 48 MiB: what
// is prepared at once, 4 MiB encoded, takes some 20 MiB decoded and fits into a half. Only definitions with a webhook and readers of another
// version have any.
const (
	maxConverted      = 4096
	maxConvertedBytes = 48 << 20
)

// converted keeps what stored objects are in other versions. It holds two halves and forgets the older one when the newer is full,
// so that what is read again and again stays.
type converted struct {
	mu         sync.Mutex
	new, older map[convertedKey]map[string]any
	// bytes is how much the newer half takes, about.
	bytes int
}

// weight is about how many bytes of memory a decoded JSON value takes.
func weight(v any) int {
	const word, entry = 16, 64 // an interface; a map's key with its share of the table
	switch v := v.(type) {
	case string:
		return word + word + len(v)
	case []any:
		n := word + 24
		for _, item := range v {
			n += weight(item)
		}
		return n
	case map[string]any:
		n := word + entry
		for key, value := range v {
			n += entry + len(key) + weight(value)
		}
		return n
	}
	return word + 8
}

// convertedKey names an object at one resource version, which never changes, and a version of its kind.
type convertedKey struct{ uid, revision, version string }

func (c *converted) get(k convertedKey) (map[string]any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if content, ok := c.new[k]; ok {
		return content, true
	}
	content, ok := c.older[k]
	if ok {
		c.putLocked(k, content)
	}
	return content, ok
}

func (c *converted) put(k convertedKey, content map[string]any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(k, content)
}

func (c *converted) putLocked(k convertedKey, content map[string]any) {
	size := weight(content)
	if size > maxConvertedBytes/2 {
		return
	}
	if c.new == nil || len(c.new) >= maxConverted/2 || c.bytes+size > maxConvertedBytes/2 {
		c.older, c.new, c.bytes = c.new, map[convertedKey]map[string]any{}, 0
	}
	if _, ok := c.new[k]; !ok {
		c.bytes += size
	}
	c.new[k] = content
}

// keyOf names a stored object in this version.
func (v *kindVersion) keyOf(obj *registry.CustomObject) convertedKey {
	return convertedKey{string(obj.GetUID()), obj.GetResourceVersion(), v.spec.Name}
}

// lasting keys never come to mean something else.
func (k convertedKey) lasting() bool { return k.uid != "" && k.revision != "" }

// prepare asks once for all of the stored objects that are not known in this version.
func (v *kindVersion) prepare(stored []registry.Object) error {
	r, asks := v.of.convert.(*remote)
	if !asks {
		return nil
	}
	var unknown []*registry.CustomObject
	for _, s := range stored {
		obj := s.(*registry.CustomObject)
		if obj.GetAPIVersion() == v.kind.GroupVersion().String() || !v.keyOf(obj).lasting() {
			continue
		}
		if _, ok := v.of.converted.get(v.keyOf(obj)); !ok {
			unknown = append(unknown, obj)
		}
	}
	if len(unknown) < 2 {
		return nil // one is asked for when it is read
	}
	contents, err := r.convertAll(unknown, v.kind.GroupVersion())
	if err != nil {
		return err
	}
	for i, content := range contents {
		if _, err := v.fit(content, fitting{}); err != nil {
			return err
		}
		v.of.converted.put(v.keyOf(unknown[i]), content)
	}
	return nil
}

// fromStored returns a stored object in this version. The result is shared and not to be modified.
func (v *kindVersion) fromStored(stored registry.Object) (registry.Object, error) {
	obj := stored.(*registry.CustomObject)
	if _, asks := v.of.convert.(*remote); !asks || obj.GetAPIVersion() == v.kind.GroupVersion().String() {
		return v.of.to(v, obj)
	}
	key := v.keyOf(obj)
	if content, ok := v.of.converted.get(key); ok {
		out := &registry.CustomObject{Custom: v.custom}
		out.Object = content
		return out, nil
	}
	out, err := v.of.to(v, obj)
	if err == nil && key.lasting() {
		v.of.converted.put(key, content(out))
	}
	return out, err
}

package customresource

import (
	"sync"

	"bareboat.dev/apiserver/registry"
)

// maxConverted bounds the converted objects that a definition keeps, so that a webhook is asked once for an object that many
// read: 4,096 objects of 4 KiB are 16 MiB, and only definitions with a webhook and readers of another version have any.
const maxConverted = 4096

// converted keeps what stored objects are in other versions. It holds two halves and forgets the older one when the newer is full,
// so that what is read again and again stays.
type converted struct {
	mu         sync.Mutex
	new, older map[convertedKey]map[string]any
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
	if c.new == nil || len(c.new) >= maxConverted/2 {
		c.older, c.new = c.new, map[convertedKey]map[string]any{}
	}
	c.new[k] = content
}

// fromStored returns a stored object in this version. The result is shared and not to be modified.
func (v *kindVersion) fromStored(stored registry.Object) (registry.Object, error) {
	obj := stored.(*registry.CustomObject)
	if _, asks := v.of.convert.(*remote); !asks || obj.GetAPIVersion() == v.kind.GroupVersion().String() {
		return v.of.to(v, obj)
	}
	key := convertedKey{string(obj.GetUID()), obj.GetResourceVersion(), v.spec.Name}
	if content, ok := v.of.converted.get(key); ok {
		out := &registry.CustomObject{Custom: v.custom}
		out.Object = content
		return out, nil
	}
	out, err := v.of.to(v, obj)
	if err == nil && key.uid != "" && key.revision != "" {
		v.of.converted.put(key, content(out))
	}
	return out, err
}

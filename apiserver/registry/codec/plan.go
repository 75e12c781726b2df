package codec

import (
	"reflect"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/registry/codec/wirejson"
)

// plans are made when a client first reads a kind in JSON.
type plans struct {
	wire   *wirejson.Plans
	mu     sync.RWMutex
	byKind map[schema.GroupVersionKind]*wirejson.Plan
}

// Plan returns how the JSON of a kind's objects is written from their protobuf encoding, without decoding them. It is nil for kinds of
// which that cannot be: custom ones, which are no protobuf.
func (c *Codec) Plan(kind schema.GroupVersionKind) *wirejson.Plan {
	c.plans.mu.RLock()
	p, known := c.plans.byKind[kind]
	c.plans.mu.RUnlock()
	if known {
		return p
	}
	obj, err := c.scheme.New(kind)
	if err != nil {
		return nil
	}
	if p, err = c.plans.wire.For(reflect.TypeOf(obj).Elem()); err != nil {
		p = nil
	}
	c.plans.mu.Lock()
	defer c.plans.mu.Unlock()
	c.plans.byKind[kind] = p
	return p
}

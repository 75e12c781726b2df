package patch

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/registry"
)

// converter converts objects between the versions of one kind, since a record may name fields in any of them. It fails with
// "not registered" for a version in which the kind is not served, and the entries in that version are then dropped.
type converter struct {
	runtime.ObjectConvertor
	set *registry.Set
}

func newConverter(set *registry.Set) converter {
	return converter{runtime.UnsafeObjectConvertor(set.Scheme()), set}
}

// ConvertToVersion implements runtime.ObjectConvertor. The outcome may be in itself.
func (c converter) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	from := in.GetObjectKind().GroupVersionKind()
	if _, loose := in.(*unstructured.Unstructured); loose { // as the merge leaves it
		typed, err := c.ObjectConvertor.ConvertToVersion(in, from.GroupVersion())
		if err != nil {
			return nil, err
		}
		in = typed
	}
	obj, ok := in.(registry.Object)
	if !ok {
		return c.ObjectConvertor.ConvertToVersion(in, target)
	}
	gv, isVersion := target.(schema.GroupVersion)
	if !isVersion || from.GroupVersion() == gv {
		return c.ObjectConvertor.ConvertToVersion(in, target)
	}
	own, known := c.set.ForKind(from)
	to, served := c.set.ForKind(gv.WithKind(from.Kind))
	if !known || !served || own.KeyPrefix != to.KeyPrefix || own.Stored == nil && to.Stored == nil {
		return c.ObjectConvertor.ConvertToVersion(in, target)
	}
	obj = obj.DeepCopyObject().(registry.Object)
	var err error
	if own.Stored != nil {
		if obj, err = own.Stored.To(obj); err != nil {
			return nil, err
		}
	}
	if to.Stored != nil {
		if obj, err = to.Stored.From(obj); err != nil {
			return nil, err
		}
	}
	obj.GetObjectKind().SetGroupVersionKind(to.Kind)
	return obj, nil
}

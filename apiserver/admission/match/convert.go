package match

import (
	"fmt"

	"bareboat.dev/apiserver/registry"
)

// Convert returns an object in an equivalent form. It does not modify it, and returns it as it is if that is its form.
func Convert(obj registry.Object, from, to *registry.Resource) (registry.Object, error) {
	if obj == nil || from == to || from.Kind == to.Kind {
		return obj, nil
	}
	if custom, ok := obj.(*registry.CustomObject); ok {
		if from.Custom == nil || from.Custom.Convert == nil {
			return nil, fmt.Errorf("%s cannot be converted", from.Kind)
		}
		return from.Custom.Convert(custom, to.Kind.GroupVersion())
	}
	var err error
	if from.Stored != nil {
		if obj, err = from.Stored.To(obj); err != nil {
			return nil, err
		}
	}
	if to.Stored != nil {
		if obj, err = to.Stored.From(obj); err != nil {
			return nil, err
		}
	}
	if from.Stored == nil && to.Stored == nil {
		return nil, fmt.Errorf("%s cannot be converted to %s", from.Kind, to.Kind)
	}
	// What conversion returned may be shared.
	obj = obj.DeepCopyObject().(registry.Object)
	obj.GetObjectKind().SetGroupVersionKind(to.Kind)
	return obj, nil
}

package patch

import (
	"k8s.io/apimachinery/pkg/util/managedfields"

	"bareboat.dev/apiserver/registry"
)

// Types returns what gives a kind's objects types, by which they are merged.
func (f *Fields) Types(r *registry.Resource) (managedfields.TypeConverter, error) {
	if r.Custom != nil {
		return r.Custom.Converter()
	}
	return f.types(r), nil
}

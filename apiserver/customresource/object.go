package customresource

import (
	"bytes"
	"errors"
	"fmt"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/registry"
)

// coerce is registry.Custom's Coerce for what clients send.
func (v *kindVersion) coerce(obj map[string]any, paths bool) ([]string, error) {
	return v.fit(obj, fitting{paths: paths})
}

// fitting says how an object is made to fit.
type fitting struct {
	// paths of what was unknown are wanted.
	paths bool
	// stored: the object is from the store, where malformed metadata of old is dropped and not refused.
	stored bool
}

// fit does to an object what decoding into a Go type would do: unknown fields go, nulls for what is not nullable go, the
// metadata of the object and of embedded resources is well-formed.
func (v *kindVersion) fit(obj map[string]any, how fitting) (unknown []string, err error) {
	s, err := v.schema()
	if err != nil {
		return nil, err
	}
	kind, hasKind, err := unstructured.NestedString(obj, "kind")
	if err != nil {
		return nil, err
	}
	apiVersion, hasVersion, err := unstructured.NestedString(obj, "apiVersion")
	if err != nil {
		return nil, err
	}
	meta, hasMeta, unknown, err := objectmeta.GetObjectMetaWithOptions(obj, objectmeta.ObjectMetaOptions{
		DropMalformedFields: how.stored, ReturnUnknownFieldPaths: how.paths,
	})
	if err != nil {
		return nil, err
	}
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return nil, err
	}
	if gv == v.kind.GroupVersion() && kind == v.kind.Kind {
		more, err := v.fitSchema(obj, s, how)
		if err != nil {
			return nil, err
		}
		unknown = append(unknown, more...)
		if how.stored && meta != nil && meta.Generation == 0 {
			meta.Generation = 1 // from before custom resources had generations
		}
	}
	if hasKind {
		obj["kind"] = kind
	}
	if hasVersion {
		obj["apiVersion"] = apiVersion
	}
	if hasMeta {
		return unknown, objectmeta.SetObjectMeta(obj, meta)
	}
	return unknown, nil
}

func (v *kindVersion) fitSchema(obj map[string]any, s *structuralschema.Structural, how fitting) (unknown []string, err error) {
	if !v.of.spec.PreserveUnknownFields {
		unknown = pruning.PruneWithOptions(obj, s, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: how.paths})
		defaulting.PruneNonNullableNullsWithoutDefaults(obj, s)
	}
	bad, more := objectmeta.CoerceWithOptions(nil, obj, s, false, objectmeta.CoerceOptions{
		DropInvalidFields: how.stored, ReturnUnknownFieldPaths: how.paths,
	})
	if bad != nil {
		return nil, bad
	}
	return append(unknown, more...), nil
}

// fill sets defaults.
func (v *kindVersion) fill(obj map[string]any) {
	if s, err := v.schema(); err == nil {
		defaulting.Default(obj, s)
	}
}

var errUnknownVersion = errors.New("not a version of the definition")

// versionOf finds the version that an object is in.
func (d *definition) versionOf(obj map[string]any) (*kindVersion, error) {
	apiVersion, _ := obj["apiVersion"].(string)
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return nil, err
	}
	v, ok := d.versions[gv.Version]
	if !ok || gv.Group != d.spec.Group {
		return nil, fmt.Errorf("request to convert CR from an invalid group/version: %s: %w", gv, errUnknownVersion)
	}
	return v, nil
}

// view is what readers see of stored bytes: the object as its version's schema has it now, defaults filled in.
func (d *definition) view(stored []byte) ([]byte, error) {
	obj := registry.CustomObject{}
	if err := obj.Unmarshal(stored); err != nil {
		return nil, err
	}
	v, err := d.versionOf(obj.Object)
	if err != nil {
		return nil, err
	}
	if _, err := v.fit(obj.Object, fitting{stored: true}); err != nil {
		return nil, err
	}
	v.fill(obj.Object)
	seen, err := obj.Marshal()
	if err == nil && bytes.Equal(seen, stored) {
		return stored, nil
	}
	return seen, err
}

// toStored returns an object in the storage version.
func (d *definition) toStored(obj registry.Object) (registry.Object, error) {
	return d.to(d.storage, obj.(*registry.CustomObject))
}

// convertTo returns an object in a version that is named.
func (d *definition) convertTo(obj *registry.CustomObject, gv schema.GroupVersion) (*registry.CustomObject, error) {
	v, ok := d.versions[gv.Version]
	if !ok || gv.Group != d.spec.Group {
		return nil, fmt.Errorf("request to convert CR to an invalid group/version: %s: %w", gv, errUnknownVersion)
	}
	out, err := d.to(v, obj)
	if err != nil {
		return nil, err
	}
	return out.(*registry.CustomObject), nil
}

// to returns an object in a version. One that is in it already is returned as it is.
func (d *definition) to(v *kindVersion, obj *registry.CustomObject) (registry.Object, error) {
	from, err := d.versionOf(obj.Object)
	if err != nil {
		return nil, err
	}
	if from == v {
		return obj, nil
	}
	content, err := d.convert.convert(obj, v.kind.GroupVersion())
	if err != nil {
		return nil, err
	}
	out := &registry.CustomObject{Custom: v.custom}
	out.Object = content
	if _, err := v.fit(out.Object, fitting{}); err != nil {
		return nil, err
	}
	return out, nil
}

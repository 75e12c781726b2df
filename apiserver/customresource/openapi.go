package customresource

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// objectMeta is the name of the schema of metav1.ObjectMeta.
const objectMeta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

// Where the schemas of a document are.
const (
	refsV2 = "#/definitions/"
	refsV3 = "#/components/schemas/"
)

// openAPI is the version's schema as a document publishes it. Without a schema nothing is said of the fields: clients would take
// what is listed for all that there is.
func (v *kindVersion) openAPI(v2 bool) (map[string]any, error) {
	s, err := v.published(v2)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("customresource: %s: %w", v.kind, err)
	}
	var out map[string]any
	return out, json.Unmarshal(b, &out)
}

func (v *kindVersion) published(v2 bool) (*spec.Schema, error) {
	refs := refsV3
	if v2 {
		refs = refsV2
	}
	structural, err := v.schema()
	if err != nil {
		return nil, err
	}
	var out *spec.Schema
	if structural == nil || v2 && (structural.XPreserveUnknownFields || v.of.spec.PreserveUnknownFields) {
		out = &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}}}
	} else {
		structural = structural.DeepCopy().Unfold() // it unfolds in place, and objects are read by the schema meanwhile
		if v2 {
			structural = lessened(structural)
		}
		out = structural.ToKubeOpenAPI()
		identify(out, refs)
		embed(out, refs, v2)
	}
	out.AddExtension("x-kubernetes-group-version-kind", []any{
		map[string]any{"group": v.kind.Group, "version": v.kind.Version, "kind": v.kind.Kind},
	})
	if len(v.spec.SelectableFields) > 0 {
		var fields []any
		for _, f := range v.spec.SelectableFields {
			fields = append(fields, map[string]any{"fieldPath": f.JSONPath[1:]})
		}
		out.AddExtension("x-kubernetes-selectable-fields", fields)
	}
	return out, nil
}

// identify adds what every object has.
func identify(s *spec.Schema, refs string) {
	docs := metav1.TypeMeta{}.SwaggerDoc()
	for _, name := range []string{"apiVersion", "kind"} {
		s.SetProperty(name, *spec.StringProperty().WithDescription(docs[name]))
	}
	meta := spec.RefSchema(refs + objectMeta)
	if refs == refsV3 {
		// In version 3.0 nothing may stand beside $ref.
		meta = &spec.Schema{SchemaProps: spec.SchemaProps{AllOf: []spec.Schema{*meta}}}
	}
	s.SetProperty("metadata", *meta.WithDescription(metav1.PartialObjectMetadata{}.SwaggerDoc()["metadata"]))
}

// embed does so for the resources within.
func embed(s *spec.Schema, refs string, v2 bool) {
	if s == nil {
		return
	}
	for name := range s.Properties {
		p := s.Properties[name]
		embed(&p, refs, v2)
		s.Properties[name] = p
	}
	if s.Items != nil {
		embed(s.Items.Schema, refs, v2)
	}
	if s.AdditionalProperties != nil {
		embed(s.AdditionalProperties.Schema, refs, v2)
	}
	open, _ := s.Extensions.GetBool("x-kubernetes-preserve-unknown-fields")
	embedded, _ := s.Extensions.GetBool("x-kubernetes-embedded-resource")
	if !embedded || open && v2 {
		return
	}
	identify(s, refs)
	for _, name := range []string{"kind", "apiVersion"} {
		if !slices.Contains(s.Required, name) {
			s.Required = append(s.Required, name)
		}
	}
}

// lessened is a schema without what version 2 cannot say, or kubectl does not understand in it: junctions, nullable values, and
// what is known of values that may have unknown fields.
func lessened(s *structuralschema.Structural) *structuralschema.Structural {
	s = s.DeepCopy()
	visitor := structuralschema.Visitor{Structural: func(s *structuralschema.Structural) bool {
		if v := s.ValueValidation; v != nil {
			v.AllOf, v.OneOf, v.AnyOf, v.Not = nil, nil, nil, nil
			v.Required = slices.DeleteFunc(v.Required, func(name string) bool {
				p, ok := s.Properties[name]
				return ok && p.Nullable
			})
		}
		if s.Nullable {
			s.Type, s.Nullable = "", false
			s.Items, s.Properties = nil, nil
		}
		if s.XPreserveUnknownFields {
			s.Items, s.Properties = nil, nil
		}
		if s.Items == nil && s.Type == "array" || s.XPreserveUnknownFields && s.Type == "object" {
			s.Type = ""
		}
		return true
	}}
	visitor.Visit(s)
	return s
}

// typesOnce makes a definition's type converter once.
type typesOnce struct {
	once      sync.Once
	converter managedfields.TypeConverter
	err       error
}

// typeConverter gives objects types by the schemas of all versions, as a record of managed fields may name fields in any.
func (d *definition) typeConverter() (managedfields.TypeConverter, error) {
	t := &d.types
	t.once.Do(func() {
		models := map[string]*spec.Schema{objectMeta: metaSchema()}
		for name, v := range d.versions {
			s, err := v.published(false)
			if err != nil {
				t.err = err
				return
			}
			models[d.name+"."+name] = s
		}
		t.converter, t.err = managedfields.NewTypeConverter(models, d.spec.PreserveUnknownFields)
	})
	return t.converter, t.err
}

// metaSchema is metav1.ObjectMeta as far as merging needs to know it.
func metaSchema() *spec.Schema {
	text := func() *spec.Schema { return spec.StringProperty() }
	number := func() *spec.Schema { return spec.Int64Property() }
	stringMap := func() *spec.Schema { return spec.MapProperty(text()) }
	list := func(items *spec.Schema, listType string, keys ...any) *spec.Schema {
		l := spec.ArrayProperty(items)
		l.AddExtension("x-kubernetes-list-type", listType)
		if len(keys) > 0 {
			l.AddExtension("x-kubernetes-list-map-keys", keys)
		}
		return l
	}
	owner := &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}, Properties: map[string]spec.Schema{
		"apiVersion": *text(), "kind": *text(), "name": *text(), "uid": *text(),
		"controller": *spec.BooleanProperty(), "blockOwnerDeletion": *spec.BooleanProperty(),
	}}}
	owner.AddExtension("x-kubernetes-map-type", "atomic")
	record := &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}, Properties: map[string]spec.Schema{
		"apiVersion": *text(), "fieldsType": *text(), "manager": *text(), "operation": *text(), "subresource": *text(), "time": *text(),
		"fieldsV1": {SchemaProps: spec.SchemaProps{Type: []string{"object"}}},
	}}}
	return &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}, Properties: map[string]spec.Schema{
		"name": *text(), "generateName": *text(), "namespace": *text(), "selfLink": *text(), "uid": *text(), "resourceVersion": *text(),
		"creationTimestamp": *text(), "deletionTimestamp": *text(), "generation": *number(), "deletionGracePeriodSeconds": *number(),
		"labels": *stringMap(), "annotations": *stringMap(),
		"finalizers":      *list(text(), "set"),
		"ownerReferences": *list(owner, "map", "uid"),
		"managedFields":   *list(record, "atomic"),
	}}}
}

// newList returns an empty list of the version's objects, for encoders.
func (v *kindVersion) newList() runtime.Object {
	l := &unstructured.UnstructuredList{}
	l.SetGroupVersionKind(v.kind.GroupVersion().WithKind(v.of.names.ListKind))
	return l
}

package openapi

import (
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// builder collects the schemas that a document refers to.
type builder struct {
	// refs begins references to schemas.
	refs    string
	v3      bool
	schemas object
	// media of the resource that is being added.
	media media
}

// described is what types that are not what their fields are say of themselves (metav1.Time, resource.Quantity). No type is any.
type described interface {
	OpenAPISchemaType() []string
	OpenAPISchemaFormat() string
}

// documented types carry descriptions generated from their comments, by field; "" is the type's own.
type documented interface{ SwaggerDoc() map[string]string }

// schemaName is upstream's name of a type: its package with the domain reversed, k8s.io/api/core/v1 Pod is io.k8s.api.core.v1.Pod.
func schemaName(t reflect.Type) string {
	domain, path, _ := strings.Cut(t.PkgPath(), "/")
	parts := strings.Split(domain, ".")
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	parts = append(parts, strings.Split(path, "/")...)
	return strings.Join(append(parts, t.Name()), ".")
}

// of returns the schema of a type: inline for simple ones, by reference for structs.
func (b *builder) of(t reflect.Type) object {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if _, ok := reflect.New(t).Interface().(described); ok {
		return b.ref(t)
	}
	switch t.Kind() {
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int32, reflect.Uint32, reflect.Int16, reflect.Uint16, reflect.Int8, reflect.Uint8:
		return object{"type": "integer", "format": "int32"}
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint64:
		return object{"type": "integer", "format": "int64"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number", "format": "double"}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": "string", "format": "byte"}
		}
		return object{"type": "array", "items": b.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": b.of(t.Elem())}
	case reflect.Struct:
		return b.ref(t)
	case reflect.Interface:
		return object{"type": "object"}
	}
	if values := marks().values[schemaName(t)]; t.PkgPath() != "" && len(values) > 0 {
		return object{"type": "string", "enum": values}
	}
	return object{"type": "string"}
}

// ref refers to a named type's schema, which it builds the first time.
func (b *builder) ref(t reflect.Type) object {
	name := schemaName(t)
	if _, ok := b.schemas[name]; !ok {
		s := object{}
		b.schemas[name] = s // before its fields, which may refer to it
		b.fill(s, t)
	}
	return object{"$ref": b.refs + name}
}

func (b *builder) fill(s object, t reflect.Type) {
	if doc, ok := reflect.New(t).Interface().(documented); ok {
		if text := doc.SwaggerDoc()[""]; text != "" {
			s["description"] = text
		}
	}
	if d, ok := reflect.New(t).Interface().(described); ok {
		if of := d.OpenAPISchemaType(); len(of) > 0 {
			s["type"] = of[0]
		}
		if f := d.OpenAPISchemaFormat(); f != "" {
			s["format"] = f
		}
		if one, ok := reflect.New(t).Interface().(interface{ OpenAPIV3OneOfTypes() []string }); ok && b.v3 {
			delete(s, "type")
			var of []any
			for _, each := range one.OpenAPIV3OneOfTypes() {
				of = append(of, object{"type": each})
			}
			s["oneOf"] = of
		}
		return
	}
	s["type"] = "object"
	if merge := marks().fields[schemaName(t)][""].merge; merge != "" {
		s["x-kubernetes-map-type"] = merge
	}
	properties, required := object{}, []string{}
	b.fields(t, properties, &required)
	if len(properties) > 0 {
		s["properties"] = properties
	}
	if len(required) > 0 {
		s["required"] = required
	}
}

// fields adds a struct's JSON fields, those of inlined structs among them.
func (b *builder) fields(t reflect.Type, properties object, required *[]string) {
	docs := map[string]string{}
	if d, ok := reflect.New(t).Interface().(documented); ok {
		docs = d.SwaggerDoc()
	}
	marked := marks().fields[schemaName(t)]
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
			continue
		case name == "" && (f.Anonymous || strings.Contains(options, "inline")):
			inner := f.Type
			for inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			b.fields(inner, properties, required)
			continue
		case name == "":
			continue
		}
		m := marked[name]
		properties[name] = b.property(f, docs[name], m)
		omitted := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		if m.required || !omitted && !m.optional {
			*required = append(*required, name)
		}
	}
}

func (b *builder) property(f reflect.StructField, description string, m mark) object {
	s := b.of(f.Type)
	_, isRef := s["$ref"]
	if isRef && b.v3 && description != "" {
		// In version 3.0 nothing may stand beside $ref.
		s = object{"allOf": []any{s}}
	}
	if description != "" {
		s["description"] = description
	}
	if isRef && description == "" {
		return s
	}
	m.describe(s, f.Type.Kind())
	if m.standard != nil && b.v3 {
		// Version 2 has none, as upstream's: clients of old take a default for a value that they should send.
		s["default"] = m.standard
	}
	if v := f.Tag.Get("patchStrategy"); v != "" {
		s["x-kubernetes-patch-strategy"] = v
	}
	if v := f.Tag.Get("patchMergeKey"); v != "" {
		s["x-kubernetes-patch-merge-key"] = v
	}
	return s
}

// kind refers to a kind's type and marks its schema with its group, version and kind.
func (b *builder) kind(gvk schema.GroupVersionKind, obj any) object {
	t := reflect.TypeOf(obj)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	ref := b.ref(t)
	s := b.schemas[schemaName(t)].(object)
	mark := object{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}
	have, _ := s["x-kubernetes-group-version-kind"].([]any)
	for _, m := range have {
		if reflect.DeepEqual(m, mark) {
			return ref
		}
	}
	s["x-kubernetes-group-version-kind"] = append(have, mark)
	return ref
}

// Package explain describes kinds and their fields from the OpenAPI v3 documents that a server publishes, in the words and the
// layout of `kubectl explain`. It is pure: documents in, text out.
//
//	doc, err := explain.Parse(data)
//	err = explain.Write(out, doc, gvk, []string{"spec", "containers"}, false)
package explain

import (
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Document is an OpenAPI v3 document, of which only schemas matter here.
type Document struct {
	Components struct {
		Schemas map[string]*Schema `json:"schemas"`
	} `json:"components"`
}

// Schema is what a document says about a type or a field.
type Schema struct {
	Ref         string             `json:"$ref"`
	Type        string             `json:"type"`
	Description string             `json:"description"`
	Properties  map[string]*Schema `json:"properties"`
	Items       *Schema            `json:"items"`
	Additional  *schemaOrBool      `json:"additionalProperties"`
	AllOf       []*Schema          `json:"allOf"`
	Required    []string           `json:"required"`
	Enum        []any              `json:"enum"`
	Kinds       []struct {
		Group   string `json:"group"`
		Version string `json:"version"`
		Kind    string `json:"kind"`
	} `json:"x-kubernetes-group-version-kind"`
}

// schemaOrBool is additionalProperties: a schema, or whether any are allowed.
type schemaOrBool struct{ schema *Schema }

// UnmarshalJSON implements json.Unmarshaler.
func (s *schemaOrBool) UnmarshalJSON(data []byte) error {
	if text := string(data); text == "true" || text == "false" {
		return nil
	}
	return json.Unmarshal(data, &s.schema)
}

// Parse reads a document.
func Parse(data []byte) (*Document, error) {
	d := &Document{}
	if err := json.Unmarshal(data, d); err != nil {
		return nil, fmt.Errorf("OpenAPI document: %w", err)
	}
	return d, nil
}

// NoFieldError says that a path names a field that there is not.
type NoFieldError struct{ Field string }

// Error implements error.
func (e *NoFieldError) Error() string { return fmt.Sprintf("field %q does not exist", e.Field) }

// kind finds the schema of a kind.
func (d *Document) kind(gvk schema.GroupVersionKind) (*Schema, error) {
	for _, s := range d.Components.Schemas {
		for _, k := range s.Kinds {
			if k.Group == gvk.Group && k.Version == gvk.Version && k.Kind == gvk.Kind {
				return s, nil
			}
		}
	}
	return nil, fmt.Errorf("the server does not describe %s", gvk)
}

// deref follows a reference; a schema without one, or whose reference is not in the document, is itself.
func (d *Document) deref(s *Schema) *Schema {
	if to := d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]; s.Ref != "" && to != nil {
		return to
	}
	return s
}

// chain is a schema and what it refers to, holds as a list or map, or takes over, step by step, at whatever depth.
func (d *Document) chain(s *Schema) []*Schema {
	out := []*Schema{s}
	for len(out) < maxDepth {
		next := d.inner(s)
		if next == nil {
			break
		}
		s = next
		out = append(out, s)
	}
	return out
}

// maxDepth bounds how deep types are followed: the deepest of Kubernetes' own, a pod's, goes down eleven levels, and one that
// refers to itself has no end.
const maxDepth = 32

// inner is what a reference refers to, a list or map holds, or a lone allOf says; nil for anything else.
func (d *Document) inner(s *Schema) *Schema {
	switch to := d.deref(s); {
	case to != s:
		return to
	case s.Items != nil:
		return s.Items
	case s.Additional != nil && s.Additional.schema != nil:
		return s.Additional.schema
	case len(s.AllOf) == 1 && len(s.Properties) == 0:
		return s.AllOf[0]
	}
	return nil
}

// fields are the properties of a schema, or of what it holds.
func (d *Document) fields(s *Schema) *Schema {
	for _, step := range d.chain(s) {
		if len(step.Properties) > 0 {
			return step
		}
	}
	return nil
}

// find follows a path of field names.
func (d *Document) find(s *Schema, path []string) (*Schema, error) {
	for _, name := range path {
		owner := d.fields(s)
		if owner == nil || owner.Properties[name] == nil {
			return nil, &NoFieldError{name}
		}
		s = owner.Properties[name]
	}
	return s, nil
}

// typeName is how a schema's type is written: []string, map[string]Quantity, PodSpec.
func (d *Document) typeName(s *Schema) string {
	switch {
	case s.Items != nil:
		return "[]" + d.typeName(s.Items)
	case s.Additional != nil && s.Additional.schema != nil:
		return "map[string]" + d.typeName(s.Additional.schema)
	case len(s.AllOf) == 1 && len(s.Properties) == 0:
		return d.typeName(s.AllOf[0])
	case s.Ref != "":
		if to := d.deref(s); to != s && to.Type != "" && to.Type != "object" {
			return d.typeName(to)
		}
		return s.Ref[strings.LastIndexAny(s.Ref, "./")+1:]
	case s.Type == "" || s.Type == "object":
		return "Object"
	}
	return s.Type
}

// descriptions are what is said of a schema itself and of the types behind it, each once.
func (d *Document) descriptions(s *Schema) []string {
	var out []string
	seen := map[string]bool{}
	for _, step := range d.chain(s) {
		if text := step.Description; text != "" && !seen[text] {
			seen[text] = true
			out = append(out, text)
		}
		if len(step.Properties) > 0 {
			break
		}
	}
	return out
}

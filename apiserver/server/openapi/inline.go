package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"k8s.io/kube-openapi/pkg/validation/spec"

	"bareboat.dev/apiserver/registry"
)

// Inline returns the schema of a kind's objects by itself, with every schema that it refers to put in its place. A schema within itself is
// an object of which nothing more is known.
func Inline(r *registry.Resource) (*spec.Schema, error) {
	// The form of version 2 gives every value one type. What a definition says in it is less than what version 3 can say.
	b := &builder{refs: "#/definitions/", schemas: object{}, v3: r.Custom != nil}
	own, _ := b.kinds(r)
	in := inliner{refs: b.refs, schemas: b.schemas, within: map[string]bool{}}
	whole, err := json.Marshal(in.put(own))
	if err != nil {
		return nil, fmt.Errorf("openapi: %s: %w", r.Kind, err)
	}
	s := &spec.Schema{}
	if err := json.Unmarshal(whole, s); err != nil {
		return nil, fmt.Errorf("openapi: %s: %w", r.Kind, err)
	}
	return s, nil
}

type inliner struct {
	refs    string
	schemas object
	// within are the schemas that are being put in.
	within map[string]bool
}

// put returns a part of a schema without references.
func (in *inliner) put(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = in.put(v[i])
		}
		return out
	case object:
		return in.object(v)
	}
	return v
}

func (in *inliner) object(o object) any {
	if ref, ok := o["$ref"].(string); ok {
		return in.referred(ref)
	}
	// One schema in allOf is how version 3 says more of what it refers to.
	if all, ok := o["allOf"].([]any); ok && len(all) == 1 {
		if one, ok := in.put(all[0]).(object); ok {
			out := maps.Clone(one)
			for key, value := range o {
				if key != "allOf" {
					out[key] = in.put(value)
				}
			}
			return out
		}
	}
	out := make(object, len(o))
	for key, value := range o {
		if _, text := value.(string); key == "description" && text {
			continue // most of the bytes, and nothing that a value is held to
		}
		out[key] = in.put(value)
	}
	return out
}

func (in *inliner) referred(ref string) any {
	name := ref[strings.LastIndexByte(ref, '/')+1:]
	s, ok := in.schemas[name]
	if !ok || in.within[name] {
		return object{"type": "object"}
	}
	in.within[name] = true
	defer delete(in.within, name)
	return in.put(s)
}

package apiextensions

import (
	"maps"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// place is where in a schema the walk is.
type place struct {
	root bool
	// meta: within the metadata or type of a resource, the whole one or an embedded one.
	meta bool
	// allowDefaults; noDefaults says why not.
	allowDefaults bool
	noDefaults    string
	// uncorrelated is the outermost schema whose values cannot be matched between two states of an object.
	uncorrelated *field.Path
	// scope is what CEL rules see; nil where none may be.
	scope *scope
}

func (p place) forbidDefaults(why string) place {
	p.allowDefaults, p.noDefaults = false, why
	return p
}

func (p place) uncorrelate(at *field.Path) place {
	if p.uncorrelated == nil {
		p.uncorrelated = at
	}
	return p
}

// below is a place further in, without what holds at the root alone and with another scope.
func (p place) below(s *scope) place {
	p.root, p.scope = false, s
	return p
}

// walker checks a schema and all within. Errors of CEL rules come last, and rules are only looked at where nothing else is wrong.
type walker struct {
	rules     *rules
	unchanged bool
	cost      *costs

	found, foundCEL field.ErrorList
}

func (w *walker) add(errs ...*field.Error) { w.found = append(w.found, errs...) }

func (w *walker) walk(path *field.Path, s *apiextensions.JSONSchemaProps, p place) {
	if s == nil {
		return
	}
	before := len(w.found)
	w.unsupported(path, s, p)
	w.properties(path, s, p)
	w.junctions(path, s, p)
	if s.Items != nil {
		items := p
		if s.XListType == nil || *s.XListType != "map" {
			items = p.uncorrelate(path)
		}
		w.walk(path.Child("items"), s.Items.Schema, items.below(p.scope.items(s.Items.Schema)))
		for i := range s.Items.JSONSchemas {
			w.walk(path.Child("items").Index(i), &s.Items.JSONSchemas[i], items.below(p.scope.items(&s.Items.JSONSchemas[i])))
		}
	}
	w.extensions(path, s)
	if w.rules.keyedMaps {
		w.add(checkKeys(s, path)...)
	}
	if len(s.XValidations) > 0 {
		w.ruleTexts(path, s)
		if len(w.found) == before && p.scope != nil {
			w.compile(path, s, p)
		}
	}
}

// unsupported refuses what is OpenAPI and not Kubernetes'.
func (w *walker) unsupported(path *field.Path, s *apiextensions.JSONSchemaProps, p place) {
	if w.rules.knownTypes && hasUnknownType(s) {
		w.add(field.NotSupported(path.Child("type"), s.Type, openAPITypes()))
	}
	if s.Default != nil && !p.allowDefaults {
		detail := "must not be set"
		if p.noDefaults != "" {
			detail += " " + p.noDefaults
		}
		w.add(field.Forbidden(path.Child("default"), detail))
	}
	for _, x := range []struct {
		there        bool
		name, detail string
	}{
		{s.ID != "", "id", "id is not supported"},
		{s.AdditionalItems != nil, "additionalItems", "additionalItems is not supported"},
		{len(s.PatternProperties) > 0, "patternProperties", "patternProperties is not supported"},
		{len(s.Definitions) > 0, "definitions", "definitions is not supported"},
		{s.Dependencies != nil, "dependencies", "dependencies is not supported"},
		{s.Ref != nil, "$ref", "$ref is not supported"},
		{s.Type == "null", "type", "type cannot be set to null, use nullable as an alternative"},
		{s.Items != nil && len(s.Items.JSONSchemas) > 0, "items", "items must be a schema object and not an array"},
		{p.meta && s.XEmbeddedResource, "x-kubernetes-embedded-resource", "must not be used inside of resource meta"},
		{s.UniqueItems, "uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"},
	} {
		if x.there {
			w.add(field.Forbidden(path.Child(x.name), x.detail))
		}
	}
}

func (w *walker) properties(path *field.Path, s *apiextensions.JSONSchemaProps, p place) {
	if a := s.AdditionalProperties; a != nil {
		if len(s.Properties) > 0 && (!a.Allows || a.Schema != nil) {
			w.add(field.Forbidden(path.Child("additionalProperties"), "additionalProperties and properties are mutual exclusive"))
		}
		values := p
		if p.meta {
			values = p.forbidDefaults("inside additionalProperties applying to object metadata")
		}
		w.walk(path.Child("additionalProperties"), a.Schema, values.below(p.scope.values(a.Schema)))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		property, inner := s.Properties[name], p
		if !cel.MapIsCorrelatable(s.XMapType) {
			inner = inner.uncorrelate(path)
		}
		if (p.root || s.XEmbeddedResource) && slices.Contains([]string{"metadata", "kind", "apiVersion"}, name) {
			inner.meta = true
			if p.root {
				inner = inner.forbidDefaults("in top-level " + name)
			}
		}
		w.walk(path.Child("properties").Key(name), &property, inner.below(p.scope.property(&property, name)))
	}
}

// junctions are the schemas within that say nothing about the form of a value, and hold no rules.
func (w *walker) junctions(path *field.Path, s *apiextensions.JSONSchemaProps, p place) {
	p = p.below(nil)
	w.walk(path.Child("not"), s.Not, p)
	for _, list := range []struct {
		name string
		of   []apiextensions.JSONSchemaProps
	}{{"allOf", s.AllOf}, {"oneOf", s.OneOf}, {"anyOf", s.AnyOf}} {
		for i := range list.of {
			w.walk(path.Child(list.name).Index(i), &list.of[i], p)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Definitions)) {
		d := s.Definitions[name]
		w.walk(path.Child("definitions").Key(name), &d, p)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Dependencies)) {
		w.walk(path.Child("dependencies").Key(name), s.Dependencies[name].Schema, p)
	}
}

// extensions checks x-kubernetes-preserve-unknown-fields, -map-type, -list-type and -list-map-keys.
func (w *walker) extensions(path *field.Path, s *apiextensions.JSONSchemaProps) {
	if u := s.XPreserveUnknownFields; u != nil && !*u {
		w.add(field.Invalid(path.Child("x-kubernetes-preserve-unknown-fields"), *u, "must be true or undefined"))
	}
	if m := s.XMapType; m != nil {
		w.typed(path, s, "object", "x-kubernetes-map-type")
		if accepted := []string{"atomic", "granular"}; !slices.Contains(accepted, *m) {
			w.add(field.NotSupported(path.Child("x-kubernetes-map-type"), *m, accepted))
		}
	}
	if s.XListType != nil && !w.typed(path, s, "array", "x-kubernetes-list-type") && w.rules.atomicSets && isSetOfComposites(s) {
		name := "x-kubernetes-list-type"
		if s.Items.Schema.Type == "object" {
			name = "x-kubernetes-map-type"
		}
		w.add(field.Invalid(path.Child("items").Child(name), s.Items.Schema.XListType, "must be atomic as item of a list with x-kubernetes-list-type=set"))
	}
	if l := s.XListType; l != nil && !slices.Contains([]string{"atomic", "set", "map"}, *l) {
		w.add(field.NotSupported(path.Child("x-kubernetes-list-type"), *l, []string{"atomic", "set", "map"}))
	}
	if len(s.XListMapKeys) > 0 {
		const detail = "must be map if x-kubernetes-list-map-keys is non-empty"
		if s.XListType == nil {
			w.add(field.Required(path.Child("x-kubernetes-list-type"), detail))
		} else if *s.XListType != "map" {
			w.add(field.Invalid(path.Child("x-kubernetes-list-type"), *s.XListType, detail))
		}
	}
	if s.XListType != nil && *s.XListType == "map" {
		w.listMap(path, s)
	}
}

// typed demands the type that an extension is for, and reports whether it is another.
func (w *walker) typed(path *field.Path, s *apiextensions.JSONSchemaProps, want, extension string) bool {
	detail := "must be " + want + " if " + extension + " is specified"
	switch s.Type {
	case want:
		return false
	case "":
		w.add(field.Required(path.Child("type"), detail))
	default:
		w.add(field.Invalid(path.Child("type"), s.Type, detail))
	}
	return true
}

// isSetOfComposites reports whether a list is a set of what is not one value.
func isSetOfComposites(s *apiextensions.JSONSchemaProps) bool {
	if s.XListType == nil || *s.XListType != "set" || s.Items == nil || s.Items.Schema == nil {
		return false
	}
	switch items := s.Items.Schema; items.Type {
	case "array":
		return items.XListType != nil && *items.XListType != "atomic"
	case "object":
		return items.XMapType == nil || *items.XMapType != "atomic"
	}
	return false
}

func (w *walker) listMap(path *field.Path, s *apiextensions.JSONSchemaProps) {
	keys := path.Child("x-kubernetes-list-map-keys")
	if len(s.XListMapKeys) == 0 {
		w.add(field.Required(keys, "must not be empty if x-kubernetes-list-type is map"))
	}
	switch {
	case s.Items == nil:
		w.add(field.Required(path.Child("items"), "must have a schema if x-kubernetes-list-type is map"))
		return
	case s.Items.Schema == nil:
		w.add(field.Invalid(path.Child("items"), s.Items, "must only have a single schema if x-kubernetes-list-type is map"))
		return
	case s.Items.Schema.Type != "object":
		w.add(field.Invalid(path.Child("items", "type"), s.Items.Schema.Type, "must be object if parent array's x-kubernetes-list-type is map"))
		return
	}
	for i, k := range s.XListMapKeys {
		if property, ok := s.Items.Schema.Properties[k]; !ok {
			w.add(field.Invalid(keys, s.XListMapKeys, "entries must all be names of item properties"))
		} else if property.Type == "array" || property.Type == "object" {
			w.add(field.Invalid(path.Child("items", "properties").Key(k).Child("type"), s.Items.Schema.Type, "must be a scalar type if parent array's x-kubernetes-list-type is map"))
		}
		if slices.Contains(s.XListMapKeys[:i], k) {
			w.add(field.Invalid(keys, s.XListMapKeys, "must not contain duplicate entries"))
		}
	}
}

// checkKeys demands that the items of a set or map, and the keys of a map's, are always there.
func checkKeys(s *apiextensions.JSONSchemaProps, path *field.Path) field.ErrorList {
	if s.Items == nil || s.Items.Schema == nil || s.XListType == nil || *s.XListType != "set" && *s.XListType != "map" {
		return nil
	}
	var errs field.ErrorList
	if s.Items.Schema.Nullable {
		errs = append(errs, field.Forbidden(path.Child("items", "nullable"), "cannot be nullable when x-kubernetes-list-type is "+*s.XListType))
	}
	if *s.XListType == "set" {
		return errs
	}
	for _, k := range s.XListMapKeys {
		property, ok := s.Items.Schema.Properties[k]
		if !ok {
			continue
		}
		at := path.Child("items", "properties").Key(k)
		if !slices.Contains(s.Items.Schema.Required, k) && property.Default == nil {
			errs = append(errs, field.Required(at.Child("default"), "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"))
		}
		if property.Nullable {
			errs = append(errs, field.Forbidden(at.Child("nullable"), "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"))
		}
	}
	return errs
}

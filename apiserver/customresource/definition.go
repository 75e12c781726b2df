// Package customresource makes what CustomResourceDefinitions define be served: it turns each into the resources of its
// versions, has the pipeline serve those, keeps the definitions' status, and deletes the objects of a definition that is
// being deleted.
//
// A definition's objects are what its schema says they are; the rules are Kubernetes' for custom resources. Schemas,
// validators and CEL programs are built when the first object needs them, since a cluster has hundreds of definitions and
// uses few.
//
//	r := customresource.New(customresource.Config{Pipeline: p, Call: client.Call, …})
//	err := r.Sync(ctx)    // before the server is ready
//	err = r.Run(ctx)
//
// Every server of a cluster follows the definitions by itself, so all of them serve the same a moment after a change, and
// one that starts again serves what it served before it says that it is ready. Whichever is first writes the status.
package customresource

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	crvalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	celconfig "k8s.io/apiserver/pkg/apis/cel"

	"bareboat.dev/apiserver/registry"
)

// definition is a CustomResourceDefinition made ready to be served. It never changes.
type definition struct {
	name     string
	spec     *v1.CustomResourceDefinitionSpec
	names    v1.CustomResourceDefinitionNames
	versions map[string]*kindVersion
	storage  *kindVersion
	convert  converter
	types    typesOnce
	// converted are stored objects in other versions, as a webhook made them.
	converted converted
}

// kindVersion is one version of a definition's kind.
type kindVersion struct {
	of *definition
	// spec lacks the schema, which is kept encoded: decoded it takes several times the memory.
	spec    *v1.CustomResourceDefinitionVersion
	encoded []byte
	kind    schema.GroupVersionKind
	// custom is what the objects of this version carry.
	custom *registry.Custom

	// What follows is built when it is first needed.
	schema     func() (*structuralschema.Structural, error)
	validators func() (validators, error)
	rules      func() *cel.Validator
}

// validators check values against the schema, as far as OpenAPI goes.
type validators struct{ whole, status crvalidation.SchemaValidator }

// newDefinition makes a definition ready. The names are those that it was given, which may not be those that it asks for.
func newDefinition(d *v1.CustomResourceDefinition, call Call) (*definition, error) {
	lean := withoutSchemas(d)
	def := &definition{
		name: d.Name, spec: &lean.Spec, names: d.Status.AcceptedNames, versions: map[string]*kindVersion{}, convert: newConverter(d, call),
	}
	if def.names.Plural == "" || def.names.Singular == "" || def.names.Kind == "" || def.names.ListKind == "" {
		return nil, fmt.Errorf("customresource: %s has no accepted names", d.Name)
	}
	for i := range lean.Spec.Versions {
		v := &lean.Spec.Versions[i]
		made, err := def.newVersion(v, d.Spec.Versions[i].Schema)
		if err != nil {
			return nil, fmt.Errorf("customresource: %s: %w", d.Name, err)
		}
		def.versions[v.Name] = made
		if v.Storage {
			def.storage = def.versions[v.Name]
		}
	}
	if def.storage == nil {
		return nil, fmt.Errorf("customresource: %s has no storage version", d.Name)
	}
	return def, nil
}

// withoutSchemas returns a definition that shares all but the schemas with another, and has none.
func withoutSchemas(d *v1.CustomResourceDefinition) *v1.CustomResourceDefinition {
	lean := *d
	lean.Spec.Versions = slices.Clone(d.Spec.Versions)
	for i := range lean.Spec.Versions {
		lean.Spec.Versions[i].Schema = nil
	}
	return &lean
}

func (d *definition) newVersion(spec *v1.CustomResourceDefinitionVersion, s *v1.CustomResourceValidation) (*kindVersion, error) {
	var encoded []byte
	if s != nil && s.OpenAPIV3Schema != nil {
		var err error
		if encoded, err = s.Marshal(); err != nil {
			return nil, err
		}
	}
	v := &kindVersion{of: d, spec: spec, encoded: encoded, kind: schema.GroupVersionKind{Group: d.spec.Group, Version: spec.Name, Kind: d.names.Kind}}
	v.schema = sync.OnceValues(v.buildSchema)
	v.validators = sync.OnceValues(v.buildValidators)
	v.rules = sync.OnceValue(func() *cel.Validator {
		s, err := v.schema()
		if err != nil {
			return nil
		}
		return cel.NewValidator(s, true, celconfig.PerCallLimit)
	})
	_, remade := d.convert.(*remote)
	v.custom = &registry.Custom{
		ListKind: d.names.ListKind, Form: d, View: d.view, Coerce: v.coerce, Converter: d.typeConverter, Replicas: d.replicas(),
		Convert: d.convertTo, Remade: remade, Warnings: v.deprecation(), Schema: v.openAPI, Selectable: d.selectable(),
	}
	return v, nil
}

// internalSchema is the version's schema in the library's form; nil if it has none.
func (v *kindVersion) internalSchema() (*apiextensions.JSONSchemaProps, error) {
	if v.encoded == nil {
		return nil, nil
	}
	in := &v1.CustomResourceValidation{}
	if err := in.Unmarshal(v.encoded); err != nil {
		return nil, fmt.Errorf("the server could not properly serve the CR schema: %w", err)
	}
	out := &apiextensions.JSONSchemaProps{}
	if err := v1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(in.OpenAPIV3Schema, out, nil); err != nil {
		return nil, fmt.Errorf("the server could not properly serve the CR schema: %w", err)
	}
	return out, nil
}

func (v *kindVersion) buildSchema() (*structuralschema.Structural, error) {
	in, err := v.internalSchema()
	if in == nil || err != nil {
		return nil, err
	}
	s, err := structuralschema.NewStructural(in)
	if err != nil {
		if v.of.spec.PreserveUnknownFields {
			return nil, nil // from before schemas had to be structural: they validate, and nothing else
		}
		return nil, fmt.Errorf("the server could not properly serve the CR schema: %w", err)
	}
	if !v.of.spec.PreserveUnknownFields {
		s = s.DeepCopy() // the defaults are the caller's
		if err := defaulting.PruneDefaults(s); err != nil {
			return nil, fmt.Errorf("the server could not properly serve the CR schema: %w", err)
		}
	}
	return s, nil
}

func (v *kindVersion) buildValidators() (validators, error) {
	in, err := v.internalSchema()
	if err != nil {
		return validators{}, err
	}
	whole, _, err := crvalidation.NewSchemaValidator(in)
	if err != nil {
		return validators{}, err
	}
	out := validators{whole: whole}
	if in == nil {
		return out, nil
	}
	if status, ok := in.Properties["status"]; ok && v.hasStatus() {
		out.status, _, err = crvalidation.NewSchemaValidator(&status)
	}
	return out, err
}

func (v *kindVersion) hasStatus() bool {
	return v.spec.Subresources != nil && v.spec.Subresources.Status != nil
}

// scale is the version's scale subresource, or nil.
func (v *kindVersion) scale() *v1.CustomResourceSubresourceScale {
	if v.spec.Subresources == nil {
		return nil
	}
	return v.spec.Subresources.Scale
}

// deprecation is what users of a deprecated version are told.
func (v *kindVersion) deprecation() []string {
	switch {
	case !v.spec.Deprecated:
		return nil
	case v.spec.DeprecationWarning != nil:
		return []string{*v.spec.DeprecationWarning}
	}
	d := v.of
	text := fmt.Sprintf("%s/%s %s is deprecated", d.spec.Group, v.spec.Name, d.spec.Names.Kind)
	var newer []string
	for _, other := range d.spec.Versions {
		if other.Served && !other.Deprecated && version.CompareKubeAwareVersionStrings(v.spec.Name, other.Name) < 0 {
			newer = append(newer, other.Name)
		}
	}
	if len(newer) == 0 {
		return []string{text}
	}
	newest := slices.MaxFunc(newer, version.CompareKubeAwareVersionStrings)
	return []string{fmt.Sprintf("%s; use %s/%s %s", text, d.spec.Group, newest, d.spec.Names.Kind)}
}

// resources are what is served of a definition: its served versions.
func (d *definition) resources(terminating bool) []*registry.Resource {
	var out []*registry.Resource
	for i := range d.spec.Versions {
		if v := d.versions[d.spec.Versions[i].Name]; v.spec.Served {
			out = append(out, v.resource(terminating))
		}
	}
	if len(out) == 0 && terminating {
		out = append(out, d.storage.resource(true)) // its objects must go, though nobody was to see them
	}
	return out
}

func (v *kindVersion) resource(terminating bool) *registry.Resource {
	custom := v.custom
	if terminating {
		closed := *custom
		closed.Terminating = true
		custom = &closed
	}
	d := v.of
	r := &registry.Resource{
		Kind: v.kind, Plural: d.names.Plural, Singular: d.names.Singular, ShortNames: d.names.ShortNames, Categories: d.names.Categories,
		Namespaced: d.spec.Scope == v1.NamespaceScoped, KeyPrefix: keyPrefix(d.spec.Group, d.names.Plural),
		New:     func() registry.Object { return registry.NewCustomObject(v.kind, custom) },
		NewList: func() runtime.Object { return v.newList() },
		Fields:  v.fields(), Columns: v.columns(), Subresources: v.subresources(), Strategy: v.strategy(), Custom: custom,
	}
	if len(d.versions) > 1 {
		r.Stored = &registry.Stored{Kind: d.storage.kind, To: d.toStored, From: v.fromStored}
		if _, asks := d.convert.(*remote); asks {
			r.Stored.Prepare = v.prepare
		}
	}
	return r
}

// keyPrefix is where Kubernetes keeps a definition's objects.
func keyPrefix(group, plural string) string { return "/registry/" + group + "/" + plural + "/" }

// pathOf splits a simple JSON path.
func pathOf(jsonPath string) []string { return strings.Split(strings.TrimPrefix(jsonPath, "."), ".") }

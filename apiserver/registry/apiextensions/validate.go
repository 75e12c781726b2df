package apiextensions

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

// internal returns the library's internal form.
func internal(d *v1.CustomResourceDefinition) (*apiextensions.CustomResourceDefinition, error) {
	out := &apiextensions.CustomResourceDefinition{}
	return out, v1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(d.DeepCopy(), out, nil)
}

func validate(e *check.Errors, d *v1.CustomResourceDefinition) {
	in, err := internal(d)
	if err != nil {
		e.Invalid(field.NewPath("spec"), "", err.Error())
		return
	}
	if d.Name != in.Spec.Names.Plural+"."+in.Spec.Group {
		e.Invalid(field.NewPath("metadata", "name"), d.Name, `must be spec.names.plural+"."+spec.group`)
	}
	c := checker{Errors: e, rules: newRules()}
	c.definition(in, nil)
}

func validateUpdate(e *check.Errors, d, old *v1.CustomResourceDefinition) {
	in, err := internal(d)
	before, oldErr := internal(old)
	if err != nil || oldErr != nil {
		e.Invalid(field.NewPath("spec"), "", fmt.Sprint(err, oldErr))
		return
	}
	c := checker{Errors: e, rules: rulesAfter(in, before)}
	c.definition(in, before)
	path := field.NewPath("spec")
	if c.rules.established {
		e.Immutable(path.Child("scope"), in.Spec.Scope, before.Spec.Scope)
		e.Immutable(path.Child("names", "kind"), in.Spec.Names.Kind, before.Spec.Names.Kind)
	}
	e.Immutable(path.Child("group"), in.Spec.Group, before.Spec.Group)
	e.Immutable(path.Child("names", "plural"), in.Spec.Names.Plural, before.Spec.Names.Plural)
}

func validateStatus(e *check.Errors, d, _ *v1.CustomResourceDefinition) {
	in, err := internal(d)
	if err != nil {
		e.Invalid(field.NewPath("status"), "", err.Error())
		return
	}
	checkNames(e, field.NewPath("status", "acceptedNames"), &in.Status.AcceptedNames)
}

// checker checks one definition.
type checker struct {
	*check.Errors
	rules rules
}

// definition checks everything but the metadata; old is nil for a new definition.
func (c *checker) definition(d, old *apiextensions.CustomResourceDefinition) {
	c.spec(field.NewPath("spec"), &d.Spec)
	checkNames(c.Errors, field.NewPath("status", "acceptedNames"), &d.Status.AcceptedNames)
	c.storedVersions(field.NewPath("status", "storedVersions"), d)
	c.approval(d, old)
	was := old != nil && old.Spec.PreserveUnknownFields != nil && *old.Spec.PreserveUnknownFields
	if p := d.Spec.PreserveUnknownFields; p != nil && *p && !was {
		c.Invalid(field.NewPath("spec", "preserveUnknownFields"), p,
			"cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead")
	}
}

func (c *checker) spec(path *field.Path, s *apiextensions.CustomResourceDefinitionSpec) {
	c.group(path.Child("group"), s.Group)
	c.choice(path.Child("scope"), string(s.Scope), string(apiextensions.ClusterScoped), string(apiextensions.NamespaceScoped))
	pruned := s.PreserveUnknownFields == nil || !*s.PreserveUnknownFields
	c.schemasPresent(path, s, pruned)
	rules := c.rules
	if pruned || anySchema(s, func(p *apiextensions.JSONSchemaProps) bool { return p.Default != nil }) || anySchema(s, usesExtensions) {
		c.rules.structural = true
	}
	if !pruned && anySchema(s, func(p *apiextensions.JSONSchemaProps) bool { return p.Default != nil }) {
		c.Invalid(path.Child("preserveUnknownFields"), true, "must be false in order to use defaults in the schema")
	}
	c.versions(path, s)
	c.requiredNames(path.Child("names"), &s.Names)
	checkNames(c.Errors, path.Child("names"), &s.Names)
	c.top(path, s)
	if s.Conversion != nil && s.Conversion.Strategy != apiextensions.NoneConverter && !pruned {
		c.Invalid(path.Child("conversion", "strategy"), s.Conversion.Strategy, "must be None if spec.preserveUnknownFields is true")
	}
	c.conversion(path.Child("conversion"), s.Conversion)
	c.rules = rules
}

func (c *checker) group(path *field.Path, group string) {
	if group == "" {
		c.Required(path, "")
	} else if bad := validation.IsDNS1123Subdomain(group); len(bad) > 0 {
		c.Invalid(path, group, strings.Join(bad, ","))
	} else if !strings.Contains(group, ".") {
		c.Invalid(path, group, "should be a domain with at least one dot")
	}
}

func (c *checker) choice(path *field.Path, value string, accepted ...string) {
	if value == "" {
		c.Required(path, "")
	} else if !slices.Contains(accepted, value) {
		c.Add(field.NotSupported(path, value, accepted))
	}
}

// schemasPresent demands a schema of every version, or, of definitions from before that was demanded, of every served one.
func (c *checker) schemasPresent(path *field.Path, s *apiextensions.CustomResourceDefinitionSpec, pruned bool) {
	if s.Validation != nil && s.Validation.OpenAPIV3Schema != nil {
		return
	}
	for i, v := range s.Versions {
		if v.Schema != nil && v.Schema.OpenAPIV3Schema != nil {
			continue
		}
		at := path.Child("versions").Index(i).Child("schema", "openAPIV3Schema")
		switch {
		case c.rules.schemas:
			c.Required(at, "")
		case pruned && v.Served:
			c.Required(at, "because otherwise all fields are pruned")
		}
	}
}

func (c *checker) versions(path *field.Path, s *apiextensions.CustomResourceDefinitionSpec) {
	at := path.Child("versions")
	storage, unique, seen := 0, true, map[string]bool{}
	for i := range s.Versions {
		v := &s.Versions[i]
		if v.Storage {
			storage++
		}
		unique = unique && !seen[v.Name]
		seen[v.Name] = true
		if bad := validation.IsDNS1035Label(v.Name); len(bad) > 0 {
			c.Invalid(at.Index(i).Child("name"), v.Name, strings.Join(bad, ","))
		}
		c.version(at.Index(i), v, hasStatus(s.Subresources) || hasStatus(v.Subresources))
	}
	if !unique {
		c.Invalid(at, s.Versions, "must contain unique version names")
	}
	if storage != 1 {
		c.Invalid(at, s.Versions, "must have exactly one version marked as storage version")
	}
}

func (c *checker) version(path *field.Path, v *apiextensions.CustomResourceDefinitionVersion, status bool) {
	c.deprecation(path.Child("deprecationWarning"), v)
	c.schema(path.Child("schema"), v.Schema, status, c.rules.unchanged[v.Name])
	c.subresources(path.Child("subresources"), v.Subresources)
	for i := range v.AdditionalPrinterColumns {
		c.column(path.Child("additionalPrinterColumns").Index(i), &v.AdditionalPrinterColumns[i])
	}
	if len(v.SelectableFields) == 0 {
		return
	}
	if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
		c.Invalid(path.Child("selectableFields"), "", "may only be set when `version.schema.openAPIV3Schema` is not included")
		return
	}
	c.selectable(path, v.SelectableFields, v.Schema.OpenAPIV3Schema, v.Name)
}

// top checks what all versions have in common.
func (c *checker) top(path *field.Path, s *apiextensions.CustomResourceDefinitionSpec) {
	status := hasStatus(s.Subresources) || slices.ContainsFunc(s.Versions, func(v apiextensions.CustomResourceDefinitionVersion) bool { return hasStatus(v.Subresources) })
	c.schema(path.Child("validation"), s.Validation, status, c.rules.unchanged[s.Version])
	c.subresources(path.Child("subresources"), s.Subresources)
	for i := range s.AdditionalPrinterColumns {
		c.column(path.Child("additionalPrinterColumns").Index(i), &s.AdditionalPrinterColumns[i])
	}
	if len(s.SelectableFields) == 0 {
		return
	}
	if s.Validation == nil || s.Validation.OpenAPIV3Schema == nil {
		c.Invalid(path.Child("selectableFields"), "", "may only be set when validations.schema is included")
		return
	}
	c.selectable(path, s.SelectableFields, s.Validation.OpenAPIV3Schema, "")
}

func hasStatus(s *apiextensions.CustomResourceSubresources) bool { return s != nil && s.Status != nil }

// maxDeprecationWarning is the longest warning, in bytes.
const maxDeprecationWarning = 256

func (c *checker) deprecation(path *field.Path, v *apiextensions.CustomResourceDefinitionVersion) {
	w := v.DeprecationWarning
	if w == nil {
		return
	}
	if !v.Deprecated {
		c.Invalid(path, w, "can only be set for deprecated versions")
		return
	}
	if len(*w) > maxDeprecationWarning {
		c.Invalid(path, w, "must be <= 256 characters long")
	}
	if *w == "" {
		c.Invalid(path, w, "must not be an empty string")
	}
	for i, r := range *w {
		if !unicode.IsPrint(r) {
			c.Invalid(path, w, fmt.Sprintf("must only contain printable UTF-8 characters; non-printable character found at index %d", i))
			break
		}
	}
	if !utf8.ValidString(*w) {
		c.Invalid(path, w, "must only contain printable UTF-8 characters")
	}
}

func (c *checker) storedVersions(path *field.Path, d *apiextensions.CustomResourceDefinition) {
	stored := d.Status.StoredVersions
	if len(stored) == 0 {
		c.Invalid(path, stored, "must have at least one stored version")
		return
	}
	names := map[string]bool{}
	for _, v := range d.Spec.Versions {
		names[v.Name] = true
		if v.Storage && !slices.Contains(stored, v.Name) {
			c.Invalid(path, stored, "must have the storage version "+v.Name)
		}
	}
	for i, v := range stored {
		if !names[v] && !slices.Contains(stored[i+1:], v) {
			c.Invalid(path.Index(i), v, fmt.Sprintf("missing from spec.versions; %[1]s was previously a storage version, and must remain in spec.versions "+
				"until a storage migration ensures no data remains persisted in %[1]s and removes %[1]s from status.storedVersions", v))
		}
	}
}

// maxSelectable is how many fields of a version can be selected by.
const maxSelectable = 8

func (c *checker) selectable(path *field.Path, fields []apiextensions.SelectableField, s *apiextensions.JSONSchemaProps, version string) {
	structural, err := schema.NewStructural(s)
	if err != nil {
		c.Invalid(path.Child("schema.openAPIV3Schema"), "", err.Error())
		return
	}
	seen := map[string]bool{}
	for i, f := range fields {
		at := path.Child("selectableFields").Index(i).Child("jsonPath")
		if f.JSONPath == "" {
			c.Required(at, "")
			continue
		}
		found, leaf, err := selectablePath(f.JSONPath, structural)
		if err != nil {
			c.Invalid(at, f.JSONPath, fmt.Sprintf("is an invalid path: %v", err))
			continue
		}
		if found.Root().String() == "metadata" {
			c.Invalid(at, f.JSONPath, "must not point to fields in metadata")
		}
		if leaf == nil || !slices.Contains([]string{"string", "boolean", "integer"}, leaf.Type) {
			c.Invalid(at, f.JSONPath, "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.")
		}
		if seen[found.String()] {
			c.Duplicate(at, f.JSONPath)
		}
		seen[found.String()] = true
	}
	if len(seen) > maxSelectable && !c.rules.manySelectable[version] {
		c.Add(field.TooMany(path.Child("selectableFields"), len(seen), maxSelectable))
	}
}

// unchangedSelectable reports whether two lists are the same and too long, in which case they stay allowed.
func unchangedSelectable(fields, old []apiextensions.SelectableField) bool {
	return len(old) > maxSelectable && equality.Semantic.DeepEqual(fields, old)
}

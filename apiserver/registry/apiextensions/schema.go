package apiextensions

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	crvalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

func openAPITypes() []string {
	return []string{"array", "boolean", "integer", "number", "object", "string"}
}

// atRoot are the fields that a schema may have at its root if the status is validated by itself.
func atRoot() []string {
	return []string{
		"Description", "Type", "Format", "Title", "Maximum", "ExclusiveMaximum", "Minimum", "ExclusiveMinimum", "MaxLength", "MinLength", "Pattern",
		"MaxItems", "MinItems", "UniqueItems", "MultipleOf", "Required", "Items", "Properties", "ExternalDocs", "Example", "XPreserveUnknownFields", "XValidations",
	}
}

// schema checks a version's schema, or the one of all versions. Rules whose cost was accepted stay so if it is unchanged.
func (c *checker) schema(path *field.Path, v *apiextensions.CustomResourceValidation, status, unchanged bool) {
	if v == nil {
		return
	}
	before := len(c.List)
	if v.OpenAPIV3Schema != nil {
		c.rootSchema(path.Child("openAPIV3Schema"), v.OpenAPIV3Schema, status, unchanged)
	}
	if len(c.List) == before {
		if _, _, err := crvalidation.NewSchemaValidator(v.OpenAPIV3Schema); err != nil {
			c.Invalid(path, "", fmt.Sprintf("error building validator: %v", err))
		}
	}
}

func (c *checker) rootSchema(path *field.Path, s *apiextensions.JSONSchemaProps, status, unchanged bool) {
	before := len(c.List)
	if status {
		c.rootFields(path, s)
	}
	if s.Nullable {
		c.Forbidden(path.Child("nullable"), "nullable cannot be true at the root")
	}
	var cost *costs
	unstructurable := ""
	if c.rules.structural {
		structural, err := schema.NewStructural(s)
		if err != nil {
			unstructurable = err.Error()
		} else if c.structural(path, structural) {
			cost = &costs{}
		}
	}
	w := walker{rules: &c.rules, unchanged: unchanged, cost: cost}
	w.walk(path, s, place{root: true, allowDefaults: true, scope: rootScope(s, cost)})
	c.Add(w.found...)
	c.Add(w.foundCEL...)
	if len(c.List) == before && unstructurable != "" {
		// Most of what makes a schema unstructurable is said better by the walk.
		c.Invalid(path, "", unstructurable)
	}
	if cost != nil {
		c.Add(cost.errors(path)...)
	}
}

// rootFields: the schema of the status is taken out of the whole, so nothing at the root may say more about it.
func (c *checker) rootFields(path *field.Path, s *apiextensions.JSONSchemaProps) {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		switch {
		case v.Field(i).IsZero():
		case name == "Type":
			if s.Type != "object" {
				c.Invalid(path.Child("type"), s.Type, `only "object" is allowed as the type at the root of the schema if the status subresource is enabled`)
				return
			}
		case !slices.Contains(atRoot(), name):
			c.Invalid(path, *s, fmt.Sprintf("only %v fields are allowed at the root of the schema if the status subresource is enabled", atRoot()))
			return
		}
	}
}

// structural checks a structural schema and its defaults, and reports whether its CEL rules can be looked at.
func (c *checker) structural(path *field.Path, s *schema.Structural) bool {
	errs := schema.ValidateStructural(path, s)
	if len(errs) == 0 {
		var err error
		// The call is pure: the context only bounds the evaluation of rules against defaults, which have a budget.
		if errs, err = defaulting.ValidateDefaults(context.Background(), path, s, true, c.rules.prunedDefaults); err != nil {
			errs = field.ErrorList{field.Invalid(path, "", err.Error())}
		}
	}
	c.Add(errs...)
	return len(errs) == 0
}

func selectablePath(jsonPath string, s *schema.Structural) (*field.Path, *schema.Structural, error) {
	return cel.ValidFieldPath(jsonPath, s, cel.WithFieldPathAllowArrayNotation(false))
}

// warnings are about formats that mean nothing here, and lists that apply and CEL do not understand.
func warnings(d *v1.CustomResourceDefinition) []string {
	in, err := internal(d)
	if err != nil {
		return nil
	}
	var out, sets []string
	compatible := environment.DefaultCompatibilityVersion()
	for _, root := range roots(&in.Spec) {
		eachSchema(root, func(s *apiextensions.JSONSchemaProps) {
			for _, format := range unknownFormats(s, compatible) {
				out = append(out, fmt.Sprintf("unrecognized format %q", format))
			}
			if s.XListType != nil && *s.XListType == "set" && s.Items != nil && s.Items.Schema != nil && slices.Contains([]string{"object", "array"}, s.Items.Schema.Type) {
				sets = append(sets, fmt.Sprintf("x-kubernetes-list-type: set for items of type %q is not supported by server-side apply or CEL validation rules", s.Items.Schema.Type))
			}
		})
	}
	slices.Sort(out)
	slices.Sort(sets)
	return append(slices.Compact(out), slices.Compact(sets)...)
}

// newWarnings are those that the definition did not deserve before.
func newWarnings(d, old *v1.CustomResourceDefinition) []string {
	before := warnings(old)
	return slices.DeleteFunc(warnings(d), func(w string) bool { return slices.Contains(before, w) })
}

func unknownFormats(s *apiextensions.JSONSchemaProps, v *version.Version) []string {
	if s.Format == "" {
		return nil
	}
	return crvalidation.GetUnrecognizedFormats(&spec.Schema{SchemaProps: spec.SchemaProps{Format: s.Format, Type: []string{s.Type}}}, v)
}

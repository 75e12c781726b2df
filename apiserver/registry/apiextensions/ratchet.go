package apiextensions

import (
	"reflect"
	"slices"

	celgo "github.com/google/cel-go/cel"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/cel/environment"
)

// rules are those that not every definition must obey: a stored one may be older than a rule, and may be changed without
// obeying what it did not obey before.
type rules struct {
	// established: instances may exist, so scope and kind stand.
	established bool
	// schemas: every version has one. structural: they are. knownTypes: their types are OpenAPI's.
	schemas, structural, knownTypes bool
	// prunedDefaults: defaults have no fields that the schema does not have. atomicSets and keyedMaps: lists that are sets or
	// maps have items that can be told apart.
	prunedDefaults, atomicSets, keyedMaps bool
	// reviewVersion: the conversion webhook speaks a version that the server does.
	reviewVersion bool
	// anyBundle: the webhook's certificates need not be any.
	anyBundle bool
	// expressions that were there before are compiled with all that the environment ever had.
	expressions expressions
	// unchanged are the versions whose schemas stayed the same, and with them the cost of their rules.
	unchanged map[string]bool
	// manySelectable are the versions that keep more selectable fields than there may be.
	manySelectable map[string]bool
}

// newRules are the rules for a new definition.
func newRules() rules {
	return rules{
		schemas: true, structural: true, knownTypes: true, prunedDefaults: true, atomicSets: true, keyedMaps: true, reviewVersion: true,
		anyBundle: true, // as it serves nothing yet
	}
}

// rulesAfter are the rules for a change.
func rulesAfter(d, old *apiextensions.CustomResourceDefinition) rules {
	r := rules{
		schemas:        everyVersionHasSchema(&old.Spec),
		structural:     !anyRoot(&old.Spec, isNonStructural),
		knownTypes:     !anySchema(&old.Spec, hasUnknownType),
		prunedDefaults: !anyRoot(&old.Spec, hasUnprunedDefaults),
		atomicSets:     !anySchema(&old.Spec, isSetOfComposites),
		keyedMaps:      !anySchema(&old.Spec, func(s *apiextensions.JSONSchemaProps) bool { return len(checkKeys(s, field.NewPath(""))) > 0 }),
		expressions:    expressionsOf(&old.Spec),
		unchanged:      map[string]bool{},
		manySelectable: map[string]bool{},
	}
	r.reviewVersion = old.Spec.Conversion == nil || len(old.Spec.Conversion.ConversionReviewVersions) == 0 || speaks(old.Spec.Conversion.ConversionReviewVersions)
	for _, c := range old.Status.Conditions {
		r.established = r.established || c.Type == apiextensions.Established && c.Status == apiextensions.ConditionTrue
	}
	r.anyBundle = !r.established
	if conv := old.Spec.Conversion; conv != nil && conv.WebhookClientConfig != nil && len(conv.WebhookClientConfig.CABundle) > 0 {
		r.anyBundle = r.anyBundle || checkBundle(conv.WebhookClientConfig.CABundle) != nil
	}
	r.manySelectable[""] = unchangedSelectable(d.Spec.SelectableFields, old.Spec.SelectableFields)
	for _, v := range d.Spec.Versions {
		r.unchanged[v.Name] = sameSchema(d, old, v.Name)
		if i := slices.IndexFunc(old.Spec.Versions, func(o apiextensions.CustomResourceDefinitionVersion) bool { return o.Name == v.Name }); i >= 0 {
			r.manySelectable[v.Name] = unchangedSelectable(v.SelectableFields, old.Spec.Versions[i].SelectableFields)
		}
	}
	return r
}

func sameSchema(d, old *apiextensions.CustomResourceDefinition, version string) bool {
	now, err := apiextensions.GetSchemaForVersion(d, version)
	before, oldErr := apiextensions.GetSchemaForVersion(old, version)
	return err == nil && oldErr == nil && equality.Semantic.DeepEqual(now, before)
}

// roots are a definition's schemas.
func roots(s *apiextensions.CustomResourceDefinitionSpec) []*apiextensions.JSONSchemaProps {
	var out []*apiextensions.JSONSchemaProps
	if s.Validation != nil && s.Validation.OpenAPIV3Schema != nil {
		out = append(out, s.Validation.OpenAPIV3Schema)
	}
	for _, v := range s.Versions {
		if v.Schema != nil && v.Schema.OpenAPIV3Schema != nil {
			out = append(out, v.Schema.OpenAPIV3Schema)
		}
	}
	return out
}

func anyRoot(s *apiextensions.CustomResourceDefinitionSpec, is func(*apiextensions.JSONSchemaProps) bool) bool {
	return slices.ContainsFunc(roots(s), is)
}

// anySchema reports whether one of the definition's schemas, or a schema within, is what the function says.
func anySchema(s *apiextensions.CustomResourceDefinitionSpec, is func(*apiextensions.JSONSchemaProps) bool) bool {
	return anyRoot(s, func(root *apiextensions.JSONSchemaProps) bool { return within(root, is) })
}

func within(s *apiextensions.JSONSchemaProps, is func(*apiextensions.JSONSchemaProps) bool) bool {
	found := false
	eachSchema(s, func(s *apiextensions.JSONSchemaProps) { found = found || is(s) })
	return found
}

// eachSchema calls visit for a schema and everything within.
func eachSchema(s *apiextensions.JSONSchemaProps, visit func(*apiextensions.JSONSchemaProps)) {
	if s == nil {
		return
	}
	visit(s)
	if s.Items != nil {
		eachSchema(s.Items.Schema, visit)
		eachOf(s.Items.JSONSchemas, visit)
	}
	eachOf(s.AllOf, visit)
	eachOf(s.AnyOf, visit)
	eachOf(s.OneOf, visit)
	eachSchema(s.Not, visit)
	for _, m := range []map[string]apiextensions.JSONSchemaProps{s.Properties, s.PatternProperties, s.Definitions} {
		for _, p := range m {
			eachSchema(&p, visit)
		}
	}
	for _, a := range []*apiextensions.JSONSchemaPropsOrBool{s.AdditionalProperties, s.AdditionalItems} {
		if a != nil {
			eachSchema(a.Schema, visit)
		}
	}
	for _, d := range s.Dependencies {
		eachSchema(d.Schema, visit)
	}
}

func eachOf(list []apiextensions.JSONSchemaProps, visit func(*apiextensions.JSONSchemaProps)) {
	for i := range list {
		eachSchema(&list[i], visit)
	}
}

func everyVersionHasSchema(s *apiextensions.CustomResourceDefinitionSpec) bool {
	if s.Validation != nil && s.Validation.OpenAPIV3Schema != nil {
		return true
	}
	return !slices.ContainsFunc(s.Versions, func(v apiextensions.CustomResourceDefinitionVersion) bool {
		return v.Schema == nil || v.Schema.OpenAPIV3Schema == nil
	})
}

func usesExtensions(s *apiextensions.JSONSchemaProps) bool {
	return s.XEmbeddedResource || s.XPreserveUnknownFields != nil || s.XIntOrString || len(s.XListMapKeys) > 0 || s.XListType != nil || len(s.XValidations) > 0
}

func isNonStructural(s *apiextensions.JSONSchemaProps) bool {
	structural, err := schema.NewStructural(s)
	return err != nil || len(schema.ValidateStructural(nil, structural)) > 0
}

func hasUnknownType(s *apiextensions.JSONSchemaProps) bool {
	return s.Type != "" && !slices.Contains(openAPITypes(), s.Type)
}

func hasUnprunedDefaults(s *apiextensions.JSONSchemaProps) bool {
	structural, err := schema.NewStructural(s)
	if err != nil || len(schema.ValidateStructural(nil, structural)) > 0 {
		return false
	}
	pruned := structural.DeepCopy()
	return defaulting.PruneDefaults(pruned) == nil && !reflect.DeepEqual(structural, pruned)
}

// expressions are CEL expressions of a definition as it was.
type expressions struct{ rules, messages map[string]bool }

func expressionsOf(s *apiextensions.CustomResourceDefinitionSpec) expressions {
	e := expressions{rules: map[string]bool{}, messages: map[string]bool{}}
	for _, root := range roots(s) {
		eachSchema(root, func(s *apiextensions.JSONSchemaProps) {
			for _, v := range s.XValidations {
				e.rules[v.Rule] = true
				if v.MessageExpression != "" {
					e.messages[v.MessageExpression] = true
				}
			}
		})
	}
	return e
}

// RuleEnv implements the CEL library's choice of an environment: what was stored may use what new expressions may not.
func (e expressions) RuleEnv(set *environment.EnvSet, expression string) *celgo.Env {
	return pickEnv(set, e.rules[expression])
}

// MessageExpressionEnv is RuleEnv for message expressions.
func (e expressions) MessageExpressionEnv(set *environment.EnvSet, expression string) *celgo.Env {
	return pickEnv(set, e.messages[expression])
}

func pickEnv(set *environment.EnvSet, stored bool) *celgo.Env {
	if stored {
		return set.StoredExpressionsEnv()
	}
	return set.NewExpressionsEnv()
}

// Package typecheck compares the expressions of validating admission policies with the schemas of the kinds that the policies name, and
// writes what it finds into their status. Nothing depends on it: expressions are evaluated without types, and what a schema does not say may
// be there all the same. It tells whoever writes a policy of a misspelled field before a write is refused because of it
// (https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#type-checking).
//
//	warnings := checker.Check(&policy.Spec, typecheck.KindsOf(&policy.Spec, set))
package typecheck

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apicel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/openapi"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"bareboat.dev/apiserver/admission/expression"
	"bareboat.dev/apiserver/registry"
)

// maxKinds bounds the kinds that one policy is compared with, as upstream does: each takes an environment, and the warnings of all are in
// one status.
const maxKinds = 10

// Kinds are what a policy names.
type Kinds struct {
	// Objects are the resources that it names without wildcards, sorted by group, version and kind.
	Objects []*registry.Resource
	// Params is the resource of its parameters; nil if it has none or they are not served.
	Params *registry.Resource
}

func (k Kinds) equal(other Kinds) bool {
	return k.Params == other.Params && slices.Equal(k.Objects, other.Objects)
}

// KindsOf finds the kinds that a policy names among those that are served.
func KindsOf(s *admissionregistrationv1.ValidatingAdmissionPolicySpec, set *registry.Set) Kinds {
	var k Kinds
	if p := s.ParamKind; p != nil {
		if gv, err := schema.ParseGroupVersion(p.APIVersion); err == nil {
			k.Params, _ = set.ForKind(gv.WithKind(p.Kind))
		}
	}
	if s.MatchConstraints == nil {
		return k
	}
	for i := range s.MatchConstraints.ResourceRules {
		for _, r := range named(&s.MatchConstraints.ResourceRules[i].Rule, set) {
			if len(k.Objects) < maxKinds && !slices.Contains(k.Objects, r) {
				k.Objects = append(k.Objects, r)
			}
		}
	}
	slices.SortFunc(k.Objects, func(a, b *registry.Resource) int {
		return cmp.Or(cmp.Compare(a.Kind.Group, b.Kind.Group), cmp.Compare(a.Kind.Version, b.Kind.Version), cmp.Compare(a.Kind.Kind, b.Kind.Kind))
	})
	return k
}

// named are the resources that a rule names, in the order of their names. A rule for any group or version names none, and subresources
// are not what their resource's schema describes.
func named(rule *admissionregistrationv1.Rule, set *registry.Set) []*registry.Resource {
	wild := func(s string) bool { return strings.Contains(s, "*") }
	if slices.ContainsFunc(rule.APIGroups, wild) || slices.ContainsFunc(rule.APIVersions, wild) {
		return nil
	}
	var found []*registry.Resource
	for _, group := range slices.Sorted(slices.Values(rule.APIGroups)) {
		for _, version := range slices.Sorted(slices.Values(rule.APIVersions)) {
			for _, plural := range slices.Sorted(slices.Values(rule.Resources)) {
				if r, ok := set.Lookup(group, version, plural); ok && version != "" {
					found = append(found, r)
				}
			}
		}
	}
	return found
}

// Checker compares expressions with schemas.
type Checker struct {
	Compiler *expression.Compiler
	// Schema is the schema of a resource's objects, without references.
	Schema func(*registry.Resource) (*spec.Schema, error)
}

// Check returns the warnings for a policy, in the order of its fields.
func (c *Checker) Check(s *admissionregistrationv1.ValidatingAdmissionPolicySpec, kinds Kinds) []admissionregistrationv1.ExpressionWarning {
	envs := c.environments(s, kinds)
	var warnings []admissionregistrationv1.ExpressionWarning
	check := func(at *field.Path, text string) {
		var found []string
		for _, e := range envs {
			if issues := e.env.Check(text); issues != "" {
				found = append(found, fmt.Sprintf("%v: %s\n", e.kind, issues))
			}
		}
		if len(found) > 0 {
			warnings = append(warnings, admissionregistrationv1.ExpressionWarning{FieldRef: at.String(), Warning: strings.Join(found, "\n")})
		}
	}
	for i, v := range s.Validations {
		at := field.NewPath("spec", "validations").Index(i)
		check(at.Child("expression"), v.Expression)
		if v.MessageExpression != "" {
			check(at.Child("messageExpression"), v.MessageExpression)
		}
	}
	return warnings
}

// environment is where expressions see objects of one kind.
type environment struct {
	kind schema.GroupVersionKind
	env  *expression.Environment
}

// environments are those of the kinds whose schemas are known.
func (c *Checker) environments(s *admissionregistrationv1.ValidatingAdmissionPolicySpec, kinds Kinds) []environment {
	var params *apicel.DeclType
	if kinds.Params != nil {
		params = c.typeOf("kubernetes.params.", kinds.Params)
	}
	var list []environment
	for _, r := range kinds.Objects {
		object := c.typeOf("kubernetes.object.", r)
		if object == nil {
			continue
		}
		env, err := c.Compiler.Typed(expression.Scope{Params: s.ParamKind != nil, Authorizer: true}, expression.Types{Object: object, Params: params})
		if err != nil {
			continue
		}
		for _, v := range s.Variables {
			// One that does not compile fails the expressions that use it as any value would.
			_ = env.Declare(v.Name, v.Expression)
		}
		list = append(list, environment{r.Kind, env})
	}
	return list
}

// typeOf is a resource's objects as expressions see them; nil if too little is known of them.
func (c *Checker) typeOf(prefix string, r *registry.Resource) *apicel.DeclType {
	s, err := c.Schema(r)
	if err != nil {
		return nil
	}
	t := openapi.SchemaDeclType(s, true)
	if t == nil {
		return nil
	}
	return t.MaybeAssignTypeName(prefix + r.Kind.Kind)
}

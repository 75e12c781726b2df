package flowcontrol

import (
	"fmt"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

const (
	defaultPrecedence = 1000
	maxPrecedence     = 10000
)

func schemas() *registry.Resource {
	type flow = *flowcontrolv1.FlowSchema
	return &registry.Resource{
		Kind:   flowcontrolv1.SchemeGroupVersion.WithKind("FlowSchema"),
		Plural: "flowschemas", Singular: "flowschema",
		KeyPrefix: "/registry/flowschemas/",
		New:       func() registry.Object { return &flowcontrolv1.FlowSchema{} },
		NewList:   func() runtime.Object { return &flowcontrolv1.FlowSchemaList{} },
		Strategy: registry.Strategy{
			Default:        registry.On(func(f flow) { setIfZero(&f.Spec.MatchingPrecedence, defaultPrecedence) }),
			PrepareCreate:  registry.On(func(f flow) { f.Status = flowcontrolv1.FlowSchemaStatus{} }),
			PrepareUpdate:  registry.OnChange(func(f, old flow) { f.Status = old.Status }),
			Validate:       registry.Checks(checkSchema),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, f, _ flow) { checkSchema(e, f) }),
			ValidateName:   apivalidation.NameIsDNSSubdomain,
			SpecChanged:    registry.Differs(func(f, old flow) bool { return !equality.Semantic.DeepEqual(f.Spec, old.Spec) }),

			AllowUnconditionalUpdate: true,
		},
		Columns: schemaColumns(),
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(func(f, body flow) { f.Status = body.Status }, func(e *check.Errors, f, _ flow) { checkSchemaStatus(e, f) }),
		},
	}
}

func checkSchema(e *check.Errors, f *flowcontrolv1.FlowSchema) {
	s, at := &f.Spec, field.NewPath("spec")
	precedence := at.Child("matchingPrecedence")
	if s.MatchingPrecedence <= 0 {
		e.Invalid(precedence, s.MatchingPrecedence, "must be a positive value")
	}
	if s.MatchingPrecedence > maxPrecedence {
		e.Invalid(precedence, s.MatchingPrecedence, fmt.Sprintf("must not be greater than %v", maxPrecedence))
	}
	if s.MatchingPrecedence == 1 && f.Name != flowcontrolv1.FlowSchemaNameExempt {
		e.Invalid(precedence, s.MatchingPrecedence, "only the schema named 'exempt' may have matchingPrecedence 1")
	}
	if m := s.DistinguisherMethod; m != nil {
		check.Supported(e, at.Child("distinguisherMethod", "type"), m.Type,
			flowcontrolv1.FlowDistinguisherMethodByNamespaceType, flowcontrolv1.FlowDistinguisherMethodByUserType)
	}
	level := at.Child("priorityLevelConfiguration", "name")
	if s.PriorityLevelConfiguration.Name == "" {
		e.Required(level, "must reference a priority level")
	} else {
		e.Name(level, s.PriorityLevelConfiguration.Name, apivalidation.NameIsDNSSubdomain)
	}
	for i := range s.Rules {
		checkRule(e, &s.Rules[i], at.Child("rules").Index(i))
	}
	if fixed, ok := mandatorySchema(f.Name); ok && !equality.Semantic.DeepEqual(*s, fixed) {
		e.Invalid(at, *s, fmt.Sprintf("spec of '%s' must equal the fixed value", f.Name))
	}
	checkSchemaStatus(e, f)
}

func checkSchemaStatus(e *check.Errors, f *flowcontrolv1.FlowSchema) {
	at, seen := field.NewPath("status", "conditions"), map[flowcontrolv1.FlowSchemaConditionType]bool{}
	for i, c := range f.Status.Conditions {
		if seen[c.Type] {
			e.Duplicate(at.Index(i).Child("type"), c.Type)
		}
		seen[c.Type] = true
		if c.Type == "" {
			e.Required(at.Index(i).Child("type"), "must not be empty")
		}
	}
}

// mandatorySchema is the fixed value of a schema that every cluster has in the same form.
func mandatorySchema(name string) (flowcontrolv1.FlowSchemaSpec, bool) {
	all := []string{"*"}
	everything := func(groups ...string) []flowcontrolv1.PolicyRulesWithSubjects {
		rule := flowcontrolv1.PolicyRulesWithSubjects{
			ResourceRules: []flowcontrolv1.ResourcePolicyRule{{
				Verbs: all, APIGroups: all, Resources: all, ClusterScope: true, Namespaces: all,
			}},
			NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: all, NonResourceURLs: all}},
		}
		for _, g := range groups {
			rule.Subjects = append(rule.Subjects, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindGroup, Group: &flowcontrolv1.GroupSubject{Name: g}})
		}
		return []flowcontrolv1.PolicyRulesWithSubjects{rule}
	}
	reference := flowcontrolv1.PriorityLevelConfigurationReference{Name: name}
	switch name {
	case flowcontrolv1.FlowSchemaNameExempt:
		return flowcontrolv1.FlowSchemaSpec{PriorityLevelConfiguration: reference, MatchingPrecedence: 1, Rules: everything("system:masters")}, true
	case flowcontrolv1.FlowSchemaNameCatchAll:
		return flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: reference, MatchingPrecedence: maxPrecedence,
			DistinguisherMethod: &flowcontrolv1.FlowDistinguisherMethod{Type: flowcontrolv1.FlowDistinguisherMethodByUserType},
			Rules:               everything("system:unauthenticated", "system:authenticated"),
		}, true
	}
	return flowcontrolv1.FlowSchemaSpec{}, false
}

func schemaColumns() []registry.Column {
	type flow = *flowcontrolv1.FlowSchema
	doc := flowcontrolv1.FlowSchemaSpec{}.SwaggerDoc()
	return []registry.Column{
		registry.NameColumn(),
		registry.Text("PriorityLevel", flowcontrolv1.PriorityLevelConfigurationReference{}.SwaggerDoc()["name"], func(f flow) string { return f.Spec.PriorityLevelConfiguration.Name }),
		registry.NumericText("MatchingPrecedence", doc["matchingPrecedence"], func(f flow) string { return fmt.Sprint(f.Spec.MatchingPrecedence) }),
		registry.Text("DistinguisherMethod", doc["distinguisherMethod"], func(f flow) string {
			if f.Spec.DistinguisherMethod == nil {
				return "<none>"
			}
			return string(f.Spec.DistinguisherMethod.Type)
		}),
		registry.AgeColumn(),
		registry.Text("MissingPL", "references a broken or non-existent PriorityLevelConfiguration", func(f flow) string {
			for _, c := range f.Status.Conditions {
				if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
					return string(c.Status)
				}
			}
			return "?"
		}),
	}
}

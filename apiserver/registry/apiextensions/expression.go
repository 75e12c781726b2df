package apiextensions

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// ruleTexts checks what can be seen of x-kubernetes-validations without compiling them.
func (w *walker) ruleTexts(path *field.Path, s *apiextensions.JSONSchemaProps) {
	for i, rule := range s.XValidations {
		at := path.Child("x-kubernetes-validations").Index(i)
		text, message := strings.TrimSpace(rule.Rule), strings.TrimSpace(rule.Message)
		switch {
		case text == "":
			w.add(field.Required(at.Child("rule"), "rule is not specified"))
		case rule.Message != "" && message == "":
			w.add(field.Invalid(at.Child("message"), rule.Message, "must be non-empty if specified"))
		case breaks(message):
			w.add(field.Invalid(at.Child("message"), rule.Message, "must not contain line breaks"))
		case breaks(text) && message == "":
			w.add(field.Required(at.Child("message"), "message must be specified if rule contains line breaks"))
		}
		if rule.MessageExpression != "" && strings.TrimSpace(rule.MessageExpression) == "" {
			w.add(field.Required(at.Child("messageExpression"), "messageExpression must be non-empty if specified"))
		}
		if rule.Reason != nil && !slices.Contains(reasons(), string(*rule.Reason)) {
			w.add(field.NotSupported(at.Child("reason"), *rule.Reason, reasons()))
		}
		w.fieldPath(at.Child("fieldPath"), s, rule.FieldPath)
	}
}

func (w *walker) fieldPath(at *field.Path, s *apiextensions.JSONSchemaProps, text string) {
	if text == "" {
		return
	}
	if strings.TrimSpace(text) == "" {
		w.add(field.Invalid(at, text, "must be non-empty if specified"))
	}
	if breaks(text) {
		w.add(field.Invalid(at, text, "must not contain line breaks"))
	}
	if structural, err := schema.NewStructural(s); err == nil {
		if _, _, err := cel.ValidFieldPath(text, structural); err != nil {
			w.add(field.Invalid(at, text, "must be a valid path"))
		}
	}
}

func breaks(text string) bool { return strings.ContainsAny(text, "\n\r") }

// reasons are what a failed rule may be said to be.
func reasons() []string {
	return []string{
		string(apiextensions.FieldValueDuplicate), string(apiextensions.FieldValueForbidden),
		string(apiextensions.FieldValueInvalid), string(apiextensions.FieldValueRequired),
	}
}

// compile compiles a schema's rules and adds up what they may cost.
func (w *walker) compile(path *field.Path, s *apiextensions.JSONSchemaProps, p place) {
	at := path.Child("x-kubernetes-validations")
	fail := func(err error) { w.foundCEL = append(w.foundCEL, field.InternalError(at, err)) }
	types, err := p.scope.types()
	switch {
	case err != nil:
		fail(fmt.Errorf("internal error: failed to construct type information for x-kubernetes-validations rules: %s", err))
		return
	case types == nil:
		fail(fmt.Errorf("internal error: failed to retrieve type information for x-kubernetes-validations"))
		return
	}
	env := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
	results, err := cel.Compile(types.schema, types.decl, celconfig.PerCallLimit, env, w.rules.expressions)
	if err != nil {
		fail(err)
		return
	}
	for i := range results {
		w.compiled(at.Index(i), &s.XValidations[i], &results[i], p)
	}
}

func (w *walker) compiled(at *field.Path, rule *apiextensions.ValidationRule, r *cel.CompilationResult, p place) {
	add := func(err *field.Error) { w.foundCEL = append(w.foundCEL, err) }
	charge := func(at *field.Path, name string, cost uint64) {
		if !w.unchanged && cost > ruleCostLimit {
			add(field.Forbidden(at, overBudget(name, cost, ruleCostLimit)))
		}
		w.cost.observe(at, cost)
	}
	charge(at.Child("rule"), "estimated rule cost", p.scope.cost(r))
	if r.Error != nil {
		if r.Error.Type == apiservercel.ErrorTypeRequired {
			add(field.Required(at.Child("rule"), r.Error.Detail))
		} else {
			add(field.Invalid(at.Child("rule"), *rule, r.Error.Detail))
		}
	}
	switch {
	case r.MessageExpressionError != nil:
		add(field.Invalid(at.Child("messageExpression"), *rule, r.MessageExpressionError.Detail))
	case r.MessageExpression != nil:
		charge(at.Child("messageExpression"), "estimated messageExpression cost", r.MessageExpressionMaxCost)
	}
	switch {
	case r.UsesOldSelf && p.uncorrelated != nil:
		add(field.Invalid(at.Child("rule"), rule.Rule, fmt.Sprintf("oldSelf cannot be used on the uncorrelatable portion of the schema within %v", p.uncorrelated)))
	case !r.UsesOldSelf && rule.OptionalOldSelf != nil:
		add(field.Invalid(at.Child("optionalOldSelf"), *rule.OptionalOldSelf, "may not be set if oldSelf is not used in rule"))
	}
}

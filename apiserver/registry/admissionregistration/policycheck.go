package admissionregistration

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/google/cel-go/cel"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/admission/expression"
	"bareboat.dev/apiserver/registry/check"
)

const (
	// maxAuditAnnotations and maxAnnotation bound what a policy notes, as upstream does.
	maxAuditAnnotations = 20
	maxAnnotation       = 5 << 10
)

// expressions are those that a policy has stored: they are not refused for what compiled once.
type expressions struct{ sets.Set[string] }

func expressionsOf(s *admissionregistrationv1.ValidatingAdmissionPolicySpec) expressions {
	all := sets.New[string]()
	for _, m := range s.MatchConditions {
		all.Insert(m.Expression)
	}
	for _, v := range s.Variables {
		all.Insert(v.Expression)
	}
	for _, v := range s.Validations {
		all.Insert(v.Expression, v.MessageExpression)
	}
	for _, a := range s.AuditAnnotations {
		all.Insert(a.ValueExpression)
	}
	return expressions{all}
}

func (c checker) validatingPolicy(e *check.Errors, name string, s *admissionregistrationv1.ValidatingAdmissionPolicySpec, known expressions) {
	checkPolicy(e, s.FailurePolicy, s.ParamKind, s.MatchConstraints)
	c.conditions(e, specPath.Child("matchConditions"), s.MatchConditions, s.ParamKind != nil, known.Set)
	compile, message := c.variables(e, s.Variables, expression.Scope{Params: s.ParamKind != nil, Authorizer: true}, known)
	if len(s.Validations) == 0 && len(s.AuditAnnotations) == 0 {
		e.Required(specPath.Child("validations"), "validations or auditAnnotations must contain at least one item")
		e.Required(specPath.Child("auditAnnotations"), "validations or auditAnnotations must contain at least one item")
	}
	for i := range s.Validations {
		checkValidation(e, specPath.Child("validations").Index(i), &s.Validations[i], compile, message)
	}
	if len(s.AuditAnnotations) > maxAuditAnnotations {
		e.Invalid(specPath.Child("auditAnnotations"), s.AuditAnnotations, "must not have more than 20 auditAnnotations")
	}
	keys := sets.New[string]()
	for i, a := range s.AuditAnnotations {
		at := specPath.Child("auditAnnotations").Index(i)
		e.QualifiedName(at.Child("key"), name+"/"+a.Key)
		if keys.Has(a.Key) {
			e.Duplicate(at.Child("key"), a.Key)
		}
		keys.Insert(a.Key)
		switch text := strings.TrimSpace(a.ValueExpression); {
		case text == "":
			e.Required(at.Child("valueExpression"), "valueExpression is not specified")
		case len(text) > maxAnnotation:
			e.Required(at.Child("valueExpression"), fmt.Sprintf("must not exceed %d bytes in length", maxAnnotation))
		default:
			compile(at.Child("valueExpression"), a.ValueExpression, auditTypes()...)
		}
	}
}

// checkPolicy checks what both kinds of policies have.
func checkPolicy(e *check.Errors, failure *admissionregistrationv1.FailurePolicyType, params *admissionregistrationv1.ParamKind, match *admissionregistrationv1.MatchResources) {
	if failure == nil {
		e.Required(specPath.Child("failurePolicy"), "")
	} else {
		check.Supported(e, specPath.Child("failurePolicy"), *failure, admissionregistrationv1.Fail, admissionregistrationv1.Ignore)
	}
	if params != nil {
		checkParamKind(e, specPath.Child("paramKind"), params)
	}
	if match == nil {
		e.Required(specPath.Child("matchConstraints"), "")
		return
	}
	checkMatch(e, specPath.Child("matchConstraints"), match)
	if len(match.ResourceRules) == 0 {
		e.Required(specPath.Child("matchConstraints", "resourceRules"), "")
	}
}

func checkParamKind(e *check.Errors, at *field.Path, k *admissionregistrationv1.ParamKind) {
	if k.APIVersion == "" {
		e.Required(at.Child("apiVersion"), "")
	} else if gv, err := schema.ParseGroupVersion(k.APIVersion); err != nil {
		e.Invalid(at.Child("apiVersion"), k.APIVersion, err.Error())
	} else {
		if gv.Group != "" {
			e.Each(at.Child("apiVersion"), k.APIVersion, validation.IsDNS1123Subdomain(gv.Group))
		}
		e.Each(at.Child("apiVersion"), k.APIVersion, validation.IsDNS1035Label(gv.Version))
	}
	if k.Kind == "" {
		e.Required(at.Child("kind"), "")
	} else if errs := validation.IsDNS1035Label(strings.ToLower(k.Kind)); len(errs) > 0 {
		e.Invalid(at.Child("kind"), k.Kind, "may have mixed case, but should otherwise match: "+strings.Join(errs, ","))
	}
}

// compile checks one expression.
type compile func(at *field.Path, text string, returns ...*cel.Type)

var identifier = regexp.MustCompile(`^[_a-zA-Z][_a-zA-Z0-9]*$`)

// reserved are the words that CEL keeps for itself.
var reserved = sets.New("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package", "namespace", "return", "var", "void", "while")

// variables checks a policy's variables and returns what compiles the expressions that see them, and the messages, which see less.
func (c checker) variables(e *check.Errors, list []admissionregistrationv1.Variable, scope expression.Scope, known expressions) (rule, message compile) {
	env, err := c.compiler.Composed(scope)
	if err != nil {
		e.Add(field.InternalError(specPath, err))
		nothing := func(*field.Path, string, ...*cel.Type) {}
		return nothing, nothing
	}
	for i, v := range list {
		at := specPath.Child("variables").Index(i)
		// Of two variables of one name the later one counts, as in Kubernetes.
		switch {
		case strings.TrimSpace(v.Name) == "":
			e.Required(at.Child("name"), "name is not specified")
		case !identifier.MatchString(v.Name) || reserved.Has(v.Name):
			e.Invalid(at.Child("name"), v.Name, "must be a valid CEL identifier")
		}
		if strings.TrimSpace(v.Expression) == "" {
			e.Required(at.Child("expression"), "expression is not specified")
			continue
		}
		if err := env.Declare(v.Name, v.Expression); err != nil && !known.Has(v.Expression) {
			e.Invalid(at.Child("expression"), v.Expression, err.Error())
		}
	}
	with := func(compile func(text string, returns ...*cel.Type) (*expression.Program, error)) compile {
		return func(at *field.Path, text string, returns ...*cel.Type) {
			if known.Has(text) {
				return
			}
			if _, err := compile(text, returns...); err != nil {
				e.Invalid(at, text, err.Error())
			}
		}
	}
	return with(env.Compile), with(func(text string, _ ...*cel.Type) (*expression.Program, error) { return env.CompileMessage(text) })
}

func checkValidation(e *check.Errors, at *field.Path, v *admissionregistrationv1.Validation, compile, compileMessage compile) {
	text, message, messageText := strings.TrimSpace(v.Expression), strings.TrimSpace(v.Message), strings.TrimSpace(v.MessageExpression)
	if text == "" {
		e.Required(at.Child("expression"), "expression is not specified")
	} else {
		compile(at.Child("expression"), v.Expression, cel.BoolType)
	}
	if v.MessageExpression != "" && messageText == "" {
		e.Invalid(at.Child("messageExpression"), v.MessageExpression, "must be non-empty if specified")
	} else if messageText != "" {
		compileMessage(at.Child("messageExpression"), v.MessageExpression)
	}
	switch {
	case v.Message != "" && message == "":
		e.Invalid(at.Child("message"), v.Message, "must be non-empty if specified")
	case strings.ContainsAny(message, "\n\r"):
		e.Invalid(at.Child("message"), v.Message, "must not contain line breaks")
	}
	if v.Reason != nil {
		check.Supported(e, at.Child("reason"), *v.Reason, metav1.StatusReasonForbidden, metav1.StatusReasonInvalid, metav1.StatusReasonRequestEntityTooLarge, metav1.StatusReasonUnauthorized)
	}
}

func (c checker) mutatingPolicy(e *check.Errors, s *admissionregistrationv1.MutatingAdmissionPolicySpec, old *admissionregistrationv1.MutatingAdmissionPolicy) {
	known := expressions{sets.New[string]()}
	if old != nil {
		for _, m := range old.Spec.MatchConditions {
			known.Insert(m.Expression)
		}
		for _, m := range old.Spec.Mutations {
			known.Insert(mutationText(&m))
		}
	}
	checkPolicy(e, s.FailurePolicy, s.ParamKind, s.MatchConstraints)
	if s.MatchConstraints != nil {
		checkMutable(e, s.MatchConstraints.ResourceRules)
	}
	c.conditions(e, specPath.Child("matchConditions"), s.MatchConditions, s.ParamKind != nil, known.Set)
	compile, _ := c.variables(e, s.Variables, expression.Scope{Params: s.ParamKind != nil, Authorizer: true, Patch: true}, known)
	if len(s.Mutations) == 0 {
		e.Required(specPath.Child("mutations"), "mutations must contain at least one item")
	}
	for i := range s.Mutations {
		checkMutation(e, specPath.Child("mutations").Index(i), &s.Mutations[i], compile)
	}
	if s.ReinvocationPolicy == "" {
		e.Required(specPath.Child("reinvocationPolicy"), "")
	} else {
		check.Supported(e, specPath.Child("reinvocationPolicy"), s.ReinvocationPolicy, admissionregistrationv1.IfNeededReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)
	}
}

// checkMutable refuses rules for what has nothing that could be changed: deletions.
func checkMutable(e *check.Errors, rules []admissionregistrationv1.NamedRuleWithOperations) {
	at := specPath.Child("matchConstraints", "resourceRules", "operations")
	for i := range rules {
		for _, op := range rules[i].Operations {
			check.Supported(e, at, op, admissionregistrationv1.OperationAll, admissionregistrationv1.Connect, admissionregistrationv1.Create, admissionregistrationv1.Update)
		}
	}
}

// mutationText is the expression of a mutation's patch type.
func mutationText(m *admissionregistrationv1.Mutation) string {
	switch {
	case m.PatchType == admissionregistrationv1.PatchTypeJSONPatch && m.JSONPatch != nil:
		return m.JSONPatch.Expression
	case m.PatchType == admissionregistrationv1.PatchTypeApplyConfiguration && m.ApplyConfiguration != nil:
		return m.ApplyConfiguration.Expression
	}
	return ""
}

func checkMutation(e *check.Errors, at *field.Path, m *admissionregistrationv1.Mutation, compile compile) {
	one := func(name string, has bool, other, text string, of *cel.Type) {
		here := at.Child(name)
		if !has {
			e.Required(here, "must be specified when patchType is "+string(m.PatchType))
		} else if strings.TrimSpace(text) == "" {
			e.Required(here.Child("expression"), "")
		} else {
			compile(here.Child("expression"), text, of)
		}
		if other != "" {
			e.Invalid(at.Child(other), "{"+other+"}", "must not be specified when patchType is "+string(m.PatchType))
		}
	}
	// besides is the name of what is not the type's, if it is there.
	besides := func(name string, there bool) string {
		if there {
			return name
		}
		return ""
	}
	switch m.PatchType {
	case "":
		e.Required(at.Child("patchType"), "")
	case admissionregistrationv1.PatchTypeJSONPatch:
		one("jsonPatch", m.JSONPatch != nil, besides("applyConfiguration", m.ApplyConfiguration != nil), mutationText(m), expression.JSONPatchType())
	case admissionregistrationv1.PatchTypeApplyConfiguration:
		one("applyConfiguration", m.ApplyConfiguration != nil, besides("jsonPatch", m.JSONPatch != nil), mutationText(m), expression.ApplyType())
	default:
		check.Supported(e, at.Child("patchType"), m.PatchType, admissionregistrationv1.PatchTypeApplyConfiguration, admissionregistrationv1.PatchTypeJSONPatch)
	}
}

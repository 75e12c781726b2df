package policies

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	celconfig "k8s.io/apiserver/pkg/apis/cel"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/admission/expression"
	"bareboat.dev/apiserver/admission/match"
	"bareboat.dev/apiserver/registry"
)

// validation is a compiled rule.
type validation struct {
	admissionregistrationv1.Validation
	program, message *expression.Program // message may be nil
	err              error
}

// note is a compiled audit annotation.
type note struct {
	key     string
	program *expression.Program
	err     error
}

// Validating holds writes to ValidatingAdmissionPolicies.
func Validating(cfg Config) admission.Plugin {
	const group = admissionregistrationv1.GroupName
	v := &validator{cfg: cfg}
	v.planner.init(cfg, "validatingadmissionpolicies", "validatingadmissionpolicybindings", v.compile, bindValidating)
	return admission.Plugin{
		Name: "ValidatingAdmissionPolicy", Validate: v.validate, Connects: true,
		Obeys: []schema.GroupResource{{Group: group, Resource: v.planner.policies}, {Group: group, Resource: v.planner.bindings}, {Resource: "namespaces"}},
	}
}

type validator struct {
	cfg     Config
	planner planner
}

func bindValidating(obj registry.Object) (string, *binding) {
	o := obj.(*admissionregistrationv1.ValidatingAdmissionPolicyBinding)
	b := newBinding(o.Name, o.Spec.MatchResources, o.Spec.ParamRef)
	b.actions = o.Spec.ValidationActions
	return o.Spec.PolicyName, b
}

func (v *validator) compile(obj registry.Object) *policy {
	o := obj.(*admissionregistrationv1.ValidatingAdmissionPolicy)
	s := &o.Spec
	p, env := v.cfg.base(o.Name, s.FailurePolicy, s.ParamKind, s.MatchConstraints, s.MatchConditions, s.Variables, expression.Scope{Authorizer: true})
	if env == nil {
		return p
	}
	for _, rule := range s.Validations {
		c := validation{Validation: rule}
		c.program, c.err = env.Compile(rule.Expression, cel.BoolType)
		if rule.MessageExpression != "" {
			// A message that cannot be worked out is replaced by the fixed one.
			c.message, _ = env.CompileMessage(rule.MessageExpression)
		}
		p.validations = append(p.validations, c)
	}
	for _, a := range s.AuditAnnotations {
		n := note{key: a.Key}
		n.program, n.err = env.Compile(a.ValueExpression, cel.StringType, cel.NullType)
		p.notes = append(p.notes, n)
	}
	return p
}

// failure is a rule that a write breaks, or an error for which a policy's failure policy says that the write must not be.
type failure struct {
	policy  *policy
	binding *binding
	index   int
	message string
	reason  metav1.StatusReason
	// fault is what is wrong with the rule itself, as metrics call it.
	fault string
}

func (f *failure) String() string {
	if f.binding == nil {
		return fmt.Sprintf("ValidatingAdmissionPolicy '%s' denied request: %s", f.policy.name, f.message)
	}
	return fmt.Sprintf("ValidatingAdmissionPolicy '%s' with binding '%s' denied request: %s", f.policy.name, f.binding.name, f.message)
}

func (v *validator) validate(ctx context.Context, a *admission.Attributes) error {
	policies, err := v.planner.get(ctx)
	if err != nil || len(policies) == 0 || exempt(a) {
		return err
	}
	w := v.planner.source.Write(a)
	list, err := v.cfg.evaluations(ctx, policies, w)
	if err != nil {
		return err
	}
	var r report
	for i := range list {
		if err := v.evaluate(ctx, w, &list[i], &r); err != nil {
			return err
		}
	}
	return r.conclude(a)
}

// evaluate holds the write to one policy.
func (v *validator) evaluate(ctx context.Context, w *match.Write, e *evaluation, r *report) error {
	p, b := e.policy, e.binding
	if e.err != nil {
		what := "policy"
		if b != nil {
			what = "binding"
		}
		r.fault(p, b, fmt.Errorf("failed to configure %s: %w", what, e.err))
		return nil
	}
	in, err := v.cfg.input(ctx, w, e)
	if err != nil {
		return err
	}
	ok, err := p.conditions.Match(ctx, in, expression.MatchBudget)
	if err != nil {
		r.deny(&failure{policy: p, binding: b, message: err.Error()}, p.ignore)
	}
	if err != nil || !ok {
		return nil
	}
	budget := expression.PolicyBudget
	for i := range p.validations {
		if !v.check(ctx, &p.validations[i], in, &budget, &failure{policy: p, binding: b, index: i, fault: "no_error"}, r) {
			break
		}
	}
	return v.note(ctx, p, in, r)
}

// check evaluates one rule and tells the observer.
func (v *validator) check(ctx context.Context, c *validation, in *expression.Input, budget *expression.Budget, f *failure, r *report) bool {
	if v.cfg.Observe == nil {
		return c.check(ctx, in, budget, f, r)
	}
	before, start := len(r.failures), v.cfg.Now()
	more := c.check(ctx, in, budget, f, r)
	v.cfg.Observe(Checked{
		Policy: f.policy.name, Binding: f.binding.name, Fault: f.fault, Broken: len(r.failures) > before, Actions: f.binding.actions, Took: v.cfg.Now().Sub(start),
	})
	return more
}

// check evaluates one rule; false means that there is no budget left for others.
func (c *validation) check(ctx context.Context, in *expression.Input, budget *expression.Budget, f *failure, r *report) bool {
	if c.err != nil {
		f.message, f.fault = "compilation error: "+c.err.Error(), "compile_error"
		r.deny(f, f.policy.ignore)
		return true
	}
	value, err := c.program.Eval(ctx, in, budget)
	switch {
	case err != nil:
		f.message, f.fault = err.Error(), "out_of_budget"
		if !errors.Is(err, expression.ErrOutOfBudget) {
			f.fault = "invalid_error"
			f.message = fmt.Sprintf("expression '%s' resulted in error: %v", c.Expression, err)
		}
		r.deny(f, f.policy.ignore)
		return !errors.Is(err, expression.ErrOutOfBudget)
	case value == types.True:
		return true
	}
	f.reason = metav1.StatusReasonInvalid
	if c.Reason != nil {
		f.reason = *c.Reason
	}
	f.message = c.say(ctx, in, budget)
	r.deny(f, false)
	return true
}

// say is the message of a rule that is broken: what its expression says, else what it says itself, else what it is.
func (c *validation) say(ctx context.Context, in *expression.Input, budget *expression.Budget) string {
	if c.message != nil {
		if value, err := c.message.Eval(ctx, in, budget); err == nil {
			if text, ok := value.Value().(string); ok {
				text = strings.TrimSpace(text)
				if text != "" && len(text) <= celconfig.MaxEvaluatedMessageExpressionSizeBytes && !strings.Contains(text, "\n") {
					return text
				}
			}
		}
	}
	if text := strings.TrimSpace(c.Message); text != "" {
		return text
	}
	return "failed expression: " + strings.TrimSpace(c.Expression)
}

// note works the policy's audit annotations out.
func (v *validator) note(ctx context.Context, p *policy, in *expression.Input, r *report) error {
	budget := expression.PolicyBudget
	for _, n := range p.notes {
		err := n.err
		if err == nil {
			value, failed := n.program.Eval(ctx, in, &budget)
			if err = failed; err == nil {
				if text, ok := value.Value().(string); ok {
					r.note(p.name+"/"+n.key, strings.TrimSpace(text))
				}
				continue
			}
		}
		if !p.ignore {
			r.note(p.name+"/"+n.key, "error: "+err.Error())
		}
	}
	return nil
}

// report is what the policies have found.
type report struct {
	failures []*failure
	notes    map[string][]string
}

// deny adds a failure, unless it is an error that the policy ignores.
func (r *report) deny(f *failure, ignore bool) {
	if !ignore {
		r.failures = append(r.failures, f)
	}
}

// fault adds an error of a policy or binding itself, which is never only warned of.
func (r *report) fault(p *policy, b *binding, err error) {
	f := &failure{policy: p, message: err.Error()}
	if b != nil {
		f.binding = &binding{name: b.name, actions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}}
	}
	r.deny(f, p.ignore)
}

func (r *report) note(key, value string) {
	if value == "" {
		return
	}
	if r.notes == nil {
		r.notes = map[string][]string{}
	}
	r.notes[key] = append(r.notes[key], value)
}

// audited is a failure in the audit log.
type audited struct {
	Message           string                                     `json:"message"`
	Policy            string                                     `json:"policy"`
	Binding           string                                     `json:"binding"`
	ExpressionIndex   int                                        `json:"expressionIndex"`
	ValidationActions []admissionregistrationv1.ValidationAction `json:"validationActions"`
}

// maxAudited bounds the failures in one audit annotation, as upstream does.
const maxAudited = 50

// conclude warns, notes and refuses as the bindings say.
func (r *report) conclude(a *admission.Attributes) error {
	for key, values := range r.notes {
		a.Note(key, strings.Join(values, ", "))
	}
	var log []audited
	var first *failure
	for _, f := range r.failures {
		if f.binding == nil || f.binding.does(admissionregistrationv1.Deny) {
			if first == nil {
				first = f
			}
		}
		if f.binding == nil {
			continue
		}
		if f.binding.does(admissionregistrationv1.Warn) {
			a.Warn(fmt.Sprintf("Validation failed for ValidatingAdmissionPolicy '%s' with binding '%s': %s", f.policy.name, f.binding.name, f.message))
		}
		if f.binding.does(admissionregistrationv1.Audit) && len(log) < maxAudited {
			log = append(log, audited{f.message, f.policy.name, f.binding.name, f.index, f.binding.actions})
		}
	}
	if len(log) > 0 {
		if text, err := json.Marshal(log); err == nil {
			a.Note("validation.policy.admission.k8s.io/validation_failure", string(text))
		}
	}
	if first == nil {
		return nil
	}
	return first.refuse(a)
}

func (f *failure) refuse(a *admission.Attributes) error {
	message := f.String()
	e := apierrors.NewForbidden(schema.GroupResource{Group: a.Resource.Kind.Group, Resource: a.Resource.Plural}, a.ObjectName(), errors.New(message))
	e.ErrStatus.Reason = f.reason
	if f.reason == "" {
		e.ErrStatus.Reason = metav1.StatusReasonInvalid
	}
	e.ErrStatus.Code = map[metav1.StatusReason]int32{
		metav1.StatusReasonForbidden: http.StatusForbidden, metav1.StatusReasonUnauthorized: http.StatusUnauthorized,
		metav1.StatusReasonRequestEntityTooLarge: http.StatusRequestEntityTooLarge, metav1.StatusReasonInvalid: http.StatusUnprocessableEntity,
	}[e.ErrStatus.Reason]
	e.ErrStatus.Details.Causes = append(e.ErrStatus.Details.Causes, metav1.StatusCause{Message: message})
	return e
}

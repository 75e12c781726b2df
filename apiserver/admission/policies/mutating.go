package policies

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/cel-go/common/types/ref"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/admission/expression"
	"bareboat.dev/apiserver/admission/match"
	"bareboat.dev/apiserver/registry"
)

// edit is a compiled mutation.
type edit struct {
	kind    admissionregistrationv1.PatchType
	program *expression.Program
	err     error
}

const mutatingName = "MutatingAdmissionPolicy"

// Mutating changes writes as MutatingAdmissionPolicies say.
func Mutating(cfg Config) admission.Plugin {
	const group = admissionregistrationv1.GroupName
	m := &mutator{cfg: cfg}
	m.planner.init(cfg, "mutatingadmissionpolicies", "mutatingadmissionpolicybindings", m.compile, bindMutating)
	return admission.Plugin{
		Name: mutatingName, Mutate: m.mutate, Connects: true,
		Obeys: []schema.GroupResource{{Group: group, Resource: m.planner.policies}, {Group: group, Resource: m.planner.bindings}, {Resource: "namespaces"}},
	}
}

type mutator struct {
	cfg     Config
	planner planner
}

func bindMutating(obj registry.Object) (string, *binding) {
	o := obj.(*admissionregistrationv1.MutatingAdmissionPolicyBinding)
	return o.Spec.PolicyName, newBinding(o.Name, o.Spec.MatchResources, o.Spec.ParamRef)
}

func (m *mutator) compile(obj registry.Object) *policy {
	o := obj.(*admissionregistrationv1.MutatingAdmissionPolicy)
	s := &o.Spec
	p, env := m.cfg.base(o.Name, s.FailurePolicy, s.ParamKind, s.MatchConstraints, s.MatchConditions, s.Variables, expression.Scope{Authorizer: true, Patch: true})
	if env == nil {
		return p
	}
	p.again = s.ReinvocationPolicy == admissionregistrationv1.IfNeededReinvocationPolicy
	for i := range s.Mutations {
		c := edit{kind: s.Mutations[i].PatchType}
		switch {
		case s.Mutations[i].JSONPatch != nil:
			c.program, c.err = env.Compile(s.Mutations[i].JSONPatch.Expression, expression.JSONPatchType())
		case s.Mutations[i].ApplyConfiguration != nil:
			c.program, c.err = env.Compile(s.Mutations[i].ApplyConfiguration.Expression, expression.ApplyType())
		}
		p.mutations = append(p.mutations, c)
	}
	return p
}

// rounds is what is remembered from the first round to the second: who wants to be asked again, in order, who must be since the object
// was changed after him, and the object as the last policy left it.
type rounds struct {
	called, later []string
	last          []byte
}

func (m *mutator) mutate(ctx context.Context, a *admission.Attributes) error {
	policies, err := m.planner.get(ctx)
	if err != nil || len(policies) == 0 || exempt(a) || a.Object == nil && !match.InBody(a) {
		return err
	}
	w := m.planner.source.Write(a)
	list, err := m.cfg.evaluations(ctx, policies, w)
	if err != nil || len(list) == 0 {
		return err
	}
	r, err := begin(a)
	if err != nil {
		return err
	}
	var faults []*failure
	for i := range list {
		e := &list[i]
		key := e.key()
		if a.Round > 0 && !contains(r.later, key) {
			continue
		}
		changed, err := m.evaluate(ctx, w, e, &faults)
		if err != nil {
			return err
		}
		if changed {
			r.later = append(r.later, r.called...)
			a.Again()
		}
		if e.policy.again && a.Round == 0 {
			r.called = append(r.called, key)
		}
	}
	if err := r.keep(a); err != nil {
		return err
	}
	return refuse(a, faults)
}

func contains(list []string, key string) bool {
	for _, k := range list {
		if k == key {
			return true
		}
	}
	return false
}

// key names an evaluation from one round to the next.
func (e *evaluation) key() string {
	key := e.policy.name
	if e.binding != nil {
		key += "\x00" + e.binding.name
	}
	if e.params != nil {
		key += "\x00" + e.params.GetNamespace() + "/" + e.params.GetName()
	}
	return key
}

func begin(a *admission.Attributes) (*rounds, error) {
	if r, ok := a.Memory[mutatingName].(*rounds); ok && a.Round > 0 {
		now, err := state(a)
		if err != nil {
			return nil, err
		}
		if string(now) != string(r.last) {
			r.later = r.called
		}
		return r, nil
	}
	return &rounds{}, nil
}

// keep remembers the first round, if somebody wants to be asked in the second.
func (r *rounds) keep(a *admission.Attributes) (err error) {
	if a.Round > 0 || len(r.called) == 0 {
		return nil
	}
	if a.Memory == nil {
		a.Memory = map[string]any{}
	}
	a.Memory[mutatingName] = r
	r.last, err = state(a)
	return err
}

// state is what mutations change, as JSON.
func state(a *admission.Attributes) ([]byte, error) {
	object, _ := a.Reviewed()
	b, err := json.Marshal(object)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return b, nil
}

// evaluate lets one policy change the object, by each of its mutations in turn.
func (m *mutator) evaluate(ctx context.Context, w *match.Write, e *evaluation, faults *[]*failure) (bool, error) {
	p := e.policy
	fault := func(err error) {
		if !p.ignore {
			*faults = append(*faults, &failure{policy: p, binding: e.binding, message: err.Error()})
		}
	}
	if e.err != nil {
		fault(e.err)
		return false, nil
	}
	in, err := m.cfg.input(ctx, w, e)
	if err != nil {
		return false, err
	}
	ok, err := p.conditions.Match(ctx, in, expression.MatchBudget)
	if err != nil {
		fault(err)
	}
	if err != nil || !ok {
		return false, nil
	}
	budget, changed := expression.PolicyBudget, false
	for i := range p.mutations {
		if i > 0 {
			if in, err = m.cfg.input(ctx, w, e); err != nil {
				return changed, err
			}
		}
		one, err := m.change(ctx, w, e, &p.mutations[i], in, &budget)
		if err != nil {
			fault(err)
			continue
		}
		changed = changed || one
	}
	return changed, nil
}

func (m *mutator) change(ctx context.Context, w *match.Write, e *evaluation, c *edit, in *expression.Input, budget *expression.Budget) (bool, error) {
	if c.err != nil {
		return false, c.err
	}
	value, err := c.program.Eval(ctx, in, budget)
	if err != nil {
		return false, err
	}
	object, _ := w.Reviewed()
	own := match.InBody(w.Attributes)
	if !own {
		if object, err = match.Convert(w.Object, w.Resource, e.as); err != nil {
			return false, err
		}
	}
	before, err := json.Marshal(object)
	if err != nil {
		return false, err
	}
	after, err := m.patched(c, e.as, own, object, before, value)
	switch {
	case err != nil || sameJSON(before, after):
		return false, err
	case own:
		return true, match.ReplaceBody(w.Attributes, after)
	}
	return true, match.Replace(w.Attributes, e.as, after)
}

// patched applies what a mutation's expression returned. The kinds of subresources and of options have no lists that could be merged, so
// that what they are is seen from what is in them.
func (m *mutator) patched(c *edit, as *registry.Resource, own bool, object runtime.Object, before []byte, value ref.Val) ([]byte, error) {
	if c.kind == admissionregistrationv1.PatchTypeJSONPatch {
		return applyPatch(before, value)
	}
	if own {
		return applyConfiguration(managedfields.NewDeducedTypeConverter(), object, object.GetObjectKind().GroupVersionKind(), value)
	}
	types, err := m.cfg.Types(as)
	if err != nil {
		return nil, err
	}
	return applyConfiguration(types, object, as.Kind, value)
}

// refuse makes one error of what has gone wrong.
func refuse(a *admission.Attributes, faults []*failure) error {
	if len(faults) == 0 {
		return nil
	}
	e := apierrors.NewForbidden(schema.GroupResource{Group: a.Resource.Kind.Group, Resource: a.Resource.Plural}, a.ObjectName(), errors.New("admission request denied by policy"))
	e.ErrStatus.Reason, e.ErrStatus.Message = metav1.StatusReasonInvalid, ""
	for _, f := range faults {
		message := fmt.Sprintf("policy %q denied request: %s", f.policy.name, f.message)
		if f.binding != nil {
			message = fmt.Sprintf("policy '%s' with binding '%s' denied request: %s", f.policy.name, f.binding.name, f.message)
		}
		if e.ErrStatus.Message == "" {
			e.ErrStatus.Message = message
		}
		e.ErrStatus.Details.Causes = append(e.ErrStatus.Details.Causes, metav1.StatusCause{Message: message})
	}
	return e
}

package policies

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/admission/expression"
	"bareboat.dev/apiserver/admission/match"
	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/registry"
)

// Config is what the plugins are made of.
type Config struct {
	Reader     match.Reader
	Authorizer authz.Authorizer
	Compiler   *expression.Compiler
	// Types gives a kind's objects types, by which apply configurations are merged.
	Types func(r *registry.Resource) (managedfields.TypeConverter, error)
	// Observe is told of every rule of a validating policy that a write was held to, and Now is the clock by which it is told how long
	// that took; nil: nobody is.
	Observe func(Checked)
	Now     func() time.Time
}

// Checked is a rule of a validating policy that a write was held to.
type Checked struct {
	Policy, Binding string
	// Fault is what went wrong with the rule itself: compile_error, out_of_budget, invalid_error; or no_error.
	Fault string
	// Broken: the write is not as the rule says, which has Actions for effect.
	Broken  bool
	Actions []admissionregistrationv1.ValidationAction
	Took    time.Duration
}

// policy is a compiled policy and whoever binds it.
type policy struct {
	name       string
	ignore     bool
	criteria   *match.Criteria
	params     *admissionregistrationv1.ParamKind
	conditions *expression.Conditions
	// broken is why the policy cannot be evaluated.
	broken   error
	bindings []*binding

	validations []validation
	notes       []note
	mutations   []edit
	// again: a mutating policy that wants to see what others change after it.
	again bool
}

// binding puts a policy to work.
type binding struct {
	name     string
	criteria *match.Criteria // nil selects all that the policy does
	ref      *admissionregistrationv1.ParamRef
	actions  []admissionregistrationv1.ValidationAction
	broken   error
}

func (b *binding) does(action admissionregistrationv1.ValidationAction) bool {
	return slices.Contains(b.actions, action)
}

// plan is the policies of one kind, by name.
type plan struct {
	policies, bindings int64 // when they changed
	list               []*policy
}

// planner keeps the plan. Policies that have not changed are not compiled again.
type planner struct {
	cfg                Config
	source             *match.Source
	all, bound         admission.Collection // nil if they are not served
	policies, bindings string               // their resources
	compile            func(obj registry.Object) *policy
	bind               func(obj registry.Object) (policy string, b *binding)
	current            atomic.Pointer[plan]

	mu   sync.Mutex
	done map[string]*policy // by uid and resource version, without bindings
}

func (p *planner) init(cfg Config, policies, bindings string, compile func(registry.Object) *policy, bind func(registry.Object) (string, *binding)) {
	p.cfg, p.source, p.policies, p.bindings, p.compile, p.bind = cfg, match.NewSource(cfg.Reader), policies, bindings, compile, bind
	all, ok := cfg.Reader.Collection(admissionregistrationv1.GroupName, policies)
	bound, okBound := cfg.Reader.Collection(admissionregistrationv1.GroupName, bindings)
	if ok && okBound {
		p.all, p.bound = all, bound
	}
}

// get returns the present policies. One without bindings does nothing, so that without bindings there are none.
func (p *planner) get(ctx context.Context) ([]*policy, error) {
	const group = admissionregistrationv1.GroupName
	if p.all == nil || p.bound.Empty() || p.all.Empty() {
		return nil, nil
	}
	next := plan{policies: p.all.Changed(), bindings: p.bound.Changed()}
	if now := p.current.Load(); now != nil && now.policies == next.policies && now.bindings == next.bindings {
		return now.list, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	all, err := p.cfg.Reader.Objects(ctx, group, p.policies, "")
	if err != nil {
		return nil, err
	}
	binders, err := p.cfg.Reader.Objects(ctx, group, p.bindings, "")
	if err != nil {
		return nil, err
	}
	next.list = p.assemble(all, binders)
	p.current.Store(&next)
	return next.list, nil
}

// assemble puts policies and bindings together, both in the order of their names.
func (p *planner) assemble(all, binders []registry.Object) []*policy {
	byName := func(a, b registry.Object) int { return cmp.Compare(a.GetName(), b.GetName()) }
	slices.SortFunc(all, byName)
	slices.SortFunc(binders, byName)
	bound := map[string][]*binding{}
	for _, obj := range binders {
		name, b := p.bind(obj)
		bound[name] = append(bound[name], b)
	}
	var list []*policy
	done := map[string]*policy{}
	for _, obj := range all {
		if len(bound[obj.GetName()]) == 0 {
			continue
		}
		key := string(obj.GetUID()) + "/" + obj.GetResourceVersion()
		compiled := p.done[key]
		if compiled == nil {
			compiled = p.compile(obj)
		}
		done[key] = compiled
		with := *compiled
		with.bindings = bound[obj.GetName()]
		list = append(list, &with)
	}
	p.done = done
	return list
}

// base compiles what both kinds of policies have, and returns the environment for the rest.
func (c *Config) base(name string, failure *admissionregistrationv1.FailurePolicyType, params *admissionregistrationv1.ParamKind, m *admissionregistrationv1.MatchResources,
	conditions []admissionregistrationv1.MatchCondition, variables []admissionregistrationv1.Variable, scope expression.Scope) (*policy, *expression.Environment) {
	p := &policy{name: name, ignore: failure != nil && *failure == admissionregistrationv1.Ignore, params: params}
	if p.criteria, p.broken = match.New(m); p.broken != nil {
		return p, nil
	}
	scope.Params = params != nil
	env, err := c.Compiler.Environment(scope)
	if len(variables) > 0 && err == nil {
		env, err = c.Compiler.Composed(scope)
	}
	if err != nil {
		p.broken = err
		return p, nil
	}
	for _, v := range variables {
		// One that does not compile fails the expressions that use it.
		_ = env.Declare(v.Name, v.Expression)
	}
	if len(conditions) > 0 {
		p.conditions = env.Conditions(conditions)
	}
	return p, env
}

func newBinding(name string, m *admissionregistrationv1.MatchResources, ref *admissionregistrationv1.ParamRef) *binding {
	b := &binding{name: name, ref: ref}
	if m != nil {
		b.criteria, b.broken = match.New(m)
	}
	return b
}

// exempt: the objects by which admission is configured are not held to it, so that a mistake in them can be mended.
func exempt(a *admission.Attributes) bool {
	return a.Resource.Kind.Group == admissionregistrationv1.GroupName || a.Object == nil && a.Old == nil && a.Body == nil
}

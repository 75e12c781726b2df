// Package expression compiles and evaluates the CEL expressions of admission: match conditions of webhooks, and everything in admission
// policies. The language, its libraries and its costs are those of k8s.io/apiserver/pkg/cel, in the one environment that custom resources
// use as well (https://kubernetes.io/docs/reference/using-api/cel/); what is here are the variables that an expression sees, and the
// budget that it is held to.
//
//	env, err := compiler.Environment(expression.Scope{Authorizer: true})
//	program, err := env.Compile("object.metadata.name != 'x'", cel.BoolType)
//	value, err := program.Eval(ctx, input, &budget)
package expression

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"k8s.io/apimachinery/pkg/util/version"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apicel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/lazy"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/mutation"
)

// Scope says which variables an expression sees beyond object, oldObject, request and namespaceObject.
type Scope struct {
	// Params: "params", the object that a binding refers to.
	Params bool
	// Authorizer: "authorizer" and "authorizer.requestResource".
	Authorizer bool
	// Patch: the types by which mutations are written, Object{…} and JSONPatch{…}.
	Patch bool
}

// Compiler makes environments. Those without variables of their own are made once, when first asked for: one takes some 50 KiB, and
// one with variables of its own 90 KiB.
type Compiler struct {
	mu   sync.Mutex
	envs map[Scope]*environment.EnvSet
}

// NewCompiler returns a compiler that has made nothing yet.
func NewCompiler() *Compiler { return &Compiler{envs: map[Scope]*environment.EnvSet{}} }

// Environment is where expressions are compiled.
type Environment struct {
	env *cel.Env
	// variables is the type of "variables", whose fields grow with Declare; nil if there are none.
	variables *apicel.DeclType
	declared  []variable
	scope     Scope
	types     Types
}

type variable struct {
	name    string
	program *Program
	err     error
}

// authorizerName is the variable by which expressions ask what the user may do.
const authorizerName = "authorizer"

// always is a version that every environment is for.
var always = version.MajorMinor(1, 0)

// base is the environment that all others extend.
func base() *environment.EnvSet {
	return environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
}

// Types are what the objects that expressions see are known to be; of one that is nil nothing is.
type Types struct{ Object, Params *apicel.DeclType }

func (t Types) declared() []*apicel.DeclType {
	return slices.DeleteFunc([]*apicel.DeclType{t.Object, t.Params}, func(d *apicel.DeclType) bool { return d == nil })
}

// known is the type of a variable.
func known(t *apicel.DeclType) *cel.Type {
	if t == nil {
		return cel.DynType
	}
	return t.CelType()
}

// extend adds a scope's variables. The types of patches come last: what resolves them must see every type before it.
func extend(set *environment.EnvSet, s Scope, t Types) (*environment.EnvSet, error) {
	namespace, request := namespaceType(), requestType()
	options := []cel.EnvOption{
		cel.Variable("object", known(t.Object)), cel.Variable("oldObject", known(t.Object)),
		cel.Variable("namespaceObject", namespace.CelType()), cel.Variable("request", request.CelType()),
	}
	if s.Params {
		options = append(options, cel.Variable("params", known(t.Params)))
	}
	if s.Authorizer {
		options = append(options, cel.Variable(authorizerName, library.AuthorizerType), cel.Variable(authorizerName+".requestResource", library.ResourceCheckType))
	}
	set, err := set.Extend(environment.VersionedOptions{
		IntroducedVersion: always, EnvOptions: options, DeclTypes: append(t.declared(), namespace, request),
	}, environment.StrictCostOpt)
	if err == nil && s.Patch {
		set, err = set.Extend(environment.VersionedOptions{IntroducedVersion: always, EnvOptions: []cel.EnvOption{
			common.ResolverEnvOption(&mutation.DynamicTypeResolver{}), environment.UnversionedLib(library.JSONPatch),
		}})
	}
	if err != nil {
		return nil, fmt.Errorf("CEL environment: %w", err)
	}
	return set, nil
}

func (c *Compiler) scope(s Scope) (*environment.EnvSet, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if set, ok := c.envs[s]; ok {
		return set, nil
	}
	set, err := extend(base(), s, Types{})
	if err != nil {
		return nil, err
	}
	c.envs[s] = set
	return set, nil
}

// Environment returns the environment of a scope.
func (c *Compiler) Environment(s Scope) (*Environment, error) {
	set, err := c.scope(s)
	if err != nil {
		return nil, err
	}
	env, err := set.Env(environment.StoredExpressions)
	return &Environment{env: env}, err
}

// Composed returns an environment of its own that can have variables declared.
func (c *Compiler) Composed(s Scope) (*Environment, error) { return c.Typed(s, Types{}) }

// Typed returns an environment of its own that can have variables declared and knows more of the objects. What does not compile in it need
// not be wrong: expressions are evaluated without types.
func (c *Compiler) Typed(s Scope, t Types) (*Environment, error) {
	return typed(s, t, apicel.NewObjectType("kubernetes.variables", map[string]*apicel.DeclField{}))
}

func typed(s Scope, t Types, declared *apicel.DeclType) (*Environment, error) {
	set, err := base().Extend(environment.VersionedOptions{
		IntroducedVersion: always, EnvOptions: []cel.EnvOption{cel.Variable("variables", declared.CelType())}, DeclTypes: []*apicel.DeclType{declared},
	})
	if err != nil {
		return nil, fmt.Errorf("CEL environment: %w", err)
	}
	if set, err = extend(set, s, t); err != nil {
		return nil, err
	}
	env, err := set.Env(environment.StoredExpressions)
	return &Environment{env: env, variables: declared, scope: s, types: t}, err
}

// Declare adds a variable, which later expressions see as variables.<name>. One that does not compile is declared all the same, and fails
// whoever uses it.
func (e *Environment) Declare(name, text string) error {
	p, err := e.Compile(text, cel.AnyType)
	out := cel.DynType
	if err == nil {
		out = p.out
	}
	e.variables.Fields[name] = apicel.NewDeclField(name, declType(out), true, nil, nil)
	e.declared = append(e.declared, variable{name, p, err})
	return err
}

// Check is what is wrong with an expression, in the compiler's words; "" is nothing.
func (e *Environment) Check(text string) string {
	if _, issues := e.env.Compile(text); issues != nil && issues.Err() != nil {
		return issues.String()
	}
	return ""
}

// ErrCompile is wrapped by the errors of Compile.
var ErrCompile = errors.New("does not compile")

// compileError is an error of Compile, with Kubernetes' words and no others.
type compileError struct{ text string }

func (e *compileError) Error() string { return e.text }
func (e *compileError) Unwrap() error { return ErrCompile }

// Compile compiles an expression that must return one of the types; cel.AnyType is any.
func (e *Environment) Compile(text string, returns ...*cel.Type) (*Program, error) {
	ast, issues := e.env.Compile(text)
	if issues != nil && issues.Err() != nil {
		return nil, &compileError{"compilation failed: " + issues.String()}
	}
	fits := func(t *cel.Type) bool { return t.IsExactType(ast.OutputType()) || cel.AnyType.IsExactType(t) }
	if !slices.ContainsFunc(returns, fits) {
		if len(returns) == 1 {
			return nil, &compileError{fmt.Sprintf("must evaluate to %v but got %v", returns[0], ast.OutputType())}
		}
		return nil, &compileError{fmt.Sprintf("must evaluate to one of %v but got %v", returns, ast.OutputType())}
	}
	program, err := e.env.Program(ast, cel.InterruptCheckFrequency(celconfig.CheckFrequency))
	if err != nil {
		return nil, &compileError{"program instantiation failed: " + err.Error()}
	}
	return &Program{env: e, program: program, out: ast.OutputType()}, nil
}

// CompileMessage compiles an expression that returns a policy's message. It sees what the policy's other expressions see, but for the
// authorizer; variables that ask it may be used.
func (e *Environment) CompileMessage(text string) (*Program, error) {
	if strings.Contains(text, authorizerName) { // else both environments are alike to it, and one more costs 90 KiB
		s := e.scope
		s.Authorizer = false
		without, err := typed(s, e.types, e.variables)
		if err != nil {
			return nil, err
		}
		without.declared, e = e.declared, without
	}
	return e.Compile(text, cel.StringType)
}

// Program is a compiled expression. It is safe for concurrent use.
type Program struct {
	env     *Environment
	program cel.Program
	out     *cel.Type
}

// Budget is what may yet be spent on evaluations, in CEL's units of cost.
type Budget int64

// The budgets of one policy or one match, and that of match conditions.
const (
	PolicyBudget Budget = celconfig.RuntimeCELCostBudget
	MatchBudget  Budget = celconfig.RuntimeCELCostBudgetMatchConditions
)

// ErrOutOfBudget means that an evaluation cost more than there was.
var ErrOutOfBudget = errors.New("validation failed due to running out of cost budget, no further validation rules will be run")

func (b *Budget) spend(d *cel.EvalDetails) error {
	if d == nil || d.ActualCost() == nil {
		*b = -1
		return ErrOutOfBudget
	}
	if cost := *d.ActualCost(); *b < 0 || cost > math.MaxInt64 || Budget(cost) > *b {
		*b = -1
		return ErrOutOfBudget
	} else {
		*b -= Budget(cost)
	}
	return nil
}

// Eval evaluates the expression and takes what it cost from the budget.
func (p *Program) Eval(ctx context.Context, in *Input, budget *Budget) (ref.Val, error) {
	a := &activation{Input: in}
	if p.env.variables != nil {
		a.variables = p.env.lazily(ctx, a, budget)
	}
	value, details, err := p.program.ContextEval(ctx, a)
	if spent := budget.spend(details); spent != nil && (err == nil || *budget < 0 && details != nil) {
		return nil, spent
	}
	return value, err
}

// lazily is "variables" for one evaluation: each is evaluated when it is first looked at.
func (e *Environment) lazily(ctx context.Context, a *activation, budget *Budget) *lazy.MapValue {
	m := lazy.NewMapValue(e.variables)
	for _, v := range e.declared {
		m.Append(v.name, func(*lazy.MapValue) ref.Val {
			if v.err != nil {
				return types.NewErr("composited variable %q fails to compile: %v", v.name, v.err)
			}
			value, details, err := v.program.program.ContextEval(ctx, a)
			if spent := budget.spend(details); spent != nil && err == nil {
				err = spent
			}
			if err != nil {
				return types.NewErr("composited variable %q fails to evaluate: %v", v.name, err)
			}
			return value
		})
	}
	return m
}

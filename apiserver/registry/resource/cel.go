package resource

import (
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/version"
	apicel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"

	"bareboat.dev/apiserver/registry/check"
)

// selectors compiles the expressions that select devices: over one variable, device, and to a boolean.
type selectors struct{ env *cel.Env }

// The sizes by which the cost of an expression is estimated.
const (
	maxDomain = resourcev1.DeviceMaxDomainLength
	maxID     = resourcev1.DeviceMaxIDLength
	maxEach   = resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice
)

func newSelectors() (*selectors, error) {
	member := func(name string, t *apicel.DeclType) *apicel.DeclField {
		return apicel.NewDeclField(name, t, true, nil, nil)
	}
	byDomain := func(value *apicel.DeclType) *apicel.DeclType {
		return apicel.NewMapType(apicel.StringType, apicel.NewMapType(apicel.StringType, value, maxEach), maxEach)
	}
	device := apicel.NewObjectType("kubernetes.DRADevice", map[string]*apicel.DeclField{
		"driver":                   member("driver", apicel.StringType),
		"attributes":               member("attributes", byDomain(apicel.AnyType)),
		"capacity":                 member("capacity", byDomain(apicel.QuantityDeclType)),
		"allowMultipleAllocations": member("allowMultipleAllocations", apicel.BoolType),
	})
	base := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
	set, err := base.Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 31),
		EnvOptions:        []cel.EnvOption{cel.Variable("device", device.CelType())},
		DeclTypes:         []*apicel.DeclType{device},
	})
	if err != nil {
		return nil, fmt.Errorf("resource: CEL environment: %w", err)
	}
	env, err := set.Env(environment.NewExpressions)
	if err != nil {
		return nil, fmt.Errorf("resource: CEL environment: %w", err)
	}
	return &selectors{env}, nil
}

// checkExpression says what is wrong with an expression, or that it may cost too much.
func (r *rules) checkExpression(e *check.Errors, expression string, at *field.Path) {
	if len(expression) > resourcev1.CELSelectorExpressionMaxLength {
		e.Add(field.TooLong(at, "", resourcev1.CELSelectorExpressionMaxLength))
		return
	}
	s, err := r.selectors()
	if err != nil {
		e.Add(field.InternalError(at, err))
		return
	}
	ast, issues := s.env.Compile(expression)
	if issues != nil && issues.Err() != nil {
		e.Invalid(at, expression, "compilation failed: "+issues.String())
		return
	}
	if t := ast.OutputType(); t.Kind() != cel.BoolKind && t.Kind() != cel.AnyKind && t.Kind() != cel.DynKind {
		e.Invalid(at, expression, "must evaluate to bool or the unknown type, not "+t.String())
		return
	}
	cost, err := s.env.EstimateCost(ast, &library.CostEstimator{SizeEstimator: unsized{}})
	if err != nil {
		e.Add(field.InternalError(at, err))
	} else if cost.Max > resourcev1.CELSelectorExpressionMaxCost {
		e.Forbidden(at, "too complex, exceeds cost limit")
	}
}

// unsized estimates sizes by the bounds of attributes: nothing of a device is longer.
type unsized struct{}

// EstimateSize implements checker.CostEstimator.
func (unsized) EstimateSize(element checker.AstNode) *checker.SizeEstimate {
	switch element.Type().Kind() {
	case cel.StringKind, cel.BytesKind:
		return &checker.SizeEstimate{Max: resourcev1.DeviceAttributeMaxValueLength}
	case cel.MapKind, cel.ListKind:
		return &checker.SizeEstimate{Max: resourcev1.ResourceSliceMaxAttributeValuesPerDevice}
	case cel.AnyKind, cel.DynKind:
		return &checker.SizeEstimate{Max: resourcev1.DeviceAttributeMaxValueLength}
	}
	return nil
}

// EstimateCallCost implements checker.CostEstimator.
func (unsized) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}

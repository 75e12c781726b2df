package apiextensions

import (
	"fmt"
	"math"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiservercel "k8s.io/apiserver/pkg/cel"
)

// Kubernetes' limits on what rules may cost by estimate (KEP-2876): one of them, and all of a schema together.
const (
	ruleCostLimit   = 10_000_000
	schemaCostLimit = 100_000_000
	// worthNaming is what a rule must contribute to be named when all together are too expensive, and mostNamed how many are.
	worthNaming = schemaCostLimit / 100
	mostNamed   = 4
)

// costs adds up the estimates of a schema.
type costs struct {
	total uint64
	most  []expense
}

type expense struct {
	at   *field.Path
	cost uint64
}

func (c *costs) observe(at *field.Path, cost uint64) {
	if c == nil {
		return
	}
	c.total = saturatedSum(c.total, cost)
	if cost < worthNaming {
		return
	}
	c.most = append(c.most, expense{at, cost})
	slices.SortStableFunc(c.most, func(a, b expense) int {
		if a.cost > b.cost {
			return -1
		}
		return 1
	})
	c.most = c.most[:min(len(c.most), mostNamed)]
}

func (c *costs) errors(path *field.Path) field.ErrorList {
	if c.total <= schemaCostLimit {
		return nil
	}
	var errs field.ErrorList
	for _, e := range c.most {
		errs = append(errs, field.Forbidden(e.at, "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"))
	}
	return append(errs, field.Forbidden(path, overBudget("x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema", c.total, schemaCostLimit)))
}

func overBudget(what string, cost, limit uint64) string {
	factor := float64(cost) / float64(limit)
	text := fmt.Sprintf("%.1fx", factor)
	switch {
	case factor > 100:
		text = "more than 100x"
	case factor < 1.5:
		text = fmt.Sprintf("%fx", factor) // never "1.0x"
	}
	return what + " exceeds budget by factor of " + text +
		" (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
}

func saturatedSum(a, b uint64) uint64 {
	if math.MaxUint64-a < b {
		return math.MaxUint64
	}
	return a + b
}

func saturatedProduct(a, b uint64) uint64 {
	if a != 0 && math.MaxUint64/a < b {
		return math.MaxUint64
	}
	return a * b
}

// scope is what the rules of a schema can see, and how often they may have to be evaluated.
type scope struct {
	parent *scope
	json   *apiextensions.JSONSchemaProps
	// ruled: the schema or one around it has rules, so that its types are needed.
	ruled bool
	// times is the most values of this schema in an object; 0, with bounded unset, if there is no such number.
	times   uint64
	bounded bool
	// within finds this schema's types in the parent's; nil if it is not there, and they must be made.
	within func(parent *celTypes) *celTypes

	made    *celTypes
	madeErr error
}

// celTypes are a schema as CEL knows it.
type celTypes struct {
	schema *schema.Structural
	decl   *apiservercel.DeclType
}

func rootScope(s *apiextensions.JSONSchemaProps, c *costs) *scope {
	if c == nil {
		return nil // rules of a schema that is not structural mean nothing
	}
	return &scope{json: s, ruled: len(s.XValidations) > 0, times: 1, bounded: true}
}

func (s *scope) child(json *apiextensions.JSONSchemaProps, within func(*celTypes) *celTypes) *scope {
	if s == nil {
		return nil
	}
	c := &scope{parent: s, json: json, ruled: s.ruled || json != nil && len(json.XValidations) > 0, within: within}
	if s.json == nil || !s.bounded {
		return c
	}
	if n, ok := mostElements(s.json); ok {
		c.times, c.bounded = saturatedProduct(s.times, n), true
	}
	return c
}

// mostElements is how many values of each schema within there can be in one value; ok is false without a limit.
func mostElements(s *apiextensions.JSONSchemaProps) (n uint64, ok bool) {
	limit := func(most *int64) (uint64, bool) {
		if most == nil {
			return 0, false
		}
		return uint64(max(*most, 0)), true
	}
	switch {
	case s.Type == "object" && s.AdditionalProperties != nil:
		return limit(s.MaxProperties)
	case s.Type == "array":
		return limit(s.MaxItems)
	}
	return 1, true
}

func (s *scope) property(json *apiextensions.JSONSchemaProps, name string) *scope {
	return s.child(json, func(parent *celTypes) *celTypes {
		escaped, ok := apiservercel.Escape(name)
		if !ok || parent.schema.Properties == nil {
			return nil
		}
		f, ok := parent.decl.Fields[escaped]
		if !ok {
			return nil
		}
		property := parent.schema.Properties[name]
		return &celTypes{&property, f.Type}
	})
}

func (s *scope) values(json *apiextensions.JSONSchemaProps) *scope {
	return s.child(json, func(parent *celTypes) *celTypes {
		if parent.schema.AdditionalProperties == nil {
			return nil
		}
		return &celTypes{parent.schema.AdditionalProperties.Structural, parent.decl.ElemType}
	})
}

func (s *scope) items(json *apiextensions.JSONSchemaProps) *scope {
	return s.child(json, func(parent *celTypes) *celTypes {
		if parent.schema.Items == nil {
			return nil
		}
		return &celTypes{parent.schema.Items, parent.decl.ElemType}
	})
}

// types returns the schema's types: out of the parent's where they are there, as making them is expensive; nil if no rule is near.
func (s *scope) types() (*celTypes, error) {
	if s == nil || !s.ruled {
		return nil, nil
	}
	if s.made == nil && s.madeErr == nil {
		s.made, s.madeErr = s.make()
	}
	return s.made, s.madeErr
}

func (s *scope) make() (*celTypes, error) {
	if s.parent != nil {
		parent, err := s.parent.types()
		if err != nil {
			return nil, err
		}
		if parent != nil {
			if own := s.within(parent); own != nil {
				return own, nil
			}
		}
	}
	structural, err := schema.NewStructural(s.json)
	if err != nil {
		return nil, err
	}
	decl := model.SchemaDeclType(structural, s.parent == nil || s.json.XEmbeddedResource)
	if decl == nil {
		return nil, fmt.Errorf("unable to convert structural schema to CEL declarations")
	}
	return &celTypes{structural, decl}, nil
}

// cost is what evaluating a rule wherever it applies may cost.
func (s *scope) cost(r *cel.CompilationResult) uint64 {
	if s.bounded {
		return saturatedProduct(r.MaxCost, s.times)
	}
	return saturatedProduct(r.MaxCost, r.MaxCardinality)
}

package admissionregistration

import (
	"strings"

	"github.com/google/cel-go/cel"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/admission/expression"
	"bareboat.dev/apiserver/registry/check"
)

// maxConditions bounds match conditions, as upstream does.
const maxConditions = 64

func (c checker) conditions(e *check.Errors, at *field.Path, list []admissionregistrationv1.MatchCondition, params bool, known sets.Set[string]) {
	if len(list) > maxConditions {
		e.Add(field.TooMany(at, len(list), maxConditions))
	}
	names := sets.New[string]()
	for i, m := range list {
		here := at.Index(i)
		if m.Name == "" {
			e.Required(here.Child("name"), "")
		} else {
			e.QualifiedName(here.Child("name"), m.Name)
			if names.Has(m.Name) {
				e.Duplicate(here.Child("name"), m.Name)
			}
			names.Insert(m.Name)
		}
		if strings.TrimSpace(m.Expression) == "" {
			e.Required(here.Child("expression"), "")
			continue
		}
		if known.Has(m.Expression) {
			continue
		}
		env, err := c.compiler.Environment(expression.Scope{Params: params, Authorizer: true})
		if err == nil {
			_, err = env.Compile(m.Expression, cel.BoolType)
		}
		if err != nil {
			e.Invalid(here.Child("expression"), m.Expression, err.Error())
		}
	}
}

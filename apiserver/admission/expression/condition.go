package expression

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
)

// Conditions are compiled match conditions: all must hold for a webhook or a policy to be asked.
type Conditions struct {
	list []condition
}

type condition struct {
	name    string
	program *Program
	err     error
}

// Conditions compiles match conditions. One that does not compile fails each match; validation has kept it out of what is stored.
func (e *Environment) Conditions(list []admissionregistrationv1.MatchCondition) *Conditions {
	c := &Conditions{}
	for _, m := range list {
		p, err := e.Compile(m.Expression, cel.BoolType)
		c.list = append(c.list, condition{m.Name, p, err})
	}
	return c
}

// Match reports whether all conditions hold. If one does not, the errors of the others do not count; else they are one error.
func (c *Conditions) Match(ctx context.Context, in *Input, budget Budget) (bool, error) {
	if c == nil {
		return true, nil
	}
	var errs []error
	for _, m := range c.list {
		if m.err != nil {
			errs = append(errs, m.err)
			continue
		}
		value, err := m.program.Eval(ctx, in, &budget)
		switch {
		case errors.Is(err, ErrOutOfBudget):
			return false, err
		case err != nil:
			errs = append(errs, fmt.Errorf("expression '%s' resulted in error: %w", m.name, err))
		case value == types.False:
			return false, nil
		}
	}
	return len(errs) == 0, errors.Join(errs...)
}

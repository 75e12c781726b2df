package engine

import (
	"errors"
	"fmt"
	"strings"

	"bareboat.dev/controllermanager/plan"
)

// Claim says that a controller writes a field of existing objects of a kind. Field is a path, "status.conditions"; a part
// may be narrowed to the elements that belong to the controller by a key in brackets: "metadata.finalizers[orphan]",
// "status.conditions[Ready]". A claim covers everything below its path.
type Claim struct {
	Kind  plan.Kind
	Field string
}

// ErrTwoWriters is wrapped by New's error when two controllers claim the same field.
var ErrTwoWriters = errors.New("two controllers write one field")

// checkClaims returns an error that names every pair of controllers whose claims overlap.
func checkClaims(controllers []Controller) error {
	var errs []error
	for i, a := range controllers {
		for _, b := range controllers[i+1:] {
			for _, ca := range a.Writes {
				for _, cb := range b.Writes {
					if ca.Kind == cb.Kind && overlap(ca.Field, cb.Field) {
						errs = append(errs, fmt.Errorf("%w: %s and %s both write %s of %s", ErrTwoWriters, a.Name, b.Name, narrower(ca.Field, cb.Field), ca.Kind))
					}
				}
			}
		}
	}
	return errors.Join(errs...)
}

// overlap reports whether one path is the other or lies below it. A part without brackets covers the same part with any.
func overlap(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		nameA, keyA, _ := strings.Cut(as[i], "[")
		nameB, keyB, _ := strings.Cut(bs[i], "[")
		if nameA != nameB || (keyA != "" && keyB != "" && keyA != keyB) {
			return false
		}
	}
	return true
}

func narrower(a, b string) string {
	if len(b) > len(a) {
		return b
	}
	return a
}

// mayWrite reports whether a controller declared that it does such a thing to such a kind.
func (c Controller) mayWrite(w plan.Write) bool {
	var kinds []plan.Kind
	switch w.Verb {
	case plan.VerbCreate:
		kinds = c.Creates
	case plan.VerbDelete:
		kinds = c.Deletes
	default:
		for _, claim := range c.Writes {
			kinds = append(kinds, claim.Kind)
		}
	}
	if c.AnyKind {
		return true
	}
	for _, k := range kinds {
		if k == w.Kind {
			return true
		}
	}
	return false
}

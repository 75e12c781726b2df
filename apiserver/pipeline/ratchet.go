package pipeline

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
)

// ratchet takes out of a change's errors those that the stored object has too: what was accepted once, by an older server or by
// Kubernetes before its data came here, may stay as it is, so that the object can still be labelled, finished and deleted.
// What the change makes wrong, or wrong in another way, remains an error. Kubernetes does so rule by rule.
func ratchet(errs field.ErrorList, res *registry.Resource, old registry.Object, validate func(obj, old registry.Object) field.ErrorList) field.ErrorList {
	if len(errs) == 0 {
		return nil
	}
	before := res.CheckMetaChange(old, old)
	if validate != nil && res.Custom == nil { // custom kinds know themselves what has not changed, and rules that hold for changes only
		before = append(before, validate(old, old)...)
	}
	if len(before) == 0 {
		return errs
	}
	borne := map[string]bool{}
	for _, err := range before {
		borne[err.Error()] = true
	}
	var rest field.ErrorList
	for _, err := range errs {
		if !borne[err.Error()] {
			rest = append(rest, err)
		}
	}
	return rest
}

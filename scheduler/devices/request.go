package devices

import (
	"fmt"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// request is one request of a claim: alternatives in the order in which they are preferred, one unless it is a firstAvailable.
type request struct {
	name         string
	alternatives []alternative
}

// alternative is what a request, or one of its subrequests, asks for.
type alternative struct {
	// name is as results spell it: request, or request/subrequest.
	name        string
	parent      string
	class       *resourcev1.DeviceClass
	expressions []string
	all         bool
	count       int
	admin       bool
	tolerations []resourcev1.DeviceToleration
	capacity    map[resourcev1.QualifiedName]resource.Quantity
}

// compile takes a request apart; refused is why it cannot be met anywhere.
func (t *Table) compile(r *resourcev1.DeviceRequest) (out request, refused string) {
	out.name = r.Name
	if x := r.Exactly; x != nil {
		a := alternative{name: r.Name, parent: r.Name, admin: x.AdminAccess != nil && *x.AdminAccess, tolerations: x.Tolerations}
		refused = a.fill(t, x.DeviceClassName, x.Selectors, x.AllocationMode, x.Count, x.Capacity, len(x.DerivedAttributes))
		out.alternatives = []alternative{a}
		return out, refused
	}
	for i := range r.FirstAvailable {
		x := &r.FirstAvailable[i]
		a := alternative{name: r.Name + "/" + x.Name, parent: r.Name, tolerations: x.Tolerations}
		if refused = a.fill(t, x.DeviceClassName, x.Selectors, x.AllocationMode, x.Count, x.Capacity, len(x.DerivedAttributes)); refused != "" {
			return out, refused
		}
		out.alternatives = append(out.alternatives, a)
	}
	if len(out.alternatives) == 0 {
		return out, fmt.Sprintf("request %s: unsupported request type", r.Name)
	}
	return out, ""
}

func (a *alternative) fill(t *Table, class string, selectors []resourcev1.DeviceSelector, mode resourcev1.DeviceAllocationMode, count int64,
	capacity *resourcev1.CapacityRequirements, derived int,
) string {
	if a.class = t.classes[class]; a.class == nil {
		return fmt.Sprintf("request %s: device class %s does not exist", a.name, class)
	}
	if derived > 0 {
		return fmt.Sprintf("request %s: cannot handle request with derived attributes, the feature is disabled", a.name)
	}
	for _, list := range [][]resourcev1.DeviceSelector{a.class.Spec.Selectors, selectors} {
		for i := range list {
			if list[i].CEL == nil {
				return fmt.Sprintf("request %s, selector #%d: CEL expression empty (unsupported selector type?)", a.name, i)
			}
			a.expressions = append(a.expressions, list[i].CEL.Expression)
		}
	}
	switch mode {
	case resourcev1.DeviceAllocationModeAll:
		a.all = true
	case resourcev1.DeviceAllocationModeExactCount, "":
		a.count = max(int(min(count, resourcev1.AllocationResultsMaxSize+1)), 1)
	default:
		return fmt.Sprintf("request %s: unsupported count mode %s", a.name, mode)
	}
	if a.count > resourcev1.AllocationResultsMaxSize {
		return fmt.Sprintf("request %s: %d devices exceed the claim limit of %d", a.name, count, resourcev1.AllocationResultsMaxSize)
	}
	if capacity != nil {
		a.capacity = capacity.Requests
	}
	return ""
}

// selects tells whether a device is one that the alternative asks for, free or not.
func (a *alternative) selects(t *Table, d *device) (bool, error) {
	for _, e := range a.expressions {
		ok, known := d.selected[e]
		if !known {
			var err error
			if ok, err = t.match(e, d.id.pool.driver, d.Device); err != nil {
				return false, fmt.Errorf("selector on device %s/%s/%s: %w", d.id.pool.driver, d.id.pool.name, d.Name, err)
			}
			if len(d.selected) >= maxSelected {
				clear(d.selected)
			}
			d.selected[e] = ok
		}
		if !ok {
			return false, nil
		}
	}
	return true, nil
}

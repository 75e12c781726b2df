package devices

import (
	"slices"
	"strconv"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
)

// constraint is what the devices of some of a claim's requests must have in common, or must not.
type constraint struct {
	requests  []string // none for all
	attribute string
	distinct  bool
	// values counts the chosen devices by the attribute's value.
	values map[string]int
}

func constraintsOf(claim *resourcev1.ResourceClaim) []*constraint {
	var out []*constraint
	for i := range claim.Spec.Devices.Constraints {
		c := &claim.Spec.Devices.Constraints[i]
		k := &constraint{requests: c.Requests, values: map[string]int{}}
		switch {
		case c.MatchAttribute != nil:
			k.attribute = string(*c.MatchAttribute)
		case c.DistinctAttribute != nil:
			k.attribute, k.distinct = string(*c.DistinctAttribute), true
		}
		out = append(out, k)
	}
	return out
}

func (k *constraint) concerns(a *alternative) bool {
	return len(k.requests) == 0 || slices.Contains(k.requests, a.parent) || slices.Contains(k.requests, a.name)
}

// add takes a device into account; false, and it is not, if it breaks the constraint. One that is of an unknown kind, and so without
// an attribute, is kept by no device.
func (k *constraint) add(a *alternative, d *device) bool {
	if !k.concerns(a) {
		return true
	}
	v, ok := d.attribute(k.attribute)
	if !ok {
		return false
	}
	if k.distinct && k.values[v] > 0 || !k.distinct && len(k.values) > 0 && k.values[v] == 0 {
		return false
	}
	k.values[v]++
	return true
}

// remove undoes add.
func (k *constraint) remove(a *alternative, d *device) {
	if !k.concerns(a) {
		return
	}
	if v, ok := d.attribute(k.attribute); ok {
		if k.values[v]--; k.values[v] == 0 {
			delete(k.values, v)
		}
	}
}

// attribute returns a device's attribute by its full name, as text that differs for different types and values.
func (d *device) attribute(name string) (string, bool) {
	a, ok := d.Attributes[resourcev1.QualifiedName(name)]
	if !ok {
		domain, id, qualified := strings.Cut(name, "/")
		if !qualified || domain != d.id.pool.driver {
			return "", false
		}
		if a, ok = d.Attributes[resourcev1.QualifiedName(id)]; !ok {
			return "", false
		}
	}
	switch {
	case a.StringValue != nil:
		return "s" + *a.StringValue, true
	case a.IntValue != nil:
		return "i" + strconv.FormatInt(*a.IntValue, 10), true
	case a.BoolValue != nil:
		return "b" + strconv.FormatBool(*a.BoolValue), true
	case a.VersionValue != nil:
		return "v" + *a.VersionValue, true
	}
	return "", false
}

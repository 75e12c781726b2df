package devices

import (
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// consumption is how much of a device's capacity an allocation takes, by the device's request policies (KEP-5075); false if what is
// requested is more than there is or not allowed. Of a device that is not shared it takes all, and only what is requested is checked.
func (a *alternative) consumption(d *device) (map[resourcev1.QualifiedName]resource.Quantity, bool) {
	for name := range a.capacity {
		if _, ok := d.Capacity[name]; !ok {
			return nil, false
		}
	}
	if len(d.Capacity) == 0 || len(a.capacity) == 0 && !d.shared() {
		return nil, true
	}
	out := map[resourcev1.QualifiedName]resource.Quantity{}
	for name, c := range d.Capacity {
		var want *resource.Quantity
		if q, ok := a.capacity[name]; ok {
			want = &q
		}
		q, ok := consume(c, want)
		if !ok || q.Cmp(c.Value) > 0 {
			return nil, false
		}
		out[name] = q
	}
	if !d.shared() {
		return nil, true
	}
	return out, true
}

// consume rounds what is requested of one capacity up to what its policy allows.
func consume(c resourcev1.DeviceCapacity, want *resource.Quantity) (resource.Quantity, bool) {
	policy := c.RequestPolicy
	switch {
	case want == nil && policy != nil && policy.Default != nil:
		return *policy.Default, true
	case want == nil:
		return c.Value, true
	case policy == nil:
		return *want, true
	case len(policy.ValidValues) > 0: // ascending
		for _, v := range policy.ValidValues {
			if v.Cmp(*want) >= 0 {
				return v, true
			}
		}
		return resource.Quantity{}, false
	case policy.ValidRange != nil:
		return inRange(policy.ValidRange, *want)
	}
	return *want, true
}

func inRange(r *resourcev1.CapacityRequestPolicyRange, want resource.Quantity) (resource.Quantity, bool) {
	if r.Min != nil && want.Cmp(*r.Min) < 0 {
		want = r.Min.DeepCopy()
	}
	if r.Step != nil && r.Step.Value() > 0 {
		base := int64(0)
		if r.Min != nil {
			base = r.Min.Value()
		}
		if over := (want.Value() - base) % r.Step.Value(); over != 0 {
			want = *resource.NewQuantity(want.Value()+r.Step.Value()-over, want.Format)
		}
	}
	return want, r.Max == nil || want.Cmp(*r.Max) <= 0
}

// fits tells whether a shared device has this much left beside what is used.
func (d *device) fits(consumed map[resourcev1.QualifiedName]resource.Quantity, used ...*usage) bool {
	for name, q := range consumed {
		sum := q.DeepCopy()
		for _, u := range used {
			if u != nil {
				sum.Add(u.consumed[name])
			}
		}
		if sum.Cmp(d.Capacity[name].Value) > 0 {
			return false
		}
	}
	return true
}

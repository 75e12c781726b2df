package devices

import (
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
)

// SetTaintRule tells a rule's state: its taint is on all devices that it selects, as if their driver had put it there. The object is
// kept and must not be modified afterwards.
func (t *Table) SetTaintRule(rule *resourcev1.DeviceTaintRule) {
	t.rules[rule.Name] = rule
	t.taintsChanged()
}

// RemoveTaintRule tells that a rule is gone.
func (t *Table) RemoveTaintRule(name string) {
	delete(t.rules, name)
	t.taintsChanged()
}

// taintsChanged has all pools gathered anew; rules change seldom.
func (t *Table) taintsChanged() {
	for _, p := range t.pools {
		p.stale = true
	}
}

// taint puts the rules' taints on a pool's devices.
func (t *Table) taint(p *pool) {
	for _, d := range p.devices {
		d.ruled = nil
		for _, rule := range t.rules {
			if selects(rule.Spec.DeviceSelector, d.id) {
				d.ruled = append(d.ruled, rule.Spec.Taint)
			}
		}
	}
}

// selects tells whether a rule is about a device: without a selector about none, and whatever the selector leaves out is any.
func selects(s *resourcev1.DeviceTaintSelector, d deviceID) bool {
	fits := func(want *string, is string) bool { return want == nil || *want == is }
	return s != nil && fits(s.Driver, d.pool.driver) && fits(s.Pool, d.pool.name) && fits(s.Device, d.name)
}

// tolerates tells whether the alternative may have a device in spite of its taints, the driver's and those of rules.
func (a *alternative) tolerates(d *device) bool {
	return !slices.ContainsFunc(d.Taints, a.refuses) && !slices.ContainsFunc(d.ruled, a.refuses)
}

// refuses tells whether a taint keeps a device from the alternative.
func (a *alternative) refuses(taint resourcev1.DeviceTaint) bool {
	if taint.Effect != resourcev1.DeviceTaintEffectNoSchedule && taint.Effect != resourcev1.DeviceTaintEffectNoExecute {
		return false
	}
	return !slices.ContainsFunc(a.tolerations, func(t resourcev1.DeviceToleration) bool { return tolerated(&t, &taint) })
}

func tolerated(t *resourcev1.DeviceToleration, taint *resourcev1.DeviceTaint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
		return false
	}
	switch t.Operator {
	case resourcev1.DeviceTolerationOpExists:
		return true
	case resourcev1.DeviceTolerationOpEqual, "":
		return t.Key != "" && t.Value == taint.Value
	}
	return false
}

// Package devicetaint evicts pods from devices that have a NoExecute taint which their claims do not tolerate (KEP-5055), and tells in
// a DeviceTaintRule's status how far that is.
//
// A taint is put on a device by its driver, in a ResourceSlice, or by a DeviceTaintRule. A pod must go as soon as any device of any
// claim that is reserved for it has a taint for longer than the claim tolerates it; the taint's timeAdded is when that begins. Tainted
// devices that nobody has are the scheduler's matter.
package devicetaint

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
	"bareboat.dev/controllermanager/resourceclaim"
)

// View is what the fate of pods depends on.
type View struct {
	// Claim returns one by namespace and name, nil if there is none.
	Claim func(namespace, name string) *resourcev1.ResourceClaim
	// Device returns a device as its driver publishes it now, nil if it does not.
	Device func(driver, pool, name string) *resourcev1.Device
	Rules  []*resourcev1.DeviceTaintRule
}

// ReconcilePod plans the deletion of a pod whose time on a tainted device is over, or when to look again.
func ReconcilePod(pod *corev1.Pod, v View, now time.Time) plan.Plan {
	var p plan.Plan
	at, must := v.evictionTime(pod, nil)
	switch {
	case !must:
	case at.After(now):
		p.LookAgain(now, at)
	default:
		if pods.Evict(&p, pod, "DeletionByDeviceTaintManager", "Device Taint manager: deleting due to NoExecute taint", now) {
			p.EventOf(pod, pod, corev1.EventTypeNormal, "DeviceTaintManagerEviction", "Marking for deletion")
		}
	}
	return p
}

// evictionTime is when a pod must go; must is false if it may stay. With only, nothing counts but that rule, and it counts as
// NoExecute whatever its effect is.
func (v View) evictionTime(pod *corev1.Pod, only *resourcev1.DeviceTaintRule) (at time.Time, must bool) {
	if pod.Spec.NodeName == "" || !pods.Active(pod) {
		return at, false
	}
	for i := range pod.Spec.ResourceClaims {
		name := resourceclaim.ClaimName(pod, &pod.Spec.ResourceClaims[i])
		if name == "" {
			continue
		}
		claim := v.Claim(pod.Namespace, name)
		if claim == nil || claim.Status.Allocation == nil || !reservedFor(claim, pod) {
			continue
		}
		for j := range claim.Status.Allocation.Devices.Results {
			for _, end := range v.ends(&claim.Status.Allocation.Devices.Results[j], only) {
				if !must || end.Before(at) {
					at, must = end, true
				}
			}
		}
	}
	return at, must
}

func reservedFor(claim *resourcev1.ResourceClaim, pod *corev1.Pod) bool {
	for _, ref := range claim.Status.ReservedFor {
		if ref.APIGroup == "" && ref.Resource == "pods" && ref.UID == pod.UID {
			return true
		}
	}
	return false
}

// ends are the times until which the taints of an allocated device are tolerated, but for those that are for ever.
func (v View) ends(r *resourcev1.DeviceRequestAllocationResult, only *resourcev1.DeviceTaintRule) (times []time.Time) {
	add := func(taint *resourcev1.DeviceTaint) {
		if taint.Effect != resourcev1.DeviceTaintEffectNoExecute {
			return
		}
		if end, ends := tolerated(r.Tolerations, taint); ends {
			times = append(times, end)
		}
	}
	if only != nil {
		if selects(only, r.Driver, r.Pool, r.Device) {
			taint := only.Spec.Taint
			taint.Effect = resourcev1.DeviceTaintEffectNoExecute
			add(&taint)
		}
		return times
	}
	if d := v.Device(r.Driver, r.Pool, r.Device); d != nil {
		for i := range d.Taints {
			add(&d.Taints[i])
		}
	}
	for _, rule := range v.Rules {
		if selects(rule, r.Driver, r.Pool, r.Device) {
			add(&rule.Spec.Taint)
		}
	}
	return times
}

// tolerated is until when a taint is tolerated; ends is false for ever. Of several tolerations with seconds the shortest counts.
func tolerated(tolerations []resourcev1.DeviceToleration, taint *resourcev1.DeviceTaint) (end time.Time, ends bool) {
	seconds := int64(-1)
	for i := range tolerations {
		t := &tolerations[i]
		if !matches(t, taint) {
			continue
		}
		if t.TolerationSeconds == nil {
			return end, false
		}
		if s := max(*t.TolerationSeconds, 0); seconds < 0 || s < seconds {
			seconds = s
		}
	}
	if taint.TimeAdded != nil {
		end = taint.TimeAdded.Time
	}
	return end.Add(time.Duration(max(seconds, 0)) * time.Second), true
}

func matches(t *resourcev1.DeviceToleration, taint *resourcev1.DeviceTaint) bool {
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

// selects tells whether a rule is about a device: without a selector about none, and whatever the selector leaves out is any.
func selects(rule *resourcev1.DeviceTaintRule, driver, pool, device string) bool {
	fits := func(want *string, is string) bool { return want == nil || *want == is }
	s := rule.Spec.DeviceSelector
	return s != nil && fits(s.Driver, driver) && fits(s.Pool, pool) && fits(s.Device, device)
}

package resource

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

func checkDevice(e *check.Errors, d, old *resourcev1.Device, perDevice bool, at *field.Path) {
	e.Label(at.Child("name"), d.Name)
	if n := len(d.Attributes) + len(d.Capacity); n > maxEach {
		e.Invalid(at, n, fmt.Sprintf("the total number of attributes and capacities must not exceed %d", maxEach))
	}
	const longest = maxDomain + 1 + maxID
	for _, key := range slices.Sorted(maps.Keys(d.Attributes)) {
		here := at.Child("attributes").Key(shortKey(string(key), longest))
		checkQualified(e, string(key), at.Child("attributes"))
		checkAttribute(e, d.Attributes[key], here)
	}
	shared := d.AllowMultipleAllocations != nil && *d.AllowMultipleAllocations
	for _, key := range slices.Sorted(maps.Keys(d.Capacity)) {
		here := at.Child("capacity").Key(shortKey(string(key), longest))
		checkQualified(e, string(key), at.Child("capacity"))
		switch policy := d.Capacity[key].RequestPolicy; {
		case policy == nil:
		case shared:
			checkPolicy(e, policy, d.Capacity[key].Value, here.Child("requestPolicy"))
		default:
			e.Forbidden(here.Child("requestPolicy"), "allowMultipleAllocations must be true")
		}
	}
	if old == nil || !equality.Semantic.DeepEqual(old.Taints, d.Taints) {
		checkList(e, d.Taints, resourcev1.DeviceTaintsMaxLength, at.Child("taints"), func(t *resourcev1.DeviceTaint, at *field.Path) { checkTaint(e, t, "", at) })
	}
	checkSet(e, d.ConsumesCounters, resourcev1.ResourceSliceMaxDeviceCounterConsumptionsPerDevice, at.Child("consumesCounters"),
		func(c *resourcev1.DeviceCounterConsumption) string { return c.CounterSet },
		func(c *resourcev1.DeviceCounterConsumption, at *field.Path) {
			e.RequiredLabel(at.Child("counterSet"), c.CounterSet)
			checkCounters(e, c.Counters, resourcev1.ResourceSliceMaxCountersPerDeviceCounterConsumption, at.Child("counters"))
		})
	checkDevicePlace(e, d, perDevice, at)
	checkBinding(e, d.BindingConditions, d.BindingFailureConditions, at)
}

// checkDevicePlace: a device says where it is if and only if the slice leaves it to the devices.
func checkDevicePlace(e *check.Errors, d *resourcev1.Device, perDevice bool, at *field.Path) {
	if !perDevice {
		if d.NodeName != nil || d.NodeSelector != nil || d.AllNodes != nil {
			e.Invalid(at, nil, "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec")
		}
		return
	}
	var set places
	if d.NodeName != nil {
		if *d.NodeName == "" {
			e.Invalid(at.Child("nodeName"), *d.NodeName, "must not be empty")
		} else {
			set = append(set, "`nodeName`")
			e.Name(at.Child("nodeName"), *d.NodeName, apivalidation.NameIsDNSSubdomain)
		}
	}
	if d.NodeSelector != nil {
		set = append(set, "`nodeSelector`")
		podspec.ValidateNodeSelector(e, d.NodeSelector, at.Child("nodeSelector"))
	}
	set.truth(e, d.AllNodes, "allNodes", at)
	const one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
	switch len(set) {
	case 0:
		e.Required(at, one)
	case 1:
	default:
		e.Invalid(at, set.String(), one)
	}
}

func checkCounters(e *check.Errors, counters map[string]resourcev1.Counter, most int, at *field.Path) {
	switch {
	case len(counters) == 0:
		e.Required(at, "")
		return
	case len(counters) > most:
		e.Add(field.TooMany(at, len(counters), most))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(counters)) {
		e.Label(at, name)
	}
}

// semantic is a version as semver.org has it.
var semantic = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?` +
	`(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$`)

// checkAttribute: one value, of one type.
func checkAttribute(e *check.Errors, a resourcev1.DeviceAttribute, at *field.Path) {
	text := func(s string, at *field.Path) {
		if len(s) > resourcev1.DeviceAttributeMaxValueLength {
			e.Add(field.TooLong(at, "", resourcev1.DeviceAttributeMaxValueLength))
		}
	}
	ver := func(s string, at *field.Path) {
		if !semantic.MatchString(s) {
			e.Invalid(at, s, "must be a string compatible with semver.org spec 2.0.0")
		}
		text(s, at)
	}
	if a.StringValue != nil {
		text(*a.StringValue, at.Child("string"))
	}
	if a.VersionValue != nil {
		ver(*a.VersionValue, at.Child("version"))
	}
	for i, s := range a.StringValues {
		text(s, at.Child("strings").Index(i))
	}
	for i, s := range a.VersionValues {
		ver(s, at.Child("versions").Index(i))
	}
	set := 0
	for _, is := range []bool{
		a.IntValue != nil, a.BoolValue != nil, a.StringValue != nil, a.VersionValue != nil,
		a.IntValues != nil, a.BoolValues != nil, a.StringValues != nil, a.VersionValues != nil,
	} {
		if is {
			set++
		}
	}
	switch set {
	case 0:
		e.Invalid(at, "", "exactly one value must be specified")
	case 1:
	default:
		e.Invalid(at, a, "exactly one value must be specified")
	}
}

// maxValidValues is how many amounts a policy may list.
const maxValidValues = 10

func checkPolicy(e *check.Errors, p *resourcev1.CapacityRequestPolicy, whole resource.Quantity, at *field.Path) {
	switch {
	case len(p.ValidValues) > 0 && p.ValidRange != nil:
		e.Forbidden(at, `exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time`)
	case len(p.ValidValues) > 0 && p.Default == nil:
		e.Required(at.Child("default"), "required when validValues is defined")
	case len(p.ValidValues) > 0:
		checkValues(e, p, whole, at.Child("validValues"))
	case p.ValidRange != nil && p.Default == nil:
		e.Required(at.Child("default"), "required when validRange is defined")
	case p.ValidRange != nil:
		checkRange(e, p, whole, at.Child("validRange"))
	}
}

func checkValues(e *check.Errors, p *resourcev1.CapacityRequestPolicy, whole resource.Quantity, at *field.Path) {
	for i := 1; i < len(p.ValidValues); i++ {
		if p.ValidValues[i-1].Cmp(p.ValidValues[i]) > 0 {
			e.Invalid(at.Index(i), p.ValidValues[i].String(), "values must be sorted in ascending order")
		}
	}
	found := false
	checkSet(e, p.ValidValues, maxValidValues, at,
		func(q *resource.Quantity) string { return fmt.Sprint(q.Value()) },
		func(q *resource.Quantity, at *field.Path) {
			if q.Cmp(whole) > 0 {
				e.Invalid(at, q.String(), "option is larger than capacity value: "+whole.String())
			}
			found = found || q.Cmp(*p.Default) == 0
		})
	if !found {
		e.Invalid(at, p.Default.String(), "default value is not valid according to the requestPolicy")
	}
}

func checkRange(e *check.Errors, p *resourcev1.CapacityRequestPolicy, whole resource.Quantity, at *field.Path) {
	r, usual := p.ValidRange, *p.Default
	if r.Min == nil {
		e.Required(at.Child("min"), "required when validRange is defined")
		return
	}
	if r.Min.Cmp(whole) > 0 {
		e.Invalid(at.Child("min"), r.Min.String(), "min is larger than capacity value: "+whole.String())
	}
	if usual.Cmp(*r.Min) < 0 {
		e.Invalid(at.Child("min"), usual.String(), "default is less than min: "+r.Min.String())
	}
	if r.Max != nil {
		if r.Min.Cmp(*r.Max) > 0 {
			e.Invalid(at.Child("max"), r.Min.String(), "min is larger than max: "+r.Max.String())
		}
		if r.Max.Cmp(whole) > 0 {
			e.Invalid(at.Child("max"), r.Max.String(), "max is larger than capacity value: "+whole.String())
		}
		if usual.Cmp(*r.Max) > 0 {
			e.Invalid(at.Child("max"), usual.String(), "default is more than max: "+r.Max.String())
		}
	}
	if r.Step == nil {
		return
	}
	next := r.Min.DeepCopy()
	next.Add(*r.Step)
	if next.Cmp(whole) > 0 {
		e.Invalid(at.Child("step"), r.Step.String(), fmt.Sprintf("one step %s is larger than capacity value: %s", next.String(), whole.String()))
	}
	step := func(q resource.Quantity) {
		if n := r.Step.Value(); n == 0 || (q.Value()-r.Min.Value())%n != 0 {
			e.Invalid(at.Child("step"), q.String(), fmt.Sprintf("value is not a multiple of a given step (%s) from (%s)", r.Step.String(), r.Min.String()))
		}
	}
	step(usual)
	if r.Max != nil {
		step(*r.Max)
	}
}

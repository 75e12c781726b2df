package resource

import (
	"encoding/json"
	"fmt"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

// names are a claim's requests, each with the names of its alternatives.
type names map[string]map[string]bool

func requestNames(d *resourcev1.DeviceClaim) names {
	n := names{}
	for _, r := range d.Requests {
		n[r.Name] = map[string]bool{}
		for _, sub := range r.FirstAvailable {
			n[r.Name][sub.Name] = true
		}
	}
	return n
}

// has reports whether there is a request "name", or an alternative "name/alternative".
func (n names) has(ref string) bool {
	name, sub, nested := strings.Cut(ref, "/")
	alternatives, ok := n[name]
	return ok && (!nested || alternatives[sub])
}

func (n names) check(e *check.Errors, ref string, at *field.Path) {
	const unknown = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
	segments := strings.Split(ref, "/")
	if len(segments) > 2 {
		e.Invalid(at, ref, unknown)
		return
	}
	for _, s := range segments {
		e.Label(at, s)
	}
	if !n.has(ref) {
		e.Invalid(at, ref, unknown)
	}
}

func (n names) checkAll(e *check.Errors, refs []string, at *field.Path) {
	checkSet(e, refs, resourcev1.DeviceRequestsMaxSize, at, self, func(ref *string, at *field.Path) { n.check(e, *ref, at) })
}

func (r *rules) checkDevices(e *check.Errors, d *resourcev1.DeviceClaim, at *field.Path) {
	n := requestNames(d)
	checkSet(e, d.Requests, resourcev1.DeviceRequestsMaxSize, at.Child("requests"),
		func(q *resourcev1.DeviceRequest) string { return q.Name },
		func(q *resourcev1.DeviceRequest, at *field.Path) { r.checkRequest(e, q, at) })
	checkList(e, d.Constraints, resourcev1.DeviceConstraintsMaxSize, at.Child("constraints"), func(c *resourcev1.DeviceConstraint, at *field.Path) {
		n.checkAll(e, c.Requests, at.Child("requests"))
		switch {
		case c.MatchAttribute != nil:
			checkFullyQualified(e, string(*c.MatchAttribute), at.Child("matchAttribute"))
		case c.DistinctAttribute != nil:
			checkFullyQualified(e, string(*c.DistinctAttribute), at.Child("distinctAttribute"))
		default:
			e.Required(at, `exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set`)
		}
	})
	checkList(e, d.Config, resourcev1.DeviceConfigMaxSize, at.Child("config"), func(c *resourcev1.DeviceClaimConfiguration, at *field.Path) {
		n.checkAll(e, c.Requests, at.Child("requests"))
		checkConfiguration(e, c.DeviceConfiguration, at)
	})
}

func (r *rules) checkRequest(e *check.Errors, q *resourcev1.DeviceRequest, at *field.Path) {
	e.Label(at.Child("name"), q.Name)
	switch alternatives := len(q.FirstAvailable) > 0; {
	case !alternatives && q.Exactly == nil:
		e.Required(at, "exactly one of `exactly` or `firstAvailable` is required")
	case alternatives && q.Exactly != nil:
		e.Invalid(at, nil, "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set")
	case alternatives:
		checkSet(e, q.FirstAvailable, resourcev1.FirstAvailableDeviceRequestMaxSize, at.Child("firstAvailable"),
			func(s *resourcev1.DeviceSubRequest) string { return s.Name },
			func(s *resourcev1.DeviceSubRequest, at *field.Path) {
				e.Label(at.Child("name"), s.Name)
				r.checkWanted(e, wanted{s.DeviceClassName, s.Selectors, s.AllocationMode, s.Count, s.Tolerations}, at)
			})
	default:
		x := q.Exactly
		r.checkWanted(e, wanted{x.DeviceClassName, x.Selectors, x.AllocationMode, x.Count, x.Tolerations}, at.Child("exactly"))
	}
}

// wanted is what both forms of a request say of devices.
type wanted struct {
	class       string
	selectors   []resourcev1.DeviceSelector
	mode        resourcev1.DeviceAllocationMode
	count       int64
	tolerations []resourcev1.DeviceToleration
}

func (r *rules) checkWanted(e *check.Errors, w wanted, at *field.Path) {
	if e.Present(at.Child("deviceClassName"), w.class) {
		e.Subdomain(at.Child("deviceClassName"), w.class)
	}
	r.checkSelectors(e, w.selectors, at.Child("selectors"))
	switch w.mode {
	case resourcev1.DeviceAllocationModeAll:
		if w.count != 0 {
			e.Invalid(at.Child("count"), w.count, fmt.Sprintf("must not be specified when allocationMode is '%s'", w.mode))
		}
	case resourcev1.DeviceAllocationModeExactCount:
		if w.count <= 0 {
			e.Invalid(at.Child("count"), w.count, check.NotPositive)
		}
	default:
		check.Supported(e, at.Child("allocationMode"), w.mode, resourcev1.DeviceAllocationModeAll, resourcev1.DeviceAllocationModeExactCount)
	}
	checkList(e, w.tolerations, -1, at.Child("tolerations"), func(t *resourcev1.DeviceToleration, at *field.Path) { checkToleration(e, t, at) })
}

func (r *rules) checkSelectors(e *check.Errors, list []resourcev1.DeviceSelector, at *field.Path) {
	checkList(e, list, resourcev1.DeviceSelectorsMaxSize, at, func(s *resourcev1.DeviceSelector, at *field.Path) {
		if s.CEL == nil {
			e.Required(at.Child("cel"), "")
		} else {
			r.checkExpression(e, s.CEL.Expression, at.Child("cel", "expression"))
		}
	})
}

func checkConfiguration(e *check.Errors, c resourcev1.DeviceConfiguration, at *field.Path) {
	if c.Opaque == nil {
		e.Required(at.Child("opaque"), "")
		return
	}
	checkDriver(e, c.Opaque.Driver, at.Child("opaque", "driver"))
	checkParameters(e, c.Opaque.Parameters.Raw, resourcev1.OpaqueParametersMaxLength, at.Child("opaque", "parameters"))
}

// checkParameters: a JSON object that is not too long.
func checkParameters(e *check.Errors, raw []byte, most int, at *field.Path) {
	var v any
	switch err := json.Unmarshal(raw, &v); {
	case len(raw) == 0:
		e.Required(at, "")
	case len(raw) > most:
		e.Add(field.TooLong(at, "", most))
	case err != nil:
		e.Invalid(at, "<value omitted>", fmt.Sprintf("error parsing data as JSON: %v", err))
	case v == nil:
		e.Required(at, "")
	default:
		if _, object := v.(map[string]any); !object {
			e.Invalid(at, "<value omitted>", "must be a valid JSON object")
		}
	}
}

func checkToleration(e *check.Errors, t *resourcev1.DeviceToleration, at *field.Path) {
	if t.Key != "" {
		e.LabelName(at.Child("key"), t.Key)
	}
	switch t.Operator {
	case resourcev1.DeviceTolerationOpExists:
		if t.Value != "" {
			e.Invalid(at.Child("value"), t.Value, "must be empty for operator `Exists`")
		}
	case resourcev1.DeviceTolerationOpEqual:
		e.Each(at.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))
	default:
		check.OneOf(e, at.Child("operator"), t.Operator, resourcev1.DeviceTolerationOpEqual, resourcev1.DeviceTolerationOpExists)
	}
	if t.Effect != "" {
		checkEffect(e, t.Effect, at.Child("effect"))
	}
}

func checkEffect(e *check.Errors, effect resourcev1.DeviceTaintEffect, at *field.Path) {
	check.OneOf(e, at, effect, resourcev1.DeviceTaintEffectNoExecute, resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNone)
}

func (r *rules) checkAllocation(e *check.Errors, a *resourcev1.AllocationResult, n names, at *field.Path) {
	devices := at.Child("devices")
	checkList(e, a.Devices.Results, resourcev1.AllocationResultsMaxSize, devices.Child("results"), func(d *resourcev1.DeviceRequestAllocationResult, at *field.Path) {
		n.check(e, d.Request, at.Child("request"))
		checkDriver(e, d.Driver, at.Child("driver"))
		checkPool(e, d.Pool, at.Child("pool"))
		e.Label(at.Child("device"), d.Device)
		checkBinding(e, d.BindingConditions, d.BindingFailureConditions, at)
		if d.ShareID != nil {
			checkUUID(e, string(*d.ShareID), at.Child("shareID"))
		}
	})
	// What the class says and what the claim says.
	checkList(e, a.Devices.Config, 2*resourcev1.DeviceConfigMaxSize, devices.Child("config"), func(c *resourcev1.DeviceAllocationConfiguration, at *field.Path) {
		check.OneOf(e, at.Child("source"), c.Source, resourcev1.AllocationConfigSourceClaim, resourcev1.AllocationConfigSourceClass)
		n.checkAll(e, c.Requests, at.Child("requests"))
		checkConfiguration(e, c.DeviceConfiguration, at)
	})
	if a.NodeSelector != nil {
		podspec.ValidateNodeSelector(e, a.NodeSelector, at.Child("nodeSelector"))
	}
}

// checkBinding: conditions for a pod to be bound, and those that say that it never can be, come together.
func checkBinding(e *check.Errors, conditions, failures []string, at *field.Path) {
	name := func(s *string, at *field.Path) { e.LabelName(at, *s) }
	checkSet(e, conditions, resourcev1.BindingConditionsMaxSize, at.Child("bindingConditions"), self, name)
	checkSet(e, failures, resourcev1.BindingFailureConditionsMaxSize, at.Child("bindingFailureConditions"), self, name)
	for i, f := range failures {
		for _, c := range conditions {
			if c == f {
				e.Invalid(at.Child("bindingFailureConditions").Index(i), f, "bindingFailureConditions must not overlap with bindingConditions")
			}
		}
	}
	if len(conditions) == 0 && len(failures) > 0 {
		e.Invalid(at.Child("bindingConditions"), conditions, "bindingConditions are required to use bindingFailureConditions")
	}
	if len(failures) == 0 && len(conditions) > 0 {
		e.Invalid(at.Child("bindingFailureConditions"), failures, "bindingFailureConditions are required to use bindingConditions")
	}
}

func checkNetwork(e *check.Errors, n *resourcev1.NetworkDeviceData, at *field.Path) {
	if len(n.InterfaceName) > resourcev1.NetworkDeviceDataInterfaceNameMaxLength {
		e.Add(field.TooLong(at.Child("interfaceName"), "", resourcev1.NetworkDeviceDataInterfaceNameMaxLength))
	}
	if len(n.HardwareAddress) > resourcev1.NetworkDeviceDataHardwareAddressMaxLength {
		e.Add(field.TooLong(at.Child("hardwareAddress"), "", resourcev1.NetworkDeviceDataHardwareAddressMaxLength))
	}
	checkSet(e, n.IPs, resourcev1.NetworkDeviceDataMaxIPs, at.Child("ips"), self, func(ip *string, at *field.Path) {
		e.Add(validation.IsValidInterfaceAddress(at, *ip)...)
	})
}

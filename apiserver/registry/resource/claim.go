package resource

import (
	"slices"
	"strings"
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

type claim = *resourcev1.ResourceClaim

func (r *rules) claims() *registry.Resource {
	status := registry.StatusSubresource(func(c, body claim) { c.Status = body.Status }, r.checkClaimStatus)
	take := status.Apply
	status.Apply = func(old registry.Object, body runtime.Object, now time.Time) (registry.Object, error) {
		obj, err := take(old, body, now)
		if err == nil {
			dropReturned(&obj.(claim).Status, &old.(claim).Status)
		}
		return obj, err
	}
	return &registry.Resource{
		Kind: kind("ResourceClaim"), Plural: "resourceclaims", Singular: "resourceclaim",
		Namespaced: true, KeyPrefix: "/registry/resourceclaims/",
		New:     func() registry.Object { return &resourcev1.ResourceClaim{} },
		NewList: func() runtime.Object { return &resourcev1.ResourceClaimList{} },
		Strategy: registry.Strategy{
			Default:       registry.On(func(c claim) { defaultClaim(&c.Spec); defaultAllocation(c.Status.Allocation) }),
			PrepareCreate: registry.On(func(c claim) { c.Status = resourcev1.ResourceClaimStatus{} }),
			PrepareUpdate: registry.OnChange(func(c, old claim) { c.Status = old.Status }),
			Validate:      registry.Checks(func(e *check.Errors, c claim) { r.checkDevices(e, &c.Spec.Devices, field.NewPath("spec", "devices")) }),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, c, old claim) {
				e.Immutable(field.NewPath("spec"), c.Spec, old.Spec)
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,

			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("State", "A summary of the current state (allocated, pending, reserved, etc.).", claimState),
			registry.AgeColumn(),
		},
		Subresources: map[string]registry.Subresource{"status": status},
	}
}

// checkTemplate: a claim, and labels and annotations for it and nothing else of its metadata.
func (r *rules) checkTemplate(e *check.Errors, t *resourcev1.ResourceClaimTemplate) {
	meta := field.NewPath("spec", "metadata")
	e.Annotations(meta.Child("annotations"), t.Spec.Annotations)
	e.Labels(meta.Child("labels"), t.Spec.Labels)
	podspec.ForbidOtherMeta(e, &t.Spec.ObjectMeta, meta)
	r.checkDevices(e, &t.Spec.Spec.Devices, field.NewPath("spec", "spec", "devices"))
}

func (r *rules) templates() *registry.Resource {
	type template = *resourcev1.ResourceClaimTemplate
	return &registry.Resource{
		Kind: kind("ResourceClaimTemplate"), Plural: "resourceclaimtemplates", Singular: "resourceclaimtemplate",
		Namespaced: true, KeyPrefix: "/registry/resourceclaimtemplates/",
		New:     func() registry.Object { return &resourcev1.ResourceClaimTemplate{} },
		NewList: func() runtime.Object { return &resourcev1.ResourceClaimTemplateList{} },
		Strategy: registry.Strategy{
			Default:  registry.On(func(t template) { defaultClaim(&t.Spec.Spec) }),
			Validate: registry.Checks(r.checkTemplate),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, t, old template) {
				if !equality.Semantic.DeepEqual(t.Spec, old.Spec) {
					r.checkTemplate(e, t)
				}
				e.Immutable(field.NewPath("spec"), t.Spec, old.Spec)
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,

			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{registry.NameColumn(), registry.AgeColumn()},
	}
}

func claimState(c claim) string {
	var states []string
	deleted := c.DeletionTimestamp != nil
	if deleted {
		states = append(states, "deleted")
	}
	if c.Status.Allocation != nil {
		states = append(states, "allocated")
		if len(c.Status.ReservedFor) > 0 {
			states = append(states, "reserved")
		}
	} else if !deleted {
		states = append(states, "pending")
	}
	return strings.Join(states, ",")
}

func defaultClaim(s *resourcev1.ResourceClaimSpec) {
	mode := func(mode *resourcev1.DeviceAllocationMode, count *int64) {
		if *mode == "" {
			*mode = resourcev1.DeviceAllocationModeExactCount
		}
		if *mode == resourcev1.DeviceAllocationModeExactCount && *count == 0 {
			*count = 1
		}
	}
	for i := range s.Devices.Requests {
		r := &s.Devices.Requests[i]
		if x := r.Exactly; x != nil {
			mode(&x.AllocationMode, &x.Count)
			defaultTolerations(x.Tolerations)
		}
		for j := range r.FirstAvailable {
			sub := &r.FirstAvailable[j]
			mode(&sub.AllocationMode, &sub.Count)
			defaultTolerations(sub.Tolerations)
		}
	}
}

func defaultAllocation(a *resourcev1.AllocationResult) {
	if a == nil {
		return
	}
	for i := range a.Devices.Results {
		defaultTolerations(a.Devices.Results[i].Tolerations)
	}
}

func defaultTolerations(list []resourcev1.DeviceToleration) {
	for i := range list {
		if list[i].Operator == "" {
			list[i].Operator = resourcev1.DeviceTolerationOpEqual
		}
	}
}

// device names an allocated device.
type device struct{ Driver, Pool, Device, Share string }

func (d device) String() string {
	name := d.Driver + "/" + d.Pool + "/" + d.Device
	if d.Share != "" {
		name += "/" + d.Share
	}
	return name
}

func allocated(s *resourcev1.ResourceClaimStatus) map[device]bool {
	given := map[device]bool{}
	if s.Allocation == nil {
		return given
	}
	for _, r := range s.Allocation.Devices.Results {
		d := device{r.Driver, r.Pool, r.Device, ""}
		if r.ShareID != nil {
			d.Share = string(*r.ShareID)
		}
		given[d] = true
	}
	return given
}

func deviceOf(s *resourcev1.AllocatedDeviceStatus) device {
	d := device{s.Driver, s.Pool, s.Device, ""}
	if s.ShareID != nil {
		d.Share = *s.ShareID
	}
	return d
}

// dropReturned takes out the state of devices that were given back with this change: who gives back need not know of it.
func dropReturned(s, old *resourcev1.ResourceClaimStatus) {
	had, has := allocated(old), allocated(s)
	s.Devices = slices.DeleteFunc(s.Devices, func(d resourcev1.AllocatedDeviceStatus) bool {
		of := deviceOf(&d)
		return had[of] && !has[of]
	})
	if len(s.Devices) == 0 {
		s.Devices = nil
	}
}

func (r *rules) checkClaimStatus(e *check.Errors, c, old claim) {
	s, was, at := &c.Status, &old.Status, field.NewPath("status")
	names := requestNames(&c.Spec.Devices)
	reserved := at.Child("reservedFor")
	checkSet(e, s.ReservedFor, resourcev1.ResourceClaimReservedForMaxSize, reserved,
		func(ref *resourcev1.ResourceClaimConsumerReference) string { return string(ref.UID) },
		func(ref *resourcev1.ResourceClaimConsumerReference, at *field.Path) {
			e.Present(at.Child("resource"), ref.Resource)
			e.Present(at.Child("name"), ref.Name)
			e.Present(at.Child("uid"), string(ref.UID))
		})
	given := allocated(s)
	checkSet(e, s.Devices, -1, at.Child("devices"), deviceOf, func(d *resourcev1.AllocatedDeviceStatus, at *field.Path) {
		checkDeviceStatus(e, d, given, at)
	})
	if len(s.ReservedFor) > 0 && s.Allocation == nil {
		e.Forbidden(reserved, "may not be specified when `allocated` is not set")
	} else if c.DeletionTimestamp != nil && slices.ContainsFunc(s.ReservedFor, func(ref resourcev1.ResourceClaimConsumerReference) bool {
		return !slices.Contains(was.ReservedFor, ref)
	}) {
		e.Forbidden(reserved, "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set")
	}
	switch {
	case s.Allocation == nil:
	case was.Allocation == nil:
		r.checkAllocation(e, s.Allocation, names, at.Child("allocation"))
	case !equality.Semantic.DeepEqual(s.Allocation, was.Allocation):
		e.Immutable(at.Child("allocation"), s.Allocation, was.Allocation)
	}
}

func checkDeviceStatus(e *check.Errors, d *resourcev1.AllocatedDeviceStatus, given map[device]bool, at *field.Path) {
	checkDriver(e, d.Driver, at.Child("driver"))
	checkPool(e, d.Pool, at.Child("pool"))
	e.Label(at.Child("device"), d.Device)
	if d.ShareID != nil {
		checkUUID(e, *d.ShareID, at.Child("shareID"))
	}
	if of := deviceOf(d); !given[of] {
		e.Invalid(at, of.String(), "must be an allocated device in the claim")
	}
	if len(d.Conditions) > resourcev1.AllocatedDeviceStatusMaxConditions {
		e.Add(field.TooMany(at.Child("conditions"), len(d.Conditions), resourcev1.AllocatedDeviceStatusMaxConditions))
	}
	e.Add(metavalidation.ValidateConditions(d.Conditions, at.Child("conditions"))...)
	if d.Data != nil && len(d.Data.Raw) > 0 {
		checkParameters(e, d.Data.Raw, resourcev1.AllocatedDeviceStatusDataMaxLength, at.Child("data"))
	}
	if d.NetworkData != nil {
		checkNetwork(e, d.NetworkData, at.Child("networkData"))
	}
}

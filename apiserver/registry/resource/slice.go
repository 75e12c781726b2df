package resource

import (
	"fmt"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

type slice = *resourcev1.ResourceSlice

func resourceSlices() *registry.Resource {
	doc := resourcev1.ResourceSliceSpec{}.SwaggerDoc()
	node := func(s slice) string {
		if s.Spec.NodeName == nil {
			return ""
		}
		return *s.Spec.NodeName
	}
	return &registry.Resource{
		Kind: kind("ResourceSlice"), Plural: "resourceslices", Singular: "resourceslice",
		KeyPrefix: "/registry/resourceslices/",
		New:       func() registry.Object { return &resourcev1.ResourceSlice{} },
		NewList:   func() runtime.Object { return &resourcev1.ResourceSliceList{} },
		Strategy: registry.Strategy{
			Validate: registry.Checks(func(e *check.Errors, s slice) { checkSlice(e, s, nil) }),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, s, old slice) {
				checkSlice(e, s, &old.Spec)
				at := field.NewPath("spec")
				e.Immutable(at.Child("pool", "name"), s.Spec.Pool.Name, old.Spec.Pool.Name)
				e.Immutable(at.Child("driver"), s.Spec.Driver, old.Spec.Driver)
				e.Immutable(at.Child("nodeName"), s.Spec.NodeName, old.Spec.NodeName)
			}),
			// A taint begins when it is put on.
			PrepareCreate: registry.On(func(s slice) {
				dropAlpha(&s.Spec)
				for i := range s.Spec.Devices {
					stampTaints(s.Spec.Devices[i].Taints, s.CreationTimestamp)
				}
			}),
			PrepareUpdate: registry.OnChange(func(s, _ slice) { dropAlpha(&s.Spec) }),
			ValidateName:  apivalidation.NameIsDNSSubdomain,
			Warnings: registry.Warns(func(s slice) []string {
				if s.Spec.Driver == strings.ToLower(s.Spec.Driver) {
					return nil
				}
				return []string{fmt.Sprintf("spec.driver: driver names should be lowercase; %q contains uppercase characters", s.Spec.Driver)}
			}),
			SpecChanged: registry.Differs(func(s, old slice) bool { return !equality.Semantic.DeepEqual(s.Spec, old.Spec) }),

			AllowUnconditionalUpdate: true,
		},
		Fields: map[string]func(registry.Object) string{
			resourcev1.ResourceSliceSelectorNodeName: registry.Field(node),
			resourcev1.ResourceSliceSelectorDriver:   registry.Field(func(s slice) string { return s.Spec.Driver }),
			resourcev1.ResourceSliceSelectorPoolName: registry.Field(func(s slice) string { return s.Spec.Pool.Name }),
		},
		UnknownField:  "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: %s",
		IndexedFields: []string{resourcev1.ResourceSliceSelectorNodeName},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("Node", doc["nodeName"], node),
			registry.Text("Driver", doc["driver"], func(s slice) string { return s.Spec.Driver }),
			registry.Text("Pool", resourcev1.ResourcePool{}.SwaggerDoc()["name"], func(s slice) string { return s.Spec.Pool.Name }),
			registry.AgeColumn(),
		},
	}
}

// dropAlpha takes out the fields whose feature gates are off by default in Kubernetes 1.37.
func dropAlpha(s *resourcev1.ResourceSliceSpec) {
	s.PartitionTypeAttribute, s.SkipNodeOperations = nil, nil
	for i := range s.Devices {
		for name, a := range s.Devices[i].Attributes {
			a.IntValues, a.BoolValues, a.StringValues, a.VersionValues = nil, nil, nil, nil
			s.Devices[i].Attributes[name] = a
		}
	}
}

func checkSlice(e *check.Errors, obj slice, old *resourcev1.ResourceSliceSpec) {
	s, at := &obj.Spec, field.NewPath("spec")
	checkDriver(e, s.Driver, at.Child("driver"))
	pool := at.Child("pool")
	checkPool(e, s.Pool.Name, pool.Child("name"))
	if s.Pool.ResourceSliceCount <= 0 {
		e.Invalid(pool.Child("resourceSliceCount"), s.Pool.ResourceSliceCount, check.NotPositive)
	}
	if s.Pool.Generation < 0 {
		e.Invalid(pool.Child("generation"), s.Pool.Generation, "must be greater than or equal to zero")
	}
	checkPlace(e, s, at)
	if s.SharedCounters != nil && s.Devices != nil {
		e.Invalid(at, "", "only one of `sharedCounters` or `devices` is allowed")
	}
	most := resourcev1.ResourceSliceMaxDevices
	before := map[string]*resourcev1.Device{}
	for i := range s.Devices {
		if d := &s.Devices[i]; len(d.Taints) > 0 || len(d.ConsumesCounters) > 0 {
			most = resourcev1.ResourceSliceMaxDevicesWithAdvancedFeatures
		}
	}
	if old != nil {
		for i := range old.Devices {
			before[old.Devices[i].Name] = &old.Devices[i]
		}
	}
	perDevice := s.PerDeviceNodeSelection != nil && *s.PerDeviceNodeSelection
	checkSet(e, s.Devices, most, at.Child("devices"),
		func(d *resourcev1.Device) string { return d.Name },
		func(d *resourcev1.Device, at *field.Path) { checkDevice(e, d, before[d.Name], perDevice, at) })
	checkSet(e, s.SharedCounters, resourcev1.ResourceSliceMaxCounterSets, at.Child("sharedCounters"),
		func(c *resourcev1.CounterSet) string { return c.Name },
		func(c *resourcev1.CounterSet, at *field.Path) {
			e.RequiredLabel(at.Child("name"), c.Name)
			checkCounters(e, c.Counters, resourcev1.ResourceSliceMaxCountersPerCounterSet, at.Child("counters"))
		})
}

// places collects by which of several fields something says where it is.
type places []string

// checkPlace: the slice says in one way from which nodes its devices can be used.
func checkPlace(e *check.Errors, s *resourcev1.ResourceSliceSpec, at *field.Path) {
	var set places
	if s.NodeName != nil {
		if *s.NodeName == "" {
			e.Invalid(at.Child("nodeName"), *s.NodeName, "must be either unset or set to a non-empty string")
		} else {
			set = append(set, "`nodeName`")
			e.Name(at.Child("nodeName"), *s.NodeName, apivalidation.NameIsDNSSubdomain)
		}
	}
	if s.NodeSelector != nil {
		set = append(set, "`nodeSelector`")
		podspec.ValidateNodeSelector(e, s.NodeSelector, at.Child("nodeSelector"))
		if len(s.NodeSelector.NodeSelectorTerms) != 1 {
			e.Invalid(at.Child("nodeSelector", "nodeSelectorTerms"), s.NodeSelector.NodeSelectorTerms, "must have exactly one node selector term")
		}
	}
	set.truth(e, s.AllNodes, "allNodes", at)
	set.truth(e, s.PerDeviceNodeSelection, "perDeviceNodeSelection", at)
	const one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
	switch len(set) {
	case 0:
		e.Required(at, one)
	case 1:
	default:
		e.Invalid(at, set.String(), one+", but multiple fields are set")
	}
}

func (p *places) truth(e *check.Errors, set *bool, name string, at *field.Path) {
	switch {
	case set == nil:
	case *set:
		*p = append(*p, "`"+name+"`")
	default:
		e.Invalid(at.Child(name), *set, "must be either unset or set to true")
	}
}

// String lists them.
func (p places) String() string { return fmt.Sprintf("{%s}", strings.Join(p, ", ")) }

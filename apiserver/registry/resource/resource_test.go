package resource_test

import (
	"strings"
	"testing"
	"time"

	resourcev1 "k8s.io/api/resource/v1"

	"bareboat.dev/apiserver/registry/kindtest"
	"bareboat.dev/apiserver/registry/resource"
)

const claim = `
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: c}
spec: {devices: {requests: [{name: r, exactly: {deviceClassName: gpu}}]}}
`

// Claims that kube-apiserver accepts and refuses, and why.
func TestClaim(t *testing.T) {
	r := kindtest.Kind(t, resource.Resources(), "ResourceClaim")
	spec := func(s string) string { return "spec: {devices: {" + s + "}}" }
	exactly := func(s string) string {
		return spec("requests: [{name: r, exactly: {deviceClassName: gpu, " + s + "}}]")
	}
	selector := func(s string) string { return exactly("selectors: [{cel: {expression: '" + s + "'}}]") }
	const at = "spec.devices.requests[0].exactly."
	kindtest.Create(t, r, claim, []kindtest.Case{
		{Name: "minimal"},
		{Name: "all", Edit: exactly("allocationMode: All")},
		{Name: "alternatives", Edit: spec("requests: [{name: r, firstAvailable: [{name: a, deviceClassName: x}, {name: b, deviceClassName: z}]}], constraints: [{requests: [r/a], matchAttribute: d.example.com/model}]")},
		{Name: "selector", Edit: selector(`device.driver == "d.example.com" && device.attributes["d.example.com"].model == "x" && device.capacity["d.example.com"].memory.compareTo(quantity("1Gi")) >= 0`)},
		{Name: "no selector", Edit: selector("1"), Want: []string{at + `selectors[0].cel.expression: Invalid value: "1": must evaluate to bool or the unknown type, not int`}},
		{Name: "nonsense", Edit: selector("device.odd"), Want: []string{at + `selectors[0].cel.expression: Invalid value: "device.odd": compilation failed: …`}},
		{Name: "long", Edit: selector(strings.Repeat("x", 10241)), Want: []string{at + "selectors[0].cel.expression: Too long: may not be more than 10240 bytes"}},
		{Name: "neither", Edit: spec("requests: [{name: R}]"), Want: []string{
			`spec.devices.requests[0].name: Invalid value: "R": a lowercase RFC 1123 label…`,
			"spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"}},
		{Name: "both", Edit: spec("requests: [{name: r, exactly: {deviceClassName: x}, firstAvailable: [{name: a, deviceClassName: x}]}]"), Want: []string{
			"spec.devices.requests[0]: Invalid value: null: exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"}},
		{Name: "counts", Edit: spec("requests: [{name: r, exactly: {deviceClassName: '', count: -1}}, {name: r, exactly: {deviceClassName: x, allocationMode: All, count: 1}}]"), Want: []string{
			at + "deviceClassName: Required value", at + "count: Invalid value: -1: must be greater than zero",
			"spec.devices.requests[1].exactly.count: Invalid value: 1: must not be specified when allocationMode is 'All'",
			`spec.devices.requests[1]: Duplicate value: "r"`}},
		{Name: "tolerations", Edit: exactly("tolerations: [{operator: Exists, value: v, effect: Odd}, {operator: Odd}]"), Want: []string{
			at + `tolerations[0].value: Invalid value: "v": must be empty for operator ` + "`Exists`",
			at + `tolerations[0].effect: Unsupported value: "Odd": supported values: "NoExecute", "NoSchedule", "None"`,
			at + `tolerations[1].operator: Unsupported value: "Odd": supported values: "Equal", "Exists"`}},
		{Name: "references", Edit: spec("requests: [{name: r, exactly: {deviceClassName: x}}], constraints: [{requests: [s, r/a, a/b/c], matchAttribute: model}], config: [{requests: [s]}]"), Want: []string{
			`spec.devices.constraints[0].requests[0]: Invalid value: "s": must be the name of a request in the claim…`,
			`spec.devices.constraints[0].requests[1]: Invalid value: "r/a": must be the name of a request in the claim…`,
			`spec.devices.constraints[0].requests[2]: Invalid value: "a/b/c": must be the name of a request in the claim…`,
			`spec.devices.constraints[0].matchAttribute: Invalid value: "model": a fully qualified name must be a domain and a name separated by a slash`,
			`spec.devices.config[0].requests[0]: Invalid value: "s": must be the name of a request in the claim…`,
			"spec.devices.config[0].opaque: Required value"}},
		{Name: "parameters", Edit: spec("config: [{opaque: {driver: 'A b', parameters: [1]}}]"), Want: []string{
			`spec.devices.config[0].opaque.driver: Invalid value: "A b": a lowercase RFC 1123 subdomain…`,
			`spec.devices.config[0].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object`}},
	})
	kindtest.Update(t, r, claim, []kindtest.Case{
		{Name: "labels", Edit: "metadata: {labels: {a: b}}"},
		{Name: "spec", Edit: exactly("count: 2"), Want: []string{"spec: Invalid value: {…"}},
	})
}

// An allocation is given once; what is reserved and reported refers to it, and reports go with what is given back.
func TestClaimStatus(t *testing.T) {
	r := kindtest.Kind(t, resource.Resources(), "ResourceClaim")
	obj, _ := kindtest.New(t, r, claim)
	pending, sub := obj.(*resourcev1.ResourceClaim), r.Subresources["status"]
	result := resourcev1.DeviceRequestAllocationResult{Request: "r", Driver: "d", Pool: "p", Device: "x"}
	given := pending.DeepCopy()
	given.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{result}}}
	given.Status.ReservedFor = []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: "p", UID: "1"}}
	given.Status.Devices = []resourcev1.AllocatedDeviceStatus{{Driver: "d", Pool: "p", Device: "x"}}
	if errs := sub.Validate(given, pending); len(errs) > 0 {
		t.Fatal(errs)
	}
	if got := r.Columns[1].Cell(given, time.Time{}) + " " + r.Columns[1].Cell(pending, time.Time{}); got != "allocated,reserved pending" {
		t.Errorf("states: %s", got)
	}
	returned := given.DeepCopy()
	returned.Status.Allocation, returned.Status.ReservedFor = nil, nil
	if out, err := sub.Apply(given, returned, time.Time{}); err != nil || len(out.(*resourcev1.ResourceClaim).Status.Devices) > 0 {
		t.Errorf("given back: %v %v", out, err)
	}
	for name, c := range map[string]struct {
		edit func(c *resourcev1.ResourceClaim)
		want string
	}{
		"other device": {func(c *resourcev1.ResourceClaim) { c.Status.Devices[0].Device = "y" }, `status.devices[0]: Invalid value: "d/p/y": must be an allocated device in the claim`},
		"reserved":     {func(c *resourcev1.ResourceClaim) { c.Status.Allocation, c.Status.Devices = nil, nil }, "status.reservedFor: Forbidden: may not be specified when `allocated` is not set"},
		"other request": {func(c *resourcev1.ResourceClaim) { c.Status.Allocation.Devices.Results[0].Request = "s" },
			`status.allocation.devices.results[0].request: Invalid value: "s": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'`},
	} {
		changed := given.DeepCopy()
		c.edit(changed)
		if errs := kindtest.Texts(sub.Validate(changed, pending)); len(errs) != 1 || errs[0] != c.want {
			t.Errorf("%s: %q", name, errs)
		}
	}
	moved := given.DeepCopy()
	moved.Status.Allocation.Devices.Results[0].Device = "y"
	moved.Status.Devices = nil
	if errs := sub.Validate(moved, given); len(errs) != 1 || errs[0].Field != "status.allocation" {
		t.Errorf("moved: %v", errs)
	}
}

// Templates are claims to be, with metadata of their own.
func TestTemplate(t *testing.T) {
	r := kindtest.Kind(t, resource.Resources(), "ResourceClaimTemplate")
	const base = "apiVersion: resource.k8s.io/v1\nkind: ResourceClaimTemplate\nmetadata: {name: t}\nspec: {spec: {devices: {requests: [{name: r, exactly: {deviceClassName: gpu}}]}}}\n"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "labels", Edit: "spec: {metadata: {labels: {'a b': c}}}", Want: []string{`spec.metadata.labels: Invalid value: "a b": name part must consist…`}},
		{Name: "a template has no name", Edit: "spec: {metadata: {name: x, uid: u1, finalizers: [a.b/c]}}", Want: []string{
			"spec.metadata.name: Forbidden: cannot be set", "spec.metadata.uID: Forbidden: cannot be set", "spec.metadata.finalizers: Forbidden: cannot be set"}},
		{Name: "spec", Edit: "spec: {spec: {devices: {requests: [{name: r}]}}}", Want: []string{
			"spec.spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{{Name: "spec", Edit: "spec: {metadata: {labels: {a: b}}}", Want: []string{"spec: Invalid value: {…"}}})
}

// Classes that kube-apiserver accepts and refuses, and why.
func TestClass(t *testing.T) {
	r := kindtest.Kind(t, resource.Resources(), "DeviceClass")
	const base = "apiVersion: resource.k8s.io/v1\nkind: DeviceClass\nmetadata: {name: gpu}\nspec: {selectors: [{cel: {expression: 'device.driver == \"d\"'}}]}\n"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "configuration", Edit: "spec: {config: [{opaque: {driver: d, parameters: {a: b}}}], extendedResourceName: example.com/gpu}"},
		{Name: "extended resource", Edit: "spec: {extendedResourceName: gpu}", Want: []string{`spec.extendedResourceName: Invalid value: "gpu": must be a valid extended resource name`}},
		{Name: "empty selector", Edit: "spec: {selectors: [{}]}", Want: []string{"spec.selectors[0].cel: Required value"}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{{Name: "anything", Edit: "spec: {selectors: [{cel: {expression: 'true'}}]}"}})
}

const slice = `
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: s}
spec:
  driver: d.example.com
  nodeName: node
  pool: {name: node, generation: 1, resourceSliceCount: 1}
  devices: [{name: x, attributes: {model: {string: a}}, capacity: {memory: {value: 1Gi}}}]
`

// Slices that kube-apiserver accepts and refuses, and why.
func TestSlice(t *testing.T) {
	r := kindtest.Kind(t, resource.Resources(), "ResourceSlice")
	device := func(s string) string { return "spec: {devices: [{name: x, " + s + "}]}" }
	const one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
	kindtest.Create(t, r, slice, []kindtest.Case{
		{Name: "minimal"},
		{Name: "policy", Edit: device("allowMultipleAllocations: true, capacity: {memory: {value: 8, requestPolicy: {default: 2, validRange: {min: 2, step: 2, max: 8}}}}")},
		{Name: "counters", Edit: "spec: {devices: null, sharedCounters: [{name: c, counters: {a: {value: 1}}}]}"},
		{Name: "nowhere", Edit: "spec: {nodeName: null}", Want: []string{"spec: Required value: " + one}},
		{Name: "everywhere", Edit: "spec: {allNodes: true}", Want: []string{"spec: Invalid value: \"{`nodeName`, `allNodes`}\": " + one + ", but multiple fields are set"}},
		{Name: "not everywhere", Edit: "spec: {allNodes: false}", Want: []string{"spec.allNodes: Invalid value: false: must be either unset or set to true"}},
		{Name: "pool", Edit: "spec: {driver: '', pool: {name: 'a//b', generation: -1, resourceSliceCount: 0}}", Want: []string{
			"spec.driver: Required value",
			`spec.pool.name: Invalid value: "": a lowercase RFC 1123 subdomain…`,
			"spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
			"spec.pool.generation: Invalid value: -1: must be greater than or equal to zero"}},
		{Name: "attributes", Edit: device("attributes: {'a b': {int: 1}, /m: {string: a, int: 1}, v: {version: '1'}, q: {}}"), Want: []string{
			"spec.devices[0].attributes: Invalid value: \"a b\": a valid C identifier…",
			`spec.devices[0].attributes: Invalid value: "": the domain must not be empty`,
			`spec.devices[0].attributes[/m]: Invalid value: {"int":1,"string":"a"}: exactly one value must be specified`,
			`spec.devices[0].attributes[v].version: Invalid value: "1": must be a string compatible with semver.org spec 2.0.0`,
			`spec.devices[0].attributes[q]: Invalid value: "": exactly one value must be specified`}},
		{Name: "policy of a device for one", Edit: device("capacity: {memory: {value: 8, requestPolicy: {default: 2}}}"), Want: []string{
			"spec.devices[0].capacity[memory].requestPolicy: Forbidden: allowMultipleAllocations must be true"}},
		{Name: "policy's values", Edit: device("allowMultipleAllocations: true, capacity: {memory: {value: 8, requestPolicy: {default: 3, validValues: [4, 2, 9]}}}"), Want: []string{
			`spec.devices[0].capacity[memory].requestPolicy.validValues[1]: Invalid value: "2": values must be sorted in ascending order`,
			`spec.devices[0].capacity[memory].requestPolicy.validValues[2]: Invalid value: "9": option is larger than capacity value: 8`,
			`spec.devices[0].capacity[memory].requestPolicy.validValues: Invalid value: "3": default value is not valid according to the requestPolicy`}},
		{Name: "policy's range", Edit: device("allowMultipleAllocations: true, capacity: {memory: {value: 8, requestPolicy: {default: 3, validRange: {min: 4, max: 9, step: 2}}}}"), Want: []string{
			`spec.devices[0].capacity[memory].requestPolicy.validRange.min: Invalid value: "3": default is less than min: 4`,
			`spec.devices[0].capacity[memory].requestPolicy.validRange.max: Invalid value: "9": max is larger than capacity value: 8`,
			`spec.devices[0].capacity[memory].requestPolicy.validRange.step: Invalid value: "3": value is not a multiple of a given step (2) from (4)`,
			`spec.devices[0].capacity[memory].requestPolicy.validRange.step: Invalid value: "9": value is not a multiple of a given step (2) from (4)`}},
		{Name: "taints", Edit: device("taints: [{key: '', value: 'a b', effect: ''}]"), Want: []string{
			`spec.devices[0].taints[0].key: Invalid value: "": name part must be non-empty`, `spec.devices[0].taints[0].key: Invalid value: "": name part must consist…`,
			`spec.devices[0].taints[0].value: Invalid value: "a b": a valid label…`, "spec.devices[0].taints[0].effect: Required value"}},
		{Name: "place of a device", Edit: device("allNodes: true"), Want: []string{
			"spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec"}},
		{Name: "no place of a device", Edit: "spec: {nodeName: null, perDeviceNodeSelection: true}", Want: []string{
			"spec.devices[0]: Required value: exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when…"}},
		{Name: "conditions", Edit: device("bindingConditions: [a]"), Want: []string{
			"spec.devices[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions"}},
		{Name: "twice", Edit: "spec: {devices: [{name: x}, {name: x}]}", Want: []string{`spec.devices[1]: Duplicate value: "x"`}},
	})
	kindtest.Update(t, r, slice, []kindtest.Case{
		{Name: "devices", Edit: "spec: {devices: [], pool: {generation: 2}}"},
		{Name: "identity", Edit: "spec: {driver: e, nodeName: other, pool: {name: p}}", Want: []string{
			`spec.driver: Invalid value: "e": field is immutable`, `spec.nodeName: Invalid value: "other": field is immutable`,
			`spec.pool.name: Invalid value: "p": field is immutable`}},
	})
	obj, _ := kindtest.New(t, r, slice)
	for i, want := range map[int]string{1: "node", 2: "d.example.com", 3: "node"} {
		if got := r.Columns[i].Cell(obj, time.Time{}); got != want {
			t.Errorf("column %s: %q", r.Columns[i].Name, got)
		}
	}
}

// Rules that kube-apiserver accepts and refuses, and why.
func TestTaintRule(t *testing.T) {
	r := kindtest.Kind(t, resource.Resources(), "DeviceTaintRule")
	const base = "apiVersion: resource.k8s.io/v1\nkind: DeviceTaintRule\nmetadata: {name: t}\nspec: {deviceSelector: {driver: d}, taint: {key: a, effect: NoExecute}}\n"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "wrong", Edit: "spec: {deviceSelector: {driver: A b, pool: '', device: A}, taint: {effect: Odd}}", Want: []string{
			`spec.deviceSelector.driver: Invalid value: "A b": a lowercase RFC 1123 subdomain…`, "spec.deviceSelector.pool: Required value",
			`spec.deviceSelector.device: Invalid value: "A": a lowercase RFC 1123 label…`,
			`spec.taint.effect: Unsupported value: "Odd": supported values: "NoExecute", "NoSchedule", "None"`}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{{Name: "effect", Edit: "spec: {taint: {effect: None}}"}})
	obj, _ := kindtest.New(t, r, base)
	if obj.(*resourcev1.DeviceTaintRule).Spec.Taint.TimeAdded == nil {
		t.Error("the taint has no time")
	}
}

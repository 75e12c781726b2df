package devices

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const driver = "d.example.com"

// byModel is a selector whose expressions are "model=<value>"; "error" fails.
func byModel(expression, _ string, d *resourcev1.Device) (bool, error) {
	if expression == "error" {
		return false, fmt.Errorf("no such key")
	}
	want := strings.TrimPrefix(expression, "model=")
	a, ok := d.Attributes["model"]
	return ok && *a.StringValue == want, nil
}

func p[T any](v T) *T { return &v }

// dev makes a device; attributes are "name=value".
func dev(name string, attributes ...string) resourcev1.Device {
	d := resourcev1.Device{Name: name, Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{}}
	for _, a := range attributes {
		k, v, _ := strings.Cut(a, "=")
		d.Attributes[resourcev1.QualifiedName(k)] = resourcev1.DeviceAttribute{StringValue: &v}
	}
	return d
}

func tainted(d resourcev1.Device, effect resourcev1.DeviceTaintEffect) resourcev1.Device {
	d.Taints = append(d.Taints, resourcev1.DeviceTaint{Key: "broken", Value: "yes", Effect: effect})
	return d
}

// shared makes a device of so much memory that may be given several times.
func shared(name, memory string, policy *resourcev1.CapacityRequestPolicy) resourcev1.Device {
	d := dev(name)
	d.AllowMultipleAllocations = p(true)
	d.Capacity = map[resourcev1.QualifiedName]resourcev1.DeviceCapacity{"memory": {Value: resource.MustParse(memory), RequestPolicy: policy}}
	return d
}

// part makes a device that takes so much of counter "memory" of set "card".
func part(name, memory string) resourcev1.Device {
	d := dev(name)
	d.ConsumesCounters = []resourcev1.DeviceCounterConsumption{{CounterSet: "card", Counters: map[string]resourcev1.Counter{"memory": {Value: resource.MustParse(memory)}}}}
	return d
}

// sliceOf makes a complete pool of one slice on a node; "" for all nodes.
func sliceOf(node, pool string, list ...resourcev1.Device) *resourcev1.ResourceSlice {
	s := &resourcev1.ResourceSlice{
		ObjectMeta: metav1.ObjectMeta{Name: pool + "-slice"},
		Spec:       resourcev1.ResourceSliceSpec{Driver: driver, Pool: resourcev1.ResourcePool{Name: pool, Generation: 1, ResourceSliceCount: 1}, Devices: list},
	}
	if node == "" {
		s.Spec.AllNodes = p(true)
	} else {
		s.Spec.NodeName = &node
	}
	return s
}

func exactly(name string, count int64, expressions ...string) resourcev1.DeviceRequest {
	return resourcev1.DeviceRequest{Name: name, Exactly: &resourcev1.ExactDeviceRequest{
		DeviceClassName: "class", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: count, Selectors: cel(expressions),
	}}
}

func allOf(name string, expressions ...string) resourcev1.DeviceRequest {
	r := exactly(name, 0, expressions...)
	r.Exactly.AllocationMode = resourcev1.DeviceAllocationModeAll
	return r
}

func firstOf(name string, expressions ...string) resourcev1.DeviceRequest {
	r := resourcev1.DeviceRequest{Name: name}
	for i, e := range expressions {
		r.FirstAvailable = append(r.FirstAvailable, resourcev1.DeviceSubRequest{
			Name: fmt.Sprintf("sub%d", i), DeviceClassName: "class", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 1, Selectors: cel([]string{e}),
		})
	}
	return r
}

func cel(expressions []string) (out []resourcev1.DeviceSelector) {
	for _, e := range expressions {
		out = append(out, resourcev1.DeviceSelector{CEL: &resourcev1.CELDeviceSelector{Expression: e}})
	}
	return out
}

func claimOf(name string, requests ...resourcev1.DeviceRequest) *resourcev1.ResourceClaim {
	return &resourcev1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name)},
		Spec:       resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: requests}},
	}
}

func matching(c *resourcev1.ResourceClaim, attribute string, requests ...string) *resourcev1.ResourceClaim {
	name := resourcev1.FullyQualifiedName(attribute)
	c.Spec.Devices.Constraints = append(c.Spec.Devices.Constraints, resourcev1.DeviceConstraint{Requests: requests, MatchAttribute: &name})
	return c
}

func distinct(c *resourcev1.ResourceClaim, attribute string) *resourcev1.ResourceClaim {
	name := resourcev1.FullyQualifiedName(attribute)
	c.Spec.Devices.Constraints = append(c.Spec.Devices.Constraints, resourcev1.DeviceConstraint{DistinctAttribute: &name})
	return c
}

func podOf(name string, claims ...string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name)}}
	for _, c := range claims {
		pod.Spec.ResourceClaims = append(pod.Spec.ResourceClaims, corev1.PodResourceClaim{Name: c, ResourceClaimName: &c})
	}
	return pod
}

func nodeOf(name string, labels ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for _, l := range labels {
		k, v, _ := strings.Cut(l, "=")
		n.Labels[k] = v
	}
	return n
}

func tableOf(objects ...any) *Table {
	t := New(byModel)
	t.SetClass(&resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "class"}})
	for _, o := range objects {
		switch x := o.(type) {
		case *resourcev1.ResourceSlice:
			t.SetSlice(x)
		case *resourcev1.ResourceClaim:
			t.SetClaim(x)
		case *resourcev1.DeviceClass:
			t.SetClass(x)
		}
	}
	return t
}

// text spells steps as "claim: request=pool/device …".
func text(steps []Step) string {
	var out []string
	for _, s := range steps {
		line := s.Claim.Name + ":"
		if s.Allocation == nil {
			line += " reserve"
		} else {
			for _, r := range s.Allocation.Devices.Results {
				line += " " + r.Request + "=" + r.Pool + "/" + r.Device
				if r.AdminAccess != nil && *r.AdminAccess {
					line += "(admin)"
				}
				for name, q := range r.ConsumedCapacity {
					line += fmt.Sprintf("[%s %s]", name, q.String())
				}
			}
		}
		out = append(out, line)
	}
	return strings.Join(out, "; ")
}

// decide allocates for a pod on a node, or tells why it cannot.
func decide(t *Table, pod *corev1.Pod, node *corev1.Node) string {
	d := t.DemandOf(pod)
	if d.Refused != "" {
		return d.Refused
	}
	if why := d.Reject(node); why != "" {
		return why
	}
	return text(t.Assume(d, node))
}

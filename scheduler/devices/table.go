package devices

import (
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
)

// Selector tells whether an expression (CEL, over the variable device) selects a driver's device. The same arguments must give the
// same answer.
type Selector func(expression, driver string, d *resourcev1.Device) (bool, error)

// Table is the state that allocations are decided on. It is used by one goroutine at a time.
type Table struct {
	match   Selector
	classes map[string]*resourcev1.DeviceClass
	pools   map[poolID]*pool
	// poolOf finds a slice's pool, byNode the pools of a node; those of "" reach further.
	poolOf map[string]*pool
	byNode map[string]*nodePools
	rules  map[string]*resourcev1.DeviceTaintRule
	claims map[claimKey]*resourcev1.ResourceClaim
	// assumed are decided allocations that no claim shows yet, by the claim's uid.
	assumed map[types.UID]*assumption
	used    map[deviceID]*usage
}

// claimKey names a ResourceClaim.
type claimKey struct{ namespace, name string }

// assumption is a decided allocation.
type assumption struct {
	claim      claimKey
	pod        types.UID
	allocation *resourcev1.AllocationResult
}

// usage is what is taken of a device.
type usage struct {
	// allocations is how many claims have it; more than one only of a shared device.
	allocations int
	consumed    map[resourcev1.QualifiedName]resource.Quantity
}

// New returns an empty table.
func New(match Selector) *Table {
	return &Table{
		match: match, classes: map[string]*resourcev1.DeviceClass{}, pools: map[poolID]*pool{}, poolOf: map[string]*pool{},
		byNode: map[string]*nodePools{}, rules: map[string]*resourcev1.DeviceTaintRule{}, claims: map[claimKey]*resourcev1.ResourceClaim{},
		assumed: map[types.UID]*assumption{}, used: map[deviceID]*usage{},
	}
}

// SetClass tells a device class; RemoveClass that it is gone.
func (t *Table) SetClass(class *resourcev1.DeviceClass) { t.classes[class.Name] = class }

// RemoveClass tells that a device class is gone.
func (t *Table) RemoveClass(name string) { delete(t.classes, name) }

// Claim returns a claim as it was last told, nil if there is none.
func (t *Table) Claim(namespace, name string) *resourcev1.ResourceClaim {
	return t.claims[claimKey{namespace, name}]
}

// SetClaim tells a claim's state. The object is kept and must not be modified afterwards.
func (t *Table) SetClaim(claim *resourcev1.ResourceClaim) {
	key := claimKey{claim.Namespace, claim.Name}
	if old := t.claims[key]; old != nil {
		t.account(old.Status.Allocation, -1)
		if old.UID != claim.UID {
			t.drop(old.UID)
		}
	}
	t.claims[key] = claim
	if claim.Status.Allocation != nil {
		t.drop(claim.UID)
		t.account(claim.Status.Allocation, 1)
	}
}

// RemoveClaim tells that a claim is gone, and with it what was decided for it.
func (t *Table) RemoveClaim(namespace, name string) {
	key := claimKey{namespace, name}
	if old := t.claims[key]; old != nil {
		t.account(old.Status.Allocation, -1)
		t.drop(old.UID)
		delete(t.claims, key)
	}
}

// Assume decides the allocations of a demand on a node that Reject has passed, and returns what must be written.
func (t *Table) Assume(d *Demand, node *corev1.Node) []Step {
	steps := d.steps(node)
	for i := range steps {
		if a := steps[i].Allocation; a != nil {
			c := steps[i].Claim
			t.assumed[c.UID] = &assumption{claimKey{c.Namespace, c.Name}, d.pod.UID, a}
			t.account(a, 1)
		}
	}
	return steps
}

// Forget takes back what was decided for a pod and has not been written, nor can be any more.
func (t *Table) Forget(pod types.UID) {
	for uid, a := range t.assumed {
		if a.pod == pod {
			t.drop(uid)
		}
	}
}

func (t *Table) drop(claim types.UID) {
	if a := t.assumed[claim]; a != nil {
		t.account(a.allocation, -1)
		delete(t.assumed, claim)
	}
}

// account adds an allocation to what is used, or takes it away with sign -1. An administrator's access uses nothing.
func (t *Table) account(a *resourcev1.AllocationResult, sign int) {
	if a == nil {
		return
	}
	for i := range a.Devices.Results {
		r := &a.Devices.Results[i]
		if r.AdminAccess != nil && *r.AdminAccess {
			continue
		}
		id := deviceID{poolID{r.Driver, r.Pool}, r.Device}
		u := t.used[id]
		if u == nil {
			u = &usage{}
			t.used[id] = u
		}
		u.add(r.ConsumedCapacity, sign)
		if u.allocations == 0 {
			delete(t.used, id)
		}
	}
}

func (u *usage) add(consumed map[resourcev1.QualifiedName]resource.Quantity, sign int) {
	u.allocations += sign
	for name, q := range consumed {
		if u.consumed == nil {
			u.consumed = map[resourcev1.QualifiedName]resource.Quantity{}
		}
		sum := u.consumed[name].DeepCopy()
		if sign > 0 {
			sum.Add(q)
		} else {
			sum.Sub(q)
		}
		u.consumed[name] = sum
	}
}

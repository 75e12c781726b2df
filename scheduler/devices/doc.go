// Package devices allocates devices to ResourceClaims (KEP-4381): which devices of which pools a pod's claims get on a node. It is
// pure: no clock, I/O, logging, goroutines or randomness; the same sequence of calls gives the same allocations.
//
// A Table is what is known of device classes, resource slices, taint rules and claims, and of allocations that were decided and are not in the
// API yet. DemandOf gathers what a pod's claims ask for; Reject tells why a node cannot give it, and Assume decides, so that no
// later decision gives the same devices away:
//
//	t := devices.New(match)
//	t.SetClass(class); t.SetSlice(slice); t.SetClaim(claim)
//	if d := t.DemandOf(pod); d != nil && d.Refused == "" && d.Reject(node) == "" {
//		steps := t.Assume(d, node) // to be written into the claims' status before the pod is bound
//	}
//
// Invariant: a device is in the allocations of at most one claim, decided ones included, unless the device allows several
// allocations, whose consumed capacity then never exceeds the device's, or the access is an administrator's. The counters that
// devices of a pool consume never exceed the pool's.
//
// An allocation stays assumed until the claim is seen with it or Forget takes it back: what may have been written must not be given
// away a second time, even if the pod is gone.
//
// Derived attributes, attributes with lists of values in constraints, compatibility groups and node allocatable resources are alpha
// in the API and not supported.
package devices

package nftables

import "bareboat.dev/proxy/plan"

// Pending is how many elements a first Apply of set would add and delete, and how many shared chains it would take over.
func Pending(a *Applier, set *plan.Set) (add, del, chains int, err error) {
	want := newState()
	want.update(set, set.Keys(), true)
	if err := a.readLocked(); err != nil {
		return 0, 0, 0, err
	}
	d := want.delta(a.have, true)
	chains = len(a.chains)
	a.have, a.chains = nil, nil
	return len(d.add), len(d.del), chains, nil
}

package devices

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// poolID names a pool; names of pools are their driver's.
type poolID struct{ driver, name string }

func (a poolID) compare(b poolID) int {
	return cmp.Or(cmp.Compare(a.driver, b.driver), cmp.Compare(a.name, b.name))
}

// deviceID names a device.
type deviceID struct {
	pool poolID
	name string
}

// pool is the slices of one name. What counts are those of the newest generation, if all of them are there.
type pool struct {
	id     poolID
	slices map[string]*slice
	// stale tells that the following must be gathered anew.
	stale   bool
	devices []*device
	// broken tells that nothing may be allocated: slices are missing, or two devices have one name.
	broken bool
	// counters are what the pool's devices share, by set and name.
	counters map[string]map[string]resource.Quantity
}

// slice is a ResourceSlice with its devices taken apart.
type slice struct {
	obj     *resourcev1.ResourceSlice
	devices []*device
}

// device is one device of a slice.
type device struct {
	*resourcev1.Device
	id    deviceID
	reach reach
	// ruled are the taints that rules put on it.
	ruled []resourcev1.DeviceTaint
	// skip is which operations the node does not do for it.
	skip []resourcev1.SkipNodeOperation
	// selected remembers which expressions select the device.
	selected map[string]bool
}

// maxSelected bounds how many expressions are remembered per device; a cluster has few classes and templates.
const maxSelected = 64

func (d *device) shared() bool {
	return d.AllowMultipleAllocations != nil && *d.AllowMultipleAllocations
}

// reach is from which nodes a device can be used.
type reach struct {
	node     string
	all      bool
	selector *nodeaffinity.NodeSelector // nil if neither, or if it cannot be parsed: then from nowhere
	terms    *corev1.NodeSelector
}

func reachOf(node *string, all *bool, selector *corev1.NodeSelector) reach {
	r := reach{all: all != nil && *all}
	if node != nil {
		r.node = *node
	}
	if selector != nil {
		if s, err := nodeaffinity.NewNodeSelector(selector); err == nil {
			r.selector, r.terms = s, selector
		}
	}
	return r
}

func (r reach) from(n *corev1.Node) bool {
	return r.all || r.node != "" && r.node == n.Name || r.selector != nil && r.selector.Match(n)
}

// local is the only node from which a slice's devices can be used; empty if there may be several.
func local(obj *resourcev1.ResourceSlice) string {
	if obj.Spec.NodeName != nil {
		return *obj.Spec.NodeName
	}
	return ""
}

func newSlice(obj *resourcev1.ResourceSlice) *slice {
	s := &slice{obj: obj}
	spec := &obj.Spec
	of := reachOf(spec.NodeName, spec.AllNodes, spec.NodeSelector)
	each := spec.PerDeviceNodeSelection != nil && *spec.PerDeviceNodeSelection
	for i := range spec.Devices {
		d := &device{
			Device: &spec.Devices[i], id: deviceID{poolOf(obj), spec.Devices[i].Name}, reach: of, skip: spec.SkipNodeOperations,
			selected: map[string]bool{},
		}
		if each {
			d.reach = reachOf(d.NodeName, d.AllNodes, d.NodeSelector)
		}
		s.devices = append(s.devices, d)
	}
	return s
}

func poolOf(obj *resourcev1.ResourceSlice) poolID {
	return poolID{obj.Spec.Driver, obj.Spec.Pool.Name}
}

// gather takes over what the newest generation of slices and the taint rules say.
func (t *Table) gather(p *pool) {
	if !p.stale {
		return
	}
	p.stale, p.devices, p.broken, p.counters = false, nil, false, nil
	var newest []*slice
	for _, s := range p.slices {
		switch {
		case len(newest) == 0 || s.obj.Spec.Pool.Generation > newest[0].obj.Spec.Pool.Generation:
			newest = []*slice{s}
		case s.obj.Spec.Pool.Generation == newest[0].obj.Spec.Pool.Generation:
			newest = append(newest, s)
		}
	}
	slices.SortFunc(newest, func(a, b *slice) int { return cmp.Compare(a.obj.Name, b.obj.Name) })
	names := map[string]bool{}
	for _, s := range newest {
		p.broken = p.broken || s.obj.Spec.Pool.ResourceSliceCount != int64(len(newest))
		for _, d := range s.devices {
			p.broken = p.broken || names[d.Name]
			names[d.Name] = true
		}
		p.devices = append(p.devices, s.devices...)
		p.addCounters(s.obj.Spec.SharedCounters)
	}
	t.taint(p)
}

func (p *pool) addCounters(sets []resourcev1.CounterSet) {
	for _, set := range sets {
		if p.counters == nil {
			p.counters = map[string]map[string]resource.Quantity{}
		}
		if p.counters[set.Name] != nil {
			p.broken = true
		}
		p.counters[set.Name] = map[string]resource.Quantity{}
		for name, c := range set.Counters {
			p.counters[set.Name][name] = c.Value
		}
	}
}

// nodePools are the pools that have slices for one node, or, of no name, that reach further.
type nodePools struct {
	slices map[*pool]int
	// sorted is in a fixed order; nil when it must be made anew.
	sorted []*pool
}

func (n *nodePools) list() []*pool {
	if n == nil {
		return nil
	}
	if n.sorted == nil {
		n.sorted = slices.SortedFunc(maps.Keys(n.slices), func(a, b *pool) int { return a.id.compare(b.id) })
	}
	return n.sorted
}

// SetSlice tells a slice's state. The object is kept and must not be modified afterwards.
func (t *Table) SetSlice(obj *resourcev1.ResourceSlice) {
	t.RemoveSlice(obj.Name)
	id := poolOf(obj)
	p := t.pools[id]
	if p == nil {
		p = &pool{id: id, slices: map[string]*slice{}}
		t.pools[id] = p
	}
	p.slices[obj.Name], p.stale = newSlice(obj), true
	t.poolOf[obj.Name] = p
	n := t.byNode[local(obj)]
	if n == nil {
		n = &nodePools{slices: map[*pool]int{}}
		t.byNode[local(obj)] = n
	}
	n.slices[p]++
	n.sorted = nil
}

// RemoveSlice tells that a slice is gone.
func (t *Table) RemoveSlice(name string) {
	p := t.poolOf[name]
	if p == nil {
		return
	}
	node := local(p.slices[name].obj)
	n := t.byNode[node]
	n.sorted = nil
	if n.slices[p]--; n.slices[p] == 0 {
		if delete(n.slices, p); len(n.slices) == 0 {
			delete(t.byNode, node)
		}
	}
	delete(p.slices, name)
	delete(t.poolOf, name)
	if p.stale = true; len(p.slices) == 0 {
		delete(t.pools, p.id)
	}
}

// poolsFor lists the pools that may have devices for a node, in a fixed order: the node's own first.
func (t *Table) poolsFor(node string) []*pool {
	own, wide := t.byNode[node], t.byNode[""]
	out := slices.Clone(own.list())
	for _, p := range wide.list() {
		if own == nil || own.slices[p] == 0 {
			out = append(out, p)
		}
	}
	for _, p := range out {
		t.gather(p)
	}
	return out
}

package devices

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
)

// world is a random cluster whose allocations are counted naively beside the table.
type world struct {
	*rand.Rand
	t      *testing.T
	table  *Table
	nodes  []*corev1.Node
	slices []*resourcev1.ResourceSlice
	claims map[string]*resourcev1.ResourceClaim // as the API has them
	// decided are allocations that the API does not have yet, by claim.
	decided map[string]Step
	by      map[string]types.UID
	made    int
}

// However claims come, are decided, written, lost and deleted, and slices change: no device is in two allocations unless it is shared
// or accessed by an administrator, no shared device and no counter is overdrawn, and every allocation is what its claim asks for.
func TestNeverTwice(t *testing.T) {
	for seed := range uint64(150) {
		w := &world{Rand: rand.New(rand.NewPCG(seed, 1)), t: t, table: tableOf(), claims: map[string]*resourcev1.ResourceClaim{}, decided: map[string]Step{}, by: map[string]types.UID{}}
		w.build()
		for range 120 {
			w.step()
			w.check(seed)
			if t.Failed() {
				return
			}
		}
	}
}

func (w *world) build() {
	for i := range 3 {
		name := fmt.Sprintf("n%d", i)
		w.nodes = append(w.nodes, nodeOf(name))
		w.slices = append(w.slices, sliceOf(name, "pool-"+name, dev("a", "model=x", "numa=0"), dev("b", "model=y", "numa=0"), dev("c", "model=x", "numa=1"), shared("s", "4", nil)))
	}
	counters := sliceOf("", "parts")
	counters.Name, counters.Spec.Pool.ResourceSliceCount = "counters", 2
	counters.Spec.SharedCounters = []resourcev1.CounterSet{{Name: "card", Counters: map[string]resourcev1.Counter{"memory": {Value: resource.MustParse("10")}}}}
	parts := sliceOf("", "parts", part("whole", "10"), part("half", "5"), part("third", "3"), part("other", "4"))
	parts.Spec.Pool.ResourceSliceCount = 2
	w.slices = append(w.slices, sliceOf("", "net", dev("x", "model=x"), dev("y", "model=y")), counters, parts)
	for _, s := range w.slices {
		w.table.SetSlice(s)
	}
}

func (w *world) request(name string) resourcev1.DeviceRequest {
	model := []string{"model=x", "model=y"}[w.IntN(2)]
	var r resourcev1.DeviceRequest
	switch w.IntN(6) {
	case 0:
		r = exactly(name, 1+w.Int64N(3))
	case 1:
		r = exactly(name, 1+w.Int64N(2), model)
	case 2:
		r = allOf(name, model)
	case 3:
		r = firstOf(name, "model=x", "model=y")
	case 4:
		r = exactly(name, 1)
		r.Exactly.Capacity = &resourcev1.CapacityRequirements{Requests: map[resourcev1.QualifiedName]resource.Quantity{"memory": *resource.NewQuantity(1+w.Int64N(3), resource.DecimalSI)}}
	default:
		r = exactly(name, 1, model)
		r.Exactly.AdminAccess = p(true)
	}
	return r
}

func (w *world) step() {
	name := w.any()
	switch n := w.IntN(10); {
	case n < 4 || name == "":
		w.made++
		c := claimOf(fmt.Sprintf("c%d", w.made), w.request("q"))
		if w.IntN(2) == 0 {
			c = claimOf(c.Name, w.request("q"), w.request("r"))
		}
		if w.IntN(4) == 0 {
			c = matching(c, driver+"/model")
		}
		w.claims[c.Name] = c
		w.table.SetClaim(c)
		w.decide(c.Name)
	case n < 6:
		w.decide(name)
	case n < 8: // a decided allocation is written, and seen now or after the pod has been forgotten; or it is lost
		if s, ok := w.decided[name]; ok {
			if w.IntN(4) > 0 {
				c := w.claims[name].DeepCopy()
				c.Status.Allocation = s.Allocation
				w.claims[name] = c
				w.table.SetClaim(c)
			}
			w.table.Forget(w.by[name])
			delete(w.decided, name)
		}
	case n < 9:
		delete(w.claims, name)
		delete(w.decided, name)
		w.table.RemoveClaim("ns", name)
	default:
		s := w.slices[w.IntN(len(w.slices))]
		if w.table.poolOf[s.Name] != nil {
			w.table.RemoveSlice(s.Name)
		} else {
			w.table.SetSlice(s)
		}
	}
}

func (w *world) any() string {
	if len(w.claims) == 0 {
		return ""
	}
	for range 100 {
		name := fmt.Sprintf("c%d", 1+w.IntN(w.made))
		if w.claims[name] != nil {
			return name
		}
	}
	return ""
}

func (w *world) decide(claim string) {
	pod := podOf(fmt.Sprintf("p%d-%s", w.made, claim), claim)
	d := w.table.DemandOf(pod)
	node := w.nodes[w.IntN(len(w.nodes))]
	if d.Refused != "" || d.Reject(node) != "" {
		return
	}
	for _, s := range w.table.Assume(d, node) {
		if s.Allocation != nil {
			w.decided[claim], w.by[claim] = s, pod.UID
			w.checkRequest(s, node)
		}
	}
}

// checkRequest looks whether an allocation is what was asked for.
func (w *world) checkRequest(s Step, node *corev1.Node) {
	got := map[string]int{}
	models := map[string]bool{}
	for _, r := range s.Allocation.Devices.Results {
		got[r.Request]++
		if strings.HasPrefix(r.Pool, "pool-") && r.Pool != "pool-"+node.Name {
			w.t.Errorf("%s has a device of %s on %s", s.Claim.Name, r.Pool, node.Name)
		}
		dv := w.device(r.Pool, r.Device)
		if a, ok := dv.Attributes["model"]; ok {
			models[*a.StringValue] = true
		} else {
			models[""] = true
		}
	}
	if len(s.Claim.Spec.Devices.Constraints) > 0 && (len(models) > 1 || models[""]) {
		w.t.Errorf("%s has devices of models %v", s.Claim.Name, models)
	}
	for _, r := range s.Claim.Spec.Devices.Requests {
		n := got[r.Name] + got[r.Name+"/sub0"] + got[r.Name+"/sub1"]
		if r.Exactly != nil && r.Exactly.AllocationMode == resourcev1.DeviceAllocationModeExactCount && n != int(r.Exactly.Count) || n == 0 {
			w.t.Errorf("%s got %d devices for %s", s.Claim.Name, n, r.Name)
		}
	}
}

func (w *world) device(pool, name string) *resourcev1.Device {
	for _, s := range w.slices {
		for i := range s.Spec.Devices {
			if s.Spec.Pool.Name == pool && s.Spec.Devices[i].Name == name {
				return &s.Spec.Devices[i]
			}
		}
	}
	w.t.Fatalf("no device %s/%s", pool, name)
	return nil
}

// check counts all allocations, written and decided.
func (w *world) check(seed uint64) {
	count, memory, card := map[string]int{}, map[string]int64{}, int64(0)
	add := func(a *resourcev1.AllocationResult) {
		if a == nil {
			return
		}
		for _, r := range a.Devices.Results {
			if r.AdminAccess != nil {
				continue
			}
			id := r.Pool + "/" + r.Device
			count[id]++
			q := r.ConsumedCapacity["memory"]
			memory[id] += q.Value()
			for _, c := range w.device(r.Pool, r.Device).ConsumesCounters {
				q := c.Counters["memory"].Value
				card += q.Value()
			}
		}
	}
	for name, c := range w.claims {
		add(c.Status.Allocation)
		if s, ok := w.decided[name]; ok {
			add(s.Allocation)
		}
	}
	for id, n := range count {
		if n > 1 && id[len(id)-2:] != "/s" {
			w.t.Errorf("seed %d: %s is given %d times", seed, id, n)
		}
		if memory[id] > 4 {
			w.t.Errorf("seed %d: %s is overdrawn: %d", seed, id, memory[id])
		}
	}
	if card > 10 {
		w.t.Errorf("seed %d: the card is overdrawn: %d", seed, card)
	}
	if len(count) != len(w.table.used) {
		w.t.Errorf("seed %d: %d devices are in use, the table says %d", seed, len(count), len(w.table.used))
	}
}

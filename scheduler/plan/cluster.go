package plan

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/scheduler/devices"
)

type quantity = resource.Quantity

// Cluster is the state that decisions are made on. It is used by one goroutine at a time.
type Cluster struct {
	resources *resourceTable
	images    imageTable
	verdicts  *verdictTable
	topology  *topology
	volumes   *volumeTable
	devices   *devices.Table

	nodes  []node
	byName map[string]int32
	free   []int32
	// live is how many nodes exist.
	live int
	pods map[types.UID]*placed

	shapes map[string]*shape
	ranked []*ranking
	uses   uint64

	// changes lists nodes in the order in which they changed; entry i has the position base+i.
	changes []nodeChange
	base    uint64

	candidates  []candidate // reused
	marks       []uint64    // by node: the number of the decision that marked it last
	decisions   uint64
	fewDomains  int // tests lower it
	apartShare  int // likewise: told apart are at most one node in so many
	maxRankings int // likewise: 0 for as many as their memory allows
	// nextCandidate is the node at which the next search for pods to preempt begins.
	nextCandidate int32
	// trying tells that a change will be undone before anyone looks.
	trying bool
}

// nodeChange says that a node changed; object is set if more than its pods did.
type nodeChange struct {
	node   int32
	object bool
}

// New returns an empty cluster.
func New() *Cluster {
	return &Cluster{
		resources: newResourceTable(), images: imageTable{nodes: map[string]int{}}, verdicts: newVerdictTable(), topology: newTopology(), volumes: newVolumeTable(),
		devices: devices.New(noSelector),
		byName:  map[string]int32{}, pods: map[types.UID]*placed{}, shapes: map[string]*shape{}, fewDomains: defaultFewDomains, apartShare: 2,
	}
}

// Nodes returns how many nodes there are.
func (c *Cluster) Nodes() int { return c.live }

// Pods returns how many pods are placed, bound or assumed.
func (c *Cluster) Pods() int { return len(c.pods) }

// PlacedOn returns the node that a pod is on, as told or decided.
func (c *Cluster) PlacedOn(uid types.UID) (string, bool) {
	p := c.pods[uid]
	if p == nil {
		return "", false
	}
	return c.nodes[p.node].name, true
}

// slot returns the index of a name, making an entry without object if there is none.
func (c *Cluster) slot(name string) int32 {
	if i, ok := c.byName[name]; ok {
		return i
	}
	var i int32
	if n := len(c.free); n > 0 {
		i, c.free = c.free[n-1], c.free[:n-1]
	} else {
		i = int32(len(c.nodes))
		c.nodes = append(c.nodes, node{})
	}
	c.nodes[i] = node{name: name}
	c.byName[name] = i
	return i
}

// SetNode adds a node or takes its new state over. It reports whether anything changed that decisions depend on. The object is
// kept and must not be modified afterwards.
func (c *Cluster) SetNode(obj *corev1.Node) bool {
	i := c.slot(obj.Name)
	n := &c.nodes[i]
	if !n.exists() {
		c.live++
	}
	if !n.setObject(c, obj) {
		return false
	}
	c.topology.nodeChanged(c, i)
	c.changed(i, true)
	return true
}

// RemoveNode takes a node away. Pods that are still said to be on it wait for it to come back.
func (c *Cluster) RemoveNode(name string) {
	i, ok := c.byName[name]
	if !ok || !c.nodes[i].exists() {
		return
	}
	n := &c.nodes[i]
	c.topology.nodeRemoved(c, i)
	c.images.forget(n.images)
	n.obj, n.images, n.allocatable, n.allowedPods = nil, nil, nil, 0
	c.live--
	c.changed(i, true)
	c.releaseSlot(i)
}

// releaseSlot frees an entry that has neither object nor pods.
func (c *Cluster) releaseSlot(i int32) {
	n := &c.nodes[i]
	if n.exists() || len(n.pods) > 0 {
		return
	}
	delete(c.byName, n.name)
	c.nodes[i] = node{}
	c.free = append(c.free, i)
}

// SetPod says that a pod is on a node: bound, or about to be. Saying it again, of another node too, is fine. The object is kept
// and must not be modified afterwards.
func (c *Cluster) SetPod(pod *corev1.Pod, nodeName string) error {
	s, err := c.shapeOf(pod)
	if err != nil {
		// What cannot be parsed takes part with its resources only; the API server refuses such pods.
		bare := pod.DeepCopy()
		bare.Spec.Affinity = nil
		if s, err = c.shapeOf(bare); err != nil {
			return err
		}
	}
	if old := c.pods[pod.UID]; old != nil {
		if old.shape == s && c.nodes[old.node].name == nodeName && sameLabels(old.pod, pod) {
			old.pod = pod
			return nil
		}
		c.remove(old)
	}
	c.place(pod, s, c.slot(nodeName))
	return nil
}

func sameLabels(a, b *corev1.Pod) bool {
	if len(a.Labels) != len(b.Labels) || (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil) {
		return false
	}
	for k, v := range a.Labels {
		if w, ok := b.Labels[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// Forget takes a pod away: it is gone, finished, or could not be bound.
func (c *Cluster) Forget(uid types.UID) {
	if p := c.pods[uid]; p != nil {
		c.remove(p)
		c.volumes.release(p.pod)
	}
}

func (c *Cluster) place(pod *corev1.Pod, s *shape, i int32) {
	c.insert(&placed{pod: pod, shape: s, node: i})
}

func (c *Cluster) insert(p *placed) {
	c.pods[p.pod.UID] = p
	n := &c.nodes[p.node]
	n.pods = append(n.pods, p)
	n.account(p.shape, 1)
	n.ports = append(n.ports, p.shape.ports...)
	c.topology.podAdded(c, p)
	if len(p.pod.Spec.Volumes) > 0 {
		c.volumes.podAdded(p)
	}
	c.changed(p.node, false)
}

func (c *Cluster) remove(p *placed) {
	delete(c.pods, p.pod.UID)
	n := &c.nodes[p.node]
	for i := range n.pods {
		if n.pods[i] == p {
			n.pods[i] = n.pods[len(n.pods)-1]
			n.pods = n.pods[:len(n.pods)-1]
			break
		}
	}
	n.account(p.shape, -1)
	if len(p.shape.ports) > 0 {
		n.ports = n.ports[:0]
		for _, other := range n.pods {
			n.ports = append(n.ports, other.shape.ports...)
		}
	}
	c.topology.podRemoved(c, p)
	if len(p.pod.Spec.Volumes) > 0 {
		c.volumes.podRemoved(p)
	}
	c.changed(p.node, false)
	c.releaseSlot(p.node)
}

// account adds a shape's requests to what is used, or takes them away with sign -1.
func (n *node) account(s *shape, sign int64) {
	for _, a := range s.amounts {
		n.used = addTo(n.used, a.id, sign*a.value)
	}
	n.scoreCPU += sign * s.scoreCPU
	n.scoreMemory += sign * s.scoreMemory
}

// changed notes a change for the rankings. Of a log much longer than there are nodes the older half is dropped: a ranking that
// has not read it is built anew, which costs no more than reading it would have.
func (c *Cluster) changed(i int32, object bool) {
	if c.trying {
		return
	}
	c.changes = append(c.changes, nodeChange{i, object})
	if limit := 2*len(c.nodes) + 1024; len(c.changes) > 2*limit {
		drop := len(c.changes) - limit
		c.changes = append(c.changes[:0], c.changes[drop:]...)
		c.base += uint64(drop)
	}
}

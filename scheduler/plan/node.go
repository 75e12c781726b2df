package plan

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// node is one node's state; nodes stand in an array and are known by their index.
type node struct {
	name string
	// obj is the API object, nil while only pods are known of the node.
	obj *corev1.Node
	// allocatable and used by resource number; both may be shorter than the table.
	allocatable, used []int64
	// scoreCPU and scoreMemory are used with defaults for missing requests.
	scoreCPU, scoreMemory int64
	allowedPods           int
	pods                  []*placed
	ports                 []hostPort
	images                map[string]int64
	// domains by topology key number: the number of the node's value, -1 if it has no such label.
	domains []int32
	// counted tells that the node's pods are in the topology's counts.
	counted bool
}

// placed is a pod on a node.
type placed struct {
	pod   *corev1.Pod
	shape *shape
	node  int32
	// nominated tells that the pod is not bound: its room is being made.
	nominated bool
	// terms are the distinct affinity terms that the pod carries.
	terms []*term
}

func (n *node) exists() bool { return n.obj != nil }

func at(list []int64, id int) int64 {
	if id < len(list) {
		return list[id]
	}
	return 0
}

// addTo adds value at id, growing the list.
func addTo(list []int64, id int, value int64) []int64 {
	for len(list) <= id {
		list = append(list, 0)
	}
	list[id] += value
	return list
}

// setObject takes a node's object over. It reports whether anything changed that decisions depend on.
func (n *node) setObject(c *Cluster, obj *corev1.Node) bool {
	old := n.obj
	n.obj = obj
	if old != nil && sameForScheduling(old, obj) {
		return false
	}
	n.allocatable = n.allocatable[:0]
	n.allowedPods = 0
	for name, q := range obj.Status.Allocatable {
		if name == corev1.ResourcePods {
			n.allowedPods = int(q.Value())
			continue
		}
		id := c.resources.id(name)
		n.allocatable = addTo(n.allocatable, id, valueOf(id, q)-at(n.allocatable, id))
	}
	images := map[string]int64{}
	for _, image := range obj.Status.Images {
		for _, name := range image.Names {
			images[imageName(name)] = image.SizeBytes
		}
	}
	if old == nil || !maps.Equal(images, n.images) {
		c.images.forget(n.images)
		c.images.add(images)
	}
	n.images = images
	return true
}

func sameForScheduling(a, b *corev1.Node) bool {
	return a.Spec.Unschedulable == b.Spec.Unschedulable && maps.Equal(a.Labels, b.Labels) &&
		slices.EqualFunc(a.Spec.Taints, b.Spec.Taints, func(x, y corev1.Taint) bool {
			return x.Key == y.Key && x.Value == y.Value && x.Effect == y.Effect
		}) &&
		maps.EqualFunc(a.Status.Allocatable, b.Status.Allocatable, func(x, y quantity) bool { return x.Cmp(y) == 0 }) &&
		slices.EqualFunc(a.Status.Images, b.Status.Images, func(x, y corev1.ContainerImage) bool {
			return x.SizeBytes == y.SizeBytes && slices.Equal(x.Names, y.Names)
		})
}

// imageTable counts on how many nodes each image is.
type imageTable struct {
	nodes map[string]int
	// epoch grows whenever a count may have changed.
	epoch uint64
}

func (t *imageTable) add(images map[string]int64) {
	for name := range images {
		t.nodes[name]++
	}
	t.epoch++
}

func (t *imageTable) forget(images map[string]int64) {
	for name := range images {
		if t.nodes[name]--; t.nodes[name] == 0 {
			delete(t.nodes, name)
		}
	}
	t.epoch++
}

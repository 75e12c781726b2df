package plan

import (
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/scheduler/devices"
)

// Decision is what becomes of one pod.
type Decision struct {
	Pod *corev1.Pod
	// Node is where it goes; empty if nowhere.
	Node string
	// Volumes is what must be done, and have come about, before the pod may be bound there; see VolumesBound.
	Volumes []VolumeStep
	// Claims is what must be written into resource claims before the pod may be bound there.
	Claims []devices.Step
	// Why explains an empty Node.
	Why *Unschedulable
	// Err is set if the pod cannot be understood, which the API server should have refused.
	Err error
}

// Schedule decides for a pod and, if a node is found, takes the pod into the state as being on it.
func (c *Cluster) Schedule(pod *corev1.Pod) Decision {
	s, err := c.shapeOf(pod)
	if err != nil {
		return Decision{Pod: pod, Err: err}
	}
	c.Forget(pod.UID)
	k, err := c.topology.constraintsOf(c, pod)
	if err != nil {
		return Decision{Pod: pod, Err: err}
	}
	var best int32
	var why *Unschedulable
	if refused, plugin := k.refused(); refused != "" {
		return Decision{Pod: pod, Why: &Unschedulable{Nodes: c.live, Pod: refused, Reasons: map[string]int{}, Plugins: plugin}}
	}
	if k == nil {
		r := c.ranking(s, partition{})
		if best = r.best(); best == none {
			why = r.explain(c)
		}
	} else {
		best, why = k.best(c, s)
	}
	if best == none {
		if k != nil && k.devices != nil && k.devices.Err != nil {
			return Decision{Pod: pod, Err: k.devices.Err}
		}
		return Decision{Pod: pod, Why: why}
	}
	d := Decision{Pod: pod, Node: c.nodes[best].name}
	if k != nil {
		d.Volumes = c.volumes.assume(k.volumes, &c.nodes[best])
	}
	if k != nil && k.devices != nil {
		d.Claims = c.devices.Assume(k.devices, c.nodes[best].obj)
	}
	c.place(pod, s, best)
	return d
}

// ScheduleAll decides for pods one after another, each seeing the ones before it.
func (c *Cluster) ScheduleAll(pods []*corev1.Pod) []Decision {
	out := make([]Decision, len(pods))
	for i, p := range pods {
		out[i] = c.Schedule(p)
	}
	return out
}

// FitsAny returns a function that tells whether any of the nodes by itself would take a pod as things are now, apart from topology
// spread and pod affinity. It is how a caller finds out which waiting pods a change of some nodes concerns. Pods of one shape are
// looked into once.
func (c *Cluster) FitsAny(nodes map[string]bool) func(*corev1.Pod) bool {
	known := map[*shape]bool{}
	return func(pod *corev1.Pod) bool {
		s, err := c.shapeOf(pod)
		if err != nil {
			return false
		}
		fits, ok := known[s]
		for name := range nodes {
			if ok || fits {
				break
			}
			if i, exists := c.byName[name]; exists && c.nodes[i].exists() {
				n := &c.nodes[i]
				fits = s.filterObject(c, n, s.matchesAffinity(n.obj)) == feasible && s.filterPods(c, n) == feasible
			}
		}
		known[s] = fits
		return fits
	}
}

package plan

import (
	corev1 "k8s.io/api/core/v1"
)

// Decision is what becomes of one pod.
type Decision struct {
	Pod *corev1.Pod
	// Node is where it goes; empty if nowhere.
	Node string
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
	if k == nil {
		r := c.ranking(s, partition{})
		if best = r.best(); best == none {
			why = r.explain(c)
		}
	} else {
		best, why = k.best(c, s)
	}
	if best == none {
		return Decision{Pod: pod, Why: why}
	}
	c.place(pod, s, best)
	return Decision{Pod: pod, Node: c.nodes[best].name}
}

// ScheduleAll decides for pods one after another, each seeing the ones before it.
func (c *Cluster) ScheduleAll(pods []*corev1.Pod) []Decision {
	out := make([]Decision, len(pods))
	for i, p := range pods {
		out[i] = c.Schedule(p)
	}
	return out
}

// CouldFit tells whether a node by itself would take the pod now, apart from topology spread and pod affinity. It is how a
// caller finds out which waiting pods a change of one node concerns.
func (c *Cluster) CouldFit(pod *corev1.Pod, nodeName string) bool {
	i, ok := c.byName[nodeName]
	if !ok || !c.nodes[i].exists() {
		return false
	}
	s, err := c.shapeOf(pod)
	if err != nil {
		return false
	}
	n := &c.nodes[i]
	return s.filterObject(c, n, s.matchesAffinity(n.obj)) == feasible && s.filterPods(c, n) == feasible
}

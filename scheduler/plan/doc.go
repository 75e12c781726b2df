// Package plan decides which node each pod goes to. It is pure: no clock, I/O, logging, goroutines or randomness; the same
// sequence of calls gives the same decisions.
//
// A Cluster is the state of nodes and pods as the caller tells it. Schedule decides for one pod and, if there is a node for it,
// takes the pod into the state at once, so that the next decision sees it; Forget takes it out again if it could not be
// bound. Decisions are those of kube-scheduler's default profile, under its plugin names, and what could not be placed is
// explained in its words:
//
//	0/5 nodes are available: 2 node(s) had untolerated taint {k: v}, 3 Insufficient cpu.
//
// It is fast because of its data. Pods that differ in nothing that matters here share one shape. For each shape in use a
// ranking keeps every node's verdict and score, filed by score; a change of one node is taken into a ranking when its shape is
// next asked for. So a pod costs as much as nodes have changed since the last pod of its shape, however many nodes there are. Pods
// with topology spread constraints or pod affinity are checked against counters kept per topology domain, in one pass over
// arrays. Only pods that use PersistentVolumeClaims cost a look at every node; what is decided for claims that wait for their first
// consumer is part of the decision (Decision.Volumes), and holds for other pods of the claim until it has come about or is undone. Pods
// with resource claims cost a search for devices on each node, the best one first, until one has them (package devices).
//
//	c := plan.New()
//	for _, n := range nodes { c.SetNode(n) }
//	for _, p := range bound { c.SetPod(p, p.Spec.NodeName) }
//	d := c.Schedule(pod)
//	if d.Node == "" { fmt.Println(d.Why) }
package plan

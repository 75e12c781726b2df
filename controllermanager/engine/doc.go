// Package engine runs controllers: it owns what they share (mirrors, queues, the way writes go out, metrics) so that a
// controller is a pure function and the few lines that feed it.
//
// A Controller declares what it reads and which fields of which kinds it writes. New refuses two controllers that claim
// the same field; Run starts those whose kinds the server serves, and says which stay off.
//
//	engine.Controller{
//		Name:   "replicaset-controller",
//		Reads:  []plan.Kind{plan.ReplicaSets, plan.Pods},
//		Writes: []engine.Claim{{plan.ReplicaSets, "status"}, {plan.Pods, "metadata.ownerReferences[ReplicaSet]"}},
//		Creates: []plan.Kind{plan.Pods}, Deletes: []plan.Kind{plan.Pods},
//		Setup:  func(s *engine.Setup) { … s.Loop(…) … },
//	}
//
// How a loop works: a key is queued when a mirror shows a change that concerns it. A worker calls the controller's step,
// which reads mirrors and returns a plan.Plan; the engine sends the plan's writes as one batch and then holds the key until the
// mirrors show every write that succeeded. So a step never decides from a view that lacks its own earlier writes, and
// controllers keep no expectations. A write that fails makes the key be tried again with back-off.
//
// Nothing outlives Run: an engine is made for one term of leadership, its mirrors start with a quorum-fresh snapshot, and
// when ctx ends every goroutine has returned when Run does. To be killed at any point is the ordinary way to stop.
package engine

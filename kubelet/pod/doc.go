// Package pod decides a pod's life on its node.
//
// [Step] is a pure function: from a pod's specification, what is observed of it on this node, what earlier steps
// remembered, and the time, it returns the actions to start, the status to report, the probes to keep running and the
// time by which to step again. It reads no clock, does no I/O, and starts nothing. The caller carries the actions out,
// each at most once at a time, folds what came of them into [Observed], and steps again: on every exit, probe verdict,
// finished action, change of the pod, and at [Plan.Wake].
//
//	plan := pod.Step(pod.Input{Pod: p, Observed: seen, Memory: memory, Now: now})
//	memory = plan.Memory
//	for _, a := range plan.Actions { go carryOut(a) }   // a.Key() is in Observed.InFlight until it ends
//	report(plan.Status)
//
// The life decided here is the one that the Kubernetes API documents: init containers in order, restartable init
// containers (KEP-753) around them, restart policies and per-container restart rules (KEP-5307), back-off, probes,
// lifecycle hooks, graceful termination, active deadlines, phases, conditions and reasons.
//
// Invariants, whatever the order of observations:
//   - a container never has two live instances, and an instance is never started while one of its name is in flight;
//   - a phase never leaves Succeeded or Failed, and never goes from Running back to Pending;
//   - a regular container starts only after every init container of this sandbox has succeeded or, if restartable, started;
//   - termination ends: each live container is sent SIGKILL at the latest when its grace is over.
package pod

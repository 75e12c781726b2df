// Package agent keeps one node's packet filter in step with the API: it mirrors services, endpoint slices and its node,
// plans, and has appliers do it.
//
//	a := agent.New(c, agent.Config{NodeName: name, Families: families, Log: log, Registry: registry})
//	err := a.Run(ctx)
//
// # Contract
//
// Nothing is applied before all mirrors hold a full snapshot: a half-known world would tear down services. From then on
// a change is applied at once; changes that arrive while an apply is running are taken together by the next. A failed
// apply is retried with back-off and everything that was pending stays pending. When the API is away the rules stay as
// they are. Ending Run removes nothing: established and new connections go on, and the next Run takes over from the
// kernel's own state.
package agent

// Package pipeline is the one way into the store: every request, whichever door it came through, is a Request value that
// passes the same chain: authorize → admit → default → validate → store → audit. The doors only translate, so that a
// decision can never differ by door.
//
//	p, err := pipeline.New(cfg)
//	result, err := p.Do(ctx, &pipeline.Request{Verb: pipeline.Get, Ref: ref, Caller: caller})
//	listing, err := p.List(ctx, &pipeline.Request{Verb: pipeline.List, Ref: ref, Caller: caller})
//	stream, err := p.Watch(ctx, &pipeline.Request{Verb: pipeline.Watch, Ref: ref, Caller: caller})
//
// Every error is an *apierrors.StatusError with the reason, message and details that kube-apiserver gives, or the context's.
//
// Writes are conditional on the state that they were decided from. An update that names a resource version fails with
// Conflict if the object has moved on; one that names none, a patch and a deletion are decided again from the new state.
// A write that would change no byte is not made.
package pipeline

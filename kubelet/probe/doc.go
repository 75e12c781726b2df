// Package probe runs a container's startup, liveness and readiness probes.
//
// [Run] keeps one probe going until its context ends, and reports each verdict once it stands: thresholds are applied
// here, what follows from a verdict is decided in package pod. [Prober] makes one attempt over HTTP, TCP, gRPC or by
// running a command in the container.
//
//	go probe.Run(ctx, spec, started, func(ctx context.Context) probe.Result { return prober.Probe(ctx, spec, target) },
//		func(v pod.Verdict) { … }, func(r probe.Result) { … })
package probe

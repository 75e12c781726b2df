// Package client is the Go client of the Bareboat API: typed resources over gRPC, several endpoints with failover, and
// Mirror, a resumable copy of a collection in memory.
//
// The contract, in short:
//
//   - Objects are the types of k8s.io/api. What a read returns has its TypeMeta filled in, since the wire's protobuf
//     encoding does not carry it.
//   - Errors of the API are *apierrors.StatusError (k8s.io/apimachinery/pkg/api/errors), so apierrors.IsNotFound,
//     IsConflict, IsInvalid and the rest work. What never reached a decision of the API (no endpoint reachable, stream
//     broken) satisfies IsUnavailable. A cancelled or expired context satisfies errors.Is with the context's error.
//   - Reads without a resource version are quorum-fresh. Nothing is cached except in a Mirror, which says so.
//   - Writes are never retried by the client once they may have reached a server: the caller knows whether its write is
//     safe to repeat. Reads are retried on another endpoint.
//   - A Client and everything made from it may be used by many goroutines at once.
//
// Example:
//
//	cfg, err := client.LoadConfig("", "")
//	c, err := client.Dial(cfg)
//	defer c.Close()
//	pods := client.Of(c, client.Pods())
//	pod, err := pods.Get(ctx, "default", "web-0")
//	if apierrors.IsNotFound(err) { … }
//
//	mirror := client.NewMirror(c, client.Pods(), client.MirrorOptions[*corev1.Pod]{FieldSelector: "spec.nodeName=node-1"})
//	mirror.OnChange(func(ch client.Change[*corev1.Pod]) { queue.Add(ch.Object().GetName()) })
//	err = mirror.Run(ctx)
package client

package agent

import (
	"context"

	"github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/client"
	"bareboat.dev/kubelet/pod"
)

// ClaimReader reads resource claims for their devices' drivers to prepare; it implements dra.API.
type ClaimReader struct{ Client *client.Client }

// ResourceClaim returns a claim as it is now.
func (r ClaimReader) ResourceClaim(ctx context.Context, namespace, name string) (*resourcev1.ResourceClaim, error) {
	return client.Of(r.Client, client.ResourceClaims()).Get(ctx, namespace, name)
}

// prepareClaims has the devices of the pod's resource claims prepared. If that fails it returns what to note; it is tried again with the
// pod's volumes.
func (w *worker) prepareClaims(ctx context.Context, p *corev1.Pod) func() {
	if len(p.Spec.ResourceClaims) == 0 {
		return nil
	}
	err := w.a.Claims.Prepare(ctx, p)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return func() {}
	}
	const reason = "FailedPrepareDynamicResources"
	w.a.event(p, corev1.EventTypeWarning, reason, "", "Failed to prepare dynamic resources: %v", err)
	w.a.Log.Warn("devices of claims were not prepared", "pod", podKey(p), "error", err)
	return func() { w.seen.Volumes = pod.Volumes{Failure: failure(w.seen.Volumes.Failure, reason, err)} }
}

// injectClaims gives a container the devices of the claims that it names.
func (a *Agent) injectClaims(spec *specs.Spec, p *corev1.Pod, c *corev1.Container) error {
	if len(c.Resources.Claims) == 0 {
		return nil
	}
	return a.Claims.Inject(spec, p, c)
}

// releaseClaims notes that a pod needs its claims' devices no more.
func (a *Agent) releaseClaims(uid types.UID) error {
	if a.Claims == nil {
		return nil
	}
	return a.Claims.Release(uid)
}

package server

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
)

// bindPod serves the old resource "bindings": what is created there goes the way of the pod's own subresource, with the same
// caller, who needs the right to both.
func bindPod(ctx context.Context, p *pipeline.Pipeline, r *pipeline.Request, _ registry.Object) (*pipeline.Result, error) {
	kind, body := corev1.SchemeGroupVersion.WithKind("Binding"), &corev1.Binding{}
	if _, err := p.Decode(r, kind, body); err != nil {
		return nil, err
	}
	if body.Name == "" {
		return nil, apierrors.NewBadRequest("name is required")
	}
	pod := *r
	pod.Resource, pod.Subresource, pod.Name = "pods", "binding", body.Name
	return p.Do(ctx, &pod)
}

package server

import (
	"context"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
)

// evict serves pods/eviction: a deletion that whoever may evict may ask for, with the options of the Eviction.
func evict(ctx context.Context, p *pipeline.Pipeline, r *pipeline.Request, stored registry.Object) (*pipeline.Result, error) {
	body := &policyv1.Eviction{}
	warnings, err := p.Decode(r, policyv1.SchemeGroupVersion.WithKind("Eviction"), body)
	if err != nil {
		return nil, err
	}
	if body.Name != "" && body.Name != r.Name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	if err := p.Admit(ctx, r, stored, body); err != nil {
		return nil, err
	}
	del := &pipeline.Request{
		Verb: pipeline.Delete, Caller: pipeline.System(), DryRun: r.DryRun,
		Ref: pipeline.Ref{Version: "v1", Resource: "pods", Namespace: r.Namespace, Name: r.Name},
	}
	if body.DeleteOptions != nil {
		del.Delete = *body.DeleteOptions
	}
	if _, err := p.Do(ctx, del); err != nil {
		return nil, err
	}
	res := pipeline.Answer(schema.GroupVersionKind{Version: "v1", Kind: "Status"}, &metav1.Status{Status: metav1.StatusSuccess, Code: 201})
	res.Warnings = warnings
	return res, nil
}

package grpc

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry/codec"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func ref(r *apiv1.ResourceRef) pipeline.Ref {
	return pipeline.Ref{
		Group: r.GetGroup(), Version: r.GetVersion(), Resource: r.GetResource(),
		Namespace: r.GetNamespace(), Name: r.GetName(), Subresource: r.GetSubresource(),
	}
}

func match(m apiv1.VersionMatch) pipeline.Match {
	switch m {
	case apiv1.VersionMatch_VERSION_MATCH_EXACT:
		return pipeline.MatchExact
	case apiv1.VersionMatch_VERSION_MATCH_NOT_OLDER_THAN:
		return pipeline.MatchNotOlderThan
	}
	return pipeline.MatchUnset
}

// write puts the options that all writes share into a request.
func write(r *pipeline.Request, o *apiv1.WriteOptions) {
	r.DryRun, r.FieldManager = o.GetDryRun(), o.GetFieldManager()
	switch o.GetFieldValidation() {
	case apiv1.FieldValidation_FIELD_VALIDATION_IGNORE:
		r.FieldValidation = codec.Ignore
	case apiv1.FieldValidation_FIELD_VALIDATION_STRICT:
		r.FieldValidation = codec.Strict
	}
}

func deletion(r *pipeline.Request, o *apiv1.DeleteOptions) {
	r.DryRun = o.GetDryRun()
	if g := o.GetGracePeriodSeconds(); g != nil {
		r.Delete.GracePeriodSeconds = &g.Value
	}
	var policy metav1.DeletionPropagation
	switch o.GetPropagation() {
	case apiv1.Propagation_PROPAGATION_ORPHAN:
		policy = metav1.DeletePropagationOrphan
	case apiv1.Propagation_PROPAGATION_BACKGROUND:
		policy = metav1.DeletePropagationBackground
	case apiv1.Propagation_PROPAGATION_FOREGROUND:
		policy = metav1.DeletePropagationForeground
	}
	if policy != "" {
		r.Delete.PropagationPolicy = &policy
	}
	if o.GetUid() == "" && o.GetResourceVersion() == "" {
		return
	}
	r.Delete.Preconditions = &metav1.Preconditions{}
	if uid := types.UID(o.GetUid()); uid != "" {
		r.Delete.Preconditions.UID = &uid
	}
	if rv := o.GetResourceVersion(); rv != "" {
		r.Delete.Preconditions.ResourceVersion = &rv
	}
}

func getRequest(c pipeline.Caller, q *apiv1.GetRequest) *pipeline.Request {
	return &pipeline.Request{Verb: pipeline.Get, Ref: ref(q.GetRef()), Caller: c, ResourceVersion: q.GetResourceVersion(), Match: match(q.GetVersionMatch())}
}

func (s *Server) createRequest(c pipeline.Caller, q *apiv1.CreateRequest) (*pipeline.Request, error) {
	r := &pipeline.Request{Verb: pipeline.Create, Ref: ref(q.GetRef()), Caller: c}
	write(r, q.GetOptions())
	var err error
	r.Body, err = s.body(q.GetObject())
	return r, err
}

func (s *Server) updateRequest(c pipeline.Caller, q *apiv1.UpdateRequest) (*pipeline.Request, error) {
	r := &pipeline.Request{Verb: pipeline.Update, Ref: ref(q.GetRef()), Caller: c}
	write(r, q.GetOptions())
	var err error
	r.Body, err = s.body(q.GetObject())
	return r, err
}

func patchRequest(c pipeline.Caller, q *apiv1.PatchRequest) (*pipeline.Request, error) {
	r := &pipeline.Request{Verb: pipeline.Patch, Ref: ref(q.GetRef()), Caller: c, Force: q.GetForce(), Body: pipeline.Body{Data: q.GetPatch()}}
	write(r, q.GetOptions())
	switch q.GetType() {
	case apiv1.PatchRequest_TYPE_JSON:
		r.PatchType = pipeline.JSONPatch
	case apiv1.PatchRequest_TYPE_MERGE:
		r.PatchType = pipeline.MergePatch
	case apiv1.PatchRequest_TYPE_STRATEGIC_MERGE:
		r.PatchType = pipeline.StrategicPatch
	case apiv1.PatchRequest_TYPE_APPLY:
		r.PatchType = pipeline.ApplyPatch
	default:
		return nil, apierrors.NewBadRequest("patch type is required")
	}
	return r, nil
}

func deleteRequest(c pipeline.Caller, q *apiv1.DeleteRequest) *pipeline.Request {
	r := &pipeline.Request{Verb: pipeline.Delete, Ref: ref(q.GetRef()), Caller: c}
	deletion(r, q.GetOptions())
	return r
}

// Get implements apiv1.ResourceServiceServer.
func (s *Server) Get(ctx context.Context, q *apiv1.GetRequest) (*apiv1.GetResponse, error) {
	res, err := s.cfg.Pipeline.Do(ctx, getRequest(CallerOf(ctx), q))
	if err != nil {
		return nil, err
	}
	if q.GetView() == apiv1.View_VIEW_TABLE {
		t, err := table(res.Object, s.cfg.Now(), true)
		return &apiv1.GetResponse{Table: t}, err
	}
	object, err := toAny(res.Object, q.GetView())
	return &apiv1.GetResponse{Object: object}, err
}

// Create implements apiv1.ResourceServiceServer.
func (s *Server) Create(ctx context.Context, q *apiv1.CreateRequest) (*apiv1.CreateResponse, error) {
	r, err := s.createRequest(CallerOf(ctx), q)
	if err != nil {
		return nil, err
	}
	res, err := s.cfg.Pipeline.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	object, err := toAny(res.Object, apiv1.View_VIEW_FULL)
	return &apiv1.CreateResponse{Object: object, Warnings: res.Warnings}, err
}

// Update implements apiv1.ResourceServiceServer.
func (s *Server) Update(ctx context.Context, q *apiv1.UpdateRequest) (*apiv1.UpdateResponse, error) {
	r, err := s.updateRequest(CallerOf(ctx), q)
	if err != nil {
		return nil, err
	}
	res, err := s.cfg.Pipeline.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	object, err := toAny(res.Object, apiv1.View_VIEW_FULL)
	return &apiv1.UpdateResponse{Object: object, Warnings: res.Warnings, Unchanged: res.Unchanged}, err
}

// Patch implements apiv1.ResourceServiceServer.
func (s *Server) Patch(ctx context.Context, q *apiv1.PatchRequest) (*apiv1.PatchResponse, error) {
	r, err := patchRequest(CallerOf(ctx), q)
	if err != nil {
		return nil, err
	}
	res, err := s.cfg.Pipeline.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	object, err := toAny(res.Object, apiv1.View_VIEW_FULL)
	return &apiv1.PatchResponse{Object: object, Warnings: res.Warnings, Unchanged: res.Unchanged, Created: res.Created}, err
}

// Delete implements apiv1.ResourceServiceServer.
func (s *Server) Delete(ctx context.Context, q *apiv1.DeleteRequest) (*apiv1.DeleteResponse, error) {
	res, err := s.cfg.Pipeline.Do(ctx, deleteRequest(CallerOf(ctx), q))
	if err != nil {
		return nil, err
	}
	object, err := toAny(res.Object, apiv1.View_VIEW_FULL)
	return &apiv1.DeleteResponse{Object: object, Deleted: res.Deleted, Warnings: res.Warnings}, err
}

// DeleteCollection implements apiv1.ResourceServiceServer.
func (s *Server) DeleteCollection(ctx context.Context, q *apiv1.DeleteCollectionRequest) (*apiv1.DeleteCollectionResponse, error) {
	r := &pipeline.Request{
		Verb: pipeline.DeleteCollection, Ref: ref(q.GetRef()), Caller: CallerOf(ctx),
		LabelSelector: q.GetLabelSelector(), FieldSelector: q.GetFieldSelector(),
	}
	deletion(r, q.GetOptions())
	res, err := s.cfg.Pipeline.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	return &apiv1.DeleteCollectionResponse{Count: res.Count}, nil
}

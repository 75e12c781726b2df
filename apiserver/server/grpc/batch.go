package grpc

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/apiserver/pipeline"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// Batch implements apiv1.ResourceServiceServer.
func (s *Server) Batch(ctx context.Context, q *apiv1.BatchRequest) (*apiv1.BatchResponse, error) {
	n := len(q.GetOperations())
	if n > pipeline.MaxBatch {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("a batch has at most %d operations, this one has %d", pipeline.MaxBatch, n))
	}
	caller := CallerOf(ctx)
	out := &apiv1.BatchResponse{Results: make([]*apiv1.OperationResult, n)}
	requests := make([]*pipeline.Request, 0, n)
	index := make([]int, 0, n)
	for i, op := range q.GetOperations() {
		r, err := s.operation(caller, op)
		if err != nil {
			out.Results[i] = failed(err)
			continue
		}
		requests, index = append(requests, r), append(index, i)
	}
	results, errs := s.cfg.Pipeline.Batch(ctx, requests)
	for k, i := range index {
		out.Results[i] = outcome(results[k], errs[k], q.GetOmitObjects())
	}
	return out, nil
}

func (s *Server) operation(c pipeline.Caller, op *apiv1.Operation) (*pipeline.Request, error) {
	switch o := op.GetOperation().(type) {
	case *apiv1.Operation_Get:
		return getRequest(c, o.Get), nil
	case *apiv1.Operation_Create:
		return s.createRequest(c, o.Create)
	case *apiv1.Operation_Update:
		return s.updateRequest(c, o.Update)
	case *apiv1.Operation_Patch:
		return patchRequest(c, o.Patch)
	case *apiv1.Operation_Delete:
		return deleteRequest(c, o.Delete), nil
	}
	return nil, apierrors.NewBadRequest("operation is empty")
}

func outcome(res *pipeline.Result, err error, omit bool) *apiv1.OperationResult {
	if err != nil {
		return failed(err)
	}
	r := &apiv1.OperationResult{Warnings: res.Warnings, Unchanged: res.Unchanged}
	if !omit {
		if r.Object, err = toAny(res.Object, apiv1.View_VIEW_FULL); err != nil {
			return failed(err)
		}
	}
	return r
}

func failed(err error) *apiv1.OperationResult {
	p := toStatus(err).Proto()
	return &apiv1.OperationResult{Error: &apiv1.Status{Code: p.GetCode(), Message: p.GetMessage(), Details: p.GetDetails()}}
}

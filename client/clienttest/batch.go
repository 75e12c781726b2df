package clienttest

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// maxOperations is what one batch may hold.
const maxOperations = 1000

// Batch implements ResourceService.
func (s *Server) Batch(ctx context.Context, req *apiv1.BatchRequest) (*apiv1.BatchResponse, error) {
	if err := s.check("Batch", nil); err != nil {
		return nil, toGRPC(err)
	}
	if len(req.GetOperations()) > maxOperations {
		return nil, toGRPC(apierrors.NewBadRequest("a batch holds at most 1000 operations"))
	}
	resp := &apiv1.BatchResponse{}
	for _, op := range req.GetOperations() {
		res, err := s.operate(ctx, op)
		if err != nil {
			res = &apiv1.OperationResult{Error: toWire(err)}
		}
		if req.GetOmitObjects() {
			res.Object = nil
		}
		resp.Results = append(resp.Results, res)
	}
	return resp, nil
}

func (s *Server) operate(ctx context.Context, op *apiv1.Operation) (*apiv1.OperationResult, error) {
	switch op := op.GetOperation().(type) {
	case *apiv1.Operation_Get:
		r, err := s.Get(ctx, op.Get)
		return &apiv1.OperationResult{Object: r.GetObject()}, err
	case *apiv1.Operation_Create:
		r, err := s.Create(ctx, op.Create)
		return &apiv1.OperationResult{Object: r.GetObject(), Warnings: r.GetWarnings()}, err
	case *apiv1.Operation_Update:
		r, err := s.Update(ctx, op.Update)
		return &apiv1.OperationResult{Object: r.GetObject(), Unchanged: r.GetUnchanged()}, err
	case *apiv1.Operation_Patch:
		r, err := s.Patch(ctx, op.Patch)
		return &apiv1.OperationResult{Object: r.GetObject(), Unchanged: r.GetUnchanged()}, err
	case *apiv1.Operation_Delete:
		r, err := s.Delete(ctx, op.Delete)
		return &apiv1.OperationResult{Object: r.GetObject()}, err
	}
	return nil, apierrors.NewBadRequest("empty operation")
}

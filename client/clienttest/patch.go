package clienttest

import (
	"context"
	"encoding/json"
	"fmt"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"

	"bareboat.dev/client"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// Patch implements ResourceService. Server-side apply is modelled as a strategic merge that creates what does not exist; managed
// fields are not kept, so it never conflicts.
func (s *Server) Patch(_ context.Context, req *apiv1.PatchRequest) (*apiv1.PatchResponse, error) {
	if err := s.check("Patch", req.GetRef()); err != nil {
		return nil, toGRPC(err)
	}
	resp, err := s.patch(req)
	return resp, toGRPC(err)
}

func (s *Server) patch(req *apiv1.PatchRequest) (*apiv1.PatchResponse, error) {
	k, err := s.kind(req.GetRef())
	if err != nil {
		return nil, err
	}
	body := req.GetPatch()
	if req.GetType() == apiv1.PatchRequest_TYPE_APPLY {
		if body, err = yaml.YAMLToJSON(body); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.state.objects[keyOf(k, req.GetRef())]
	if old == nil {
		if req.GetType() != apiv1.PatchRequest_TYPE_APPLY || req.GetRef().GetSubresource() != "" {
			return nil, notFound(k, req.GetRef().GetName())
		}
		return s.applyNew(k, req, body)
	}
	obj, err := patched(k, req.GetType(), old.obj, body)
	if err != nil {
		return nil, err
	}
	wire, unchanged, err := s.state.update(k, req.GetRef().GetSubresource(), obj, req.GetOptions().GetDryRun())
	return &apiv1.PatchResponse{Object: wire, Unchanged: unchanged}, err
}

// applyNew creates what an apply configuration describes.
func (s *Server) applyNew(k kind, req *apiv1.PatchRequest, body []byte) (*apiv1.PatchResponse, error) {
	obj := k.new()
	if err := json.Unmarshal(body, obj); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	obj.SetName(req.GetRef().GetName())
	if err := setNamespace(k, obj, req.GetRef().GetNamespace()); err != nil {
		return nil, err
	}
	wire, err := s.state.create(k, obj, req.GetOptions().GetDryRun())
	return &apiv1.PatchResponse{Object: wire, Created: true}, err
}

// patched returns old changed by the patch.
func patched(k kind, t apiv1.PatchRequest_Type, old client.Object, body []byte) (client.Object, error) {
	before, err := json.Marshal(old)
	if err != nil {
		return nil, err
	}
	var after []byte
	switch t {
	case apiv1.PatchRequest_TYPE_JSON:
		var p jsonpatch.Patch
		if p, err = jsonpatch.DecodePatch(body); err == nil {
			after, err = p.Apply(before)
		}
	case apiv1.PatchRequest_TYPE_MERGE:
		after, err = jsonpatch.MergePatch(before, body)
	case apiv1.PatchRequest_TYPE_STRATEGIC_MERGE, apiv1.PatchRequest_TYPE_APPLY:
		after, err = strategicpatch.StrategicMergePatch(before, body, k.new())
	default:
		err = fmt.Errorf("unknown patch type %v", t)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	obj := k.new()
	if err := json.Unmarshal(after, obj); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return obj, nil
}

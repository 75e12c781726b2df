package grpc

import (
	"context"
	"maps"
	"slices"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// GetVersion implements apiv1.DiscoveryServiceServer.
func (s *Server) GetVersion(context.Context, *apiv1.GetVersionRequest) (*apiv1.GetVersionResponse, error) {
	return s.cfg.Version, nil
}

// ListResources implements apiv1.DiscoveryServiceServer.
func (s *Server) ListResources(ctx context.Context, _ *apiv1.ListResourcesRequest) (*apiv1.ListResourcesResponse, error) {
	set, err := s.cfg.Pipeline.WaitSet(ctx)
	if err != nil {
		return nil, err
	}
	versions := set.Versions()
	out := &apiv1.ListResourcesResponse{}
	for _, r := range set.All() {
		out.Resources = append(out.Resources, resourceInfo(r, versions[r.Kind.Group][0] == r.Kind.Version))
	}
	return out, nil
}

func resourceInfo(r *registry.Resource, preferred bool) *apiv1.ResourceInfo {
	return &apiv1.ResourceInfo{
		Group: r.Kind.Group, Version: r.Kind.Version, Resource: r.Plural, Kind: r.Kind.Kind, Singular: r.Singular,
		Namespaced: r.Namespaced, ShortNames: r.ShortNames, Categories: r.Categories, Verbs: pipeline.Verbs(r),
		Subresources: slices.Sorted(maps.Keys(r.Subresources)), SelectableFields: slices.Sorted(maps.Keys(r.Fields)), Preferred: preferred,
	}
}

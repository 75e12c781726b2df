// Package autoscaling is autoscaling/v2 and autoscaling/v1. HorizontalPodAutoscalers are kept as v2; v1 is another view of them,
// which carries what it has no fields for in annotations, as Kubernetes does. Scale, the group's other kind, is a subresource
// of workloads.
package autoscaling

import "bareboat.dev/apiserver/registry"

// Resources returns the group's resources.
func Resources() []*registry.Resource {
	v2 := autoscalers()
	return []*registry.Resource{v2, autoscalersV1(v2)}
}

// Package flowcontrol is flowcontrol.apiserver.k8s.io/v1. Its objects are kept, defaulted and checked as Kubernetes does; the
// server makes the ones that Kubernetes makes and tells each request's to its sender (server/flow); how many requests it serves
// at once it bounds by other means (server/inflight).
package flowcontrol

import (
	"bareboat.dev/apiserver/registry"
)

// Resources returns the group's resources.
func Resources() []*registry.Resource { return []*registry.Resource{schemas(), levels()} }

func setIfNil[T any](dst **T, value T) {
	if *dst == nil {
		*dst = &value
	}
}

func setIfZero(dst *int32, value int32) {
	if *dst == 0 {
		*dst = value
	}
}

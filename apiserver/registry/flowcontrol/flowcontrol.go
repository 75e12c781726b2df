// Package flowcontrol is flowcontrol.apiserver.k8s.io/v1. Its objects are kept, defaulted and checked as Kubernetes does; the
// server bounds its requests by other means (server/inflight), so that no mandatory or suggested objects are made and none has
// an effect.
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

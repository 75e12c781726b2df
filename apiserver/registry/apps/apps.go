// Package apps is the apps group, /apis/apps/v1: each file one kind.
package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/registry"
)

// Resources returns the group's resources.
func Resources() []*registry.Resource {
	return []*registry.Resource{deployments(), replicaSets(), statefulSets(), daemonSets(), controllerRevisions()}
}

func kind(name string) schema.GroupVersionKind { return appsv1.SchemeGroupVersion.WithKind(name) }

func setIfNil[T any](dst **T, value T) {
	if *dst == nil {
		*dst = &value
	}
}

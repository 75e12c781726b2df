// Package batch is batch/v1: each file one kind.
package batch

import (
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
)

// Resources returns the group's resources.
func Resources() []*registry.Resource { return []*registry.Resource{jobs(), cronJobs()} }

func kind(name string) schema.GroupVersionKind { return batchv1.SchemeGroupVersion.WithKind(name) }

var specPath = field.NewPath("spec")

func setIfNil[T any](dst **T, value T) {
	if *dst == nil {
		*dst = &value
	}
}

func same[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

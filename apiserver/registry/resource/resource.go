// Package resource is resource.k8s.io/v1: dynamic resource allocation (KEP-4381). Devices are offered in ResourceSlices, sorted
// into DeviceClasses, and asked for by ResourceClaims, whose status says which were given.
package resource

import (
	"sync"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/registry"
)

// Resources returns the group's resources.
func Resources() []*registry.Resource {
	// The CEL environment takes memory and a moment to make, and few clusters have devices.
	r := rules{selectors: sync.OnceValues(newSelectors)}
	return []*registry.Resource{r.claims(), r.templates(), r.classes(), resourceSlices(), taintRules()}
}

func kind(name string) schema.GroupVersionKind { return resourcev1.SchemeGroupVersion.WithKind(name) }

// rules are the kinds' rules, of which some compile CEL expressions.
type rules struct{ selectors func() (*selectors, error) }

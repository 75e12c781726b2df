// Package networking is networking.k8s.io/v1.
package networking

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	networkingv1 "k8s.io/api/networking/v1"

	"bareboat.dev/apiserver/registry"
)

// Resources returns the group's resources.
func Resources() []*registry.Resource {
	return []*registry.Resource{ingresses(), ingressClasses(), networkPolicies(), ipAddresses(), serviceCIDRs()}
}

func kind(name string) schema.GroupVersionKind { return networkingv1.SchemeGroupVersion.WithKind(name) }

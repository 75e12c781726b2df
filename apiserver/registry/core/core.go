// Package core is the core group, /api/v1: each file one kind.
//
//	set, err := registry.NewSet(registry.All(core.Resources(core.Config{…}), apps.Resources())...)
package core

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

// Config is what the kinds of this group need to know of the cluster.
type Config struct {
	// ServiceCIDRs are the networks that cluster IPs are taken from, at most one per IP family, the primary one first; none
	// means 10.96.0.0/16.
	ServiceCIDRs []netip.Prefix
	// NodePorts is the range of node ports, both ends included; zero means 30000-32767.
	NodePorts PortRange
}

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last int32 }

func (c Config) withDefaults() Config {
	if len(c.ServiceCIDRs) == 0 {
		c.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}
	}
	if c.NodePorts == (PortRange{}) {
		c.NodePorts = PortRange{First: 30000, Last: 32767}
	}
	return c
}

// Resources returns the group's resources; without a Config, for a cluster with the default networks.
func Resources(config ...Config) []*registry.Resource {
	var c Config
	if len(config) > 0 {
		c = config[0]
	}
	return []*registry.Resource{
		namespaces(), nodes(), pods(), services(c.withDefaults()), endpoints(), configMaps(), secrets(), serviceAccounts(), Events(),
		volumes(), claims(), podTemplates(), replicationControllers(), resourceQuotas(), limitRanges(), componentStatuses(), bindings(),
	}
}

func kind(name string) schema.GroupVersionKind { return corev1.SchemeGroupVersion.WithKind(name) }

// checkFinalizer checks that a finalizer without a domain is one of the fixed few.
func checkFinalizer(e *check.Errors, name string, at *field.Path) {
	for _, r := range name {
		if r == '/' {
			return
		}
	}
	switch name {
	case string(corev1.FinalizerKubernetes), "orphan", "foregroundDeletion":
	default:
		e.Invalid(at, name, "name is neither a standard finalizer name nor is it fully qualified")
	}
}

var dnsSubdomain = apivalidation.NameIsDNSSubdomain

package servicecidr

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"bareboat.dev/apiserver/registry/core"
)

// Missing returns the IPAddresses that Services should have and have not: somebody deleted them, or the Service is from a server
// that did not write any yet.
func Missing(services []*corev1.Service, addresses []*networkingv1.IPAddress) []*networkingv1.IPAddress {
	known := map[string]bool{}
	for _, a := range addresses {
		known[a.Name] = true
	}
	var list []*networkingv1.IPAddress
	for _, s := range services {
		for _, text := range s.Spec.ClusterIPs {
			ip, err := netip.ParseAddr(text)
			if err != nil {
				continue // headless
			}
			if a := core.ServiceAddress(s, ip); !known[a.Name] {
				known[a.Name] = true
				list = append(list, a)
			}
		}
	}
	return list
}

// Orphans returns the IPAddresses of Services that do not hold them.
func Orphans(services []*corev1.Service, addresses []*networkingv1.IPAddress) []*networkingv1.IPAddress {
	held := map[string][]string{}
	for _, s := range services {
		held[s.Namespace+"/"+s.Name] = s.Spec.ClusterIPs
	}
	var list []*networkingv1.IPAddress
	for _, a := range addresses {
		p := a.Spec.ParentRef
		if a.Labels[networkingv1.LabelManagedBy] != core.AddressManager || p == nil || p.Group != "" || p.Resource != "services" {
			continue // Somebody else's.
		}
		if !holds(held[p.Namespace+"/"+p.Name], a) {
			list = append(list, a)
		}
	}
	return list
}

func holds(clusterIPs []string, a *networkingv1.IPAddress) bool {
	return slices.ContainsFunc(clusterIPs, func(text string) bool { return same(text, a.Name) })
}

func same(a, b string) bool {
	x, err := netip.ParseAddr(a)
	y, wrong := netip.ParseAddr(b)
	return err == nil && wrong == nil && x.Unmap() == y.Unmap()
}

// Package endpointslice publishes the pods behind each service that has a selector.
//
// Reconcile is pure: from a service, its pods and the slices that exist it plans the fewest writes that make the slices
// right. Endpoints are grouped by address family and by the ports that the service's ports mean on their pod; a group fills
// slices of at most MaxPerSlice. An endpoint stays in the slice it is in. New ones go where a slice is written anyway,
// then into the fullest slice that takes them all, then into new slices. Slices are not rebalanced: on thousands of nodes a
// half-empty slice costs less than a write.
package endpointslice

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
)

const (
	// MaxPerSlice is upstream's default: about 20 KiB a slice, sent to every node on every change in it.
	MaxPerSlice = 100
	// ManagedBy marks this controller's slices, so that others may keep their own for the same service.
	ManagedBy = "endpointslice-controller.k8s.io"
)

// Input is what a decision is made from.
type Input struct {
	Service *corev1.Service
	// Pods are those that the service's selector matches.
	Pods []*corev1.Pod
	// Slices are those of the service that carry ManagedBy.
	Slices []*discoveryv1.EndpointSlice
	// Node returns a node, nil if it is not known (yet).
	Node func(name string) *corev1.Node
	// NameTaken reports whether a slice of that name exists in the namespace.
	NameTaken func(name string) bool
}

// Reconcile plans the writes that make a service's slices right.
func Reconcile(in Input) plan.Plan {
	var p plan.Plan
	svc := in.Service
	if svc.DeletionTimestamp != nil || svc.Spec.Type == corev1.ServiceTypeExternalName || len(svc.Spec.Selector) == 0 {
		return p // Slices of a service that lost its selector are the user's now; those of a deleted one are collected.
	}
	r := &reconciler{Input: in, labels: sliceLabels(svc), names: owner.NewNames(svc.Name+"-", svc.UID, "", in.NameTaken)}
	families := addressTypes(svc)
	for _, t := range families {
		r.family(t)
	}
	for _, s := range in.Slices {
		if !slices.Contains(families, s.AddressType) && s.DeletionTimestamp == nil {
			r.plan.Add(plan.Delete(plan.EndpointSlices, s))
		}
	}
	return r.plan
}

type reconciler struct {
	Input
	labels map[string]string
	names  *owner.Names
	plan   plan.Plan
}

// bin is a slice in the making.
type bin struct {
	existing  *discoveryv1.EndpointSlice
	ports     []discoveryv1.EndpointPort
	endpoints []discoveryv1.Endpoint
	changed   bool
}

func (r *reconciler) family(t discoveryv1.AddressType) {
	groups := group(r.Input, t)
	bins := map[string][]*bin{}
	var surplus []*bin
	for _, s := range sorted(r.Slices) {
		if s.AddressType != t || s.DeletionTimestamp != nil {
			continue
		}
		b := &bin{existing: s, ports: s.Ports}
		if key := portKey(s.Ports); groups[key] != nil {
			bins[key] = append(bins[key], b)
		} else {
			surplus = append(surplus, b)
		}
	}
	var all []*bin
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		all = append(all, pack(bins[key], groups[key])...)
	}
	for i, b := range all {
		if len(b.endpoints) == 0 && b.existing != nil {
			surplus = append(surplus, b)
			all[i] = nil
		}
	}
	all = slices.DeleteFunc(all, func(b *bin) bool { return b == nil })
	if len(all) == 0 {
		// A service without endpoints keeps one empty slice, so that a reader can tell "none" from "not yet".
		placeholder := &bin{}
		if len(surplus) > 0 {
			placeholder.existing, surplus = surplus[0].existing, surplus[1:]
		}
		all = append(all, placeholder)
	}
	for _, b := range all {
		r.write(t, b)
	}
	for _, b := range surplus {
		r.plan.Add(plan.Delete(plan.EndpointSlices, b.existing))
	}
}

func sorted(in []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	return slices.SortedFunc(slices.Values(in), func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
}

// pack distributes the endpoints of one group over its slices.
func pack(bins []*bin, g *endpoints) []*bin {
	left := maps.Clone(g.byID)
	for _, b := range bins {
		for _, have := range b.existing.Endpoints {
			id := identify(have)
			want, ok := left[id]
			if !ok || len(b.endpoints) == MaxPerSlice {
				b.changed = true
				continue
			}
			delete(left, id)
			b.changed = b.changed || !apiequality.Semantic.DeepEqual(have, want)
			b.endpoints = append(b.endpoints, want)
		}
	}
	rest := g.inOrder(left)
	for _, b := range bins {
		if b.changed {
			rest = b.fill(rest)
		}
	}
	if len(rest) == 0 {
		return bins
	}
	var best *bin
	for _, b := range bins {
		room := MaxPerSlice - len(b.endpoints)
		if room >= len(rest) && (best == nil || len(b.endpoints) > len(best.endpoints)) {
			best = b
		}
	}
	if best != nil {
		best.fill(rest)
		return bins
	}
	for len(rest) > 0 {
		b := &bin{ports: g.ports}
		rest = b.fill(rest)
		bins = append(bins, b)
	}
	return bins
}

// fill puts as many endpoints into the slice as fit and returns the rest.
func (b *bin) fill(rest []discoveryv1.Endpoint) []discoveryv1.Endpoint {
	n := min(len(rest), MaxPerSlice-len(b.endpoints))
	b.endpoints = append(b.endpoints, rest[:n]...)
	b.changed = b.changed || n > 0
	return rest[n:]
}

// write creates or updates a slice if it is not as it should be.
func (r *reconciler) write(t discoveryv1.AddressType, b *bin) {
	svc := r.Service
	if b.existing == nil {
		name := r.names.Next()
		r.plan.Add(plan.Create(plan.EndpointSlices, &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: svc.Namespace, Name: name, GenerateName: svc.Name + "-", Labels: r.labels,
				OwnerReferences: []metav1.OwnerReference{owner.Ref(plan.Services, svc)},
			},
			AddressType: t, Ports: b.ports, Endpoints: b.endpoints,
		}))
		return
	}
	if apiequality.Semantic.DeepEqual(b.existing.Endpoints, b.endpoints) && apiequality.Semantic.DeepEqual(b.existing.Ports, b.ports) && maps.Equal(b.existing.Labels, r.labels) {
		return
	}
	next := b.existing.DeepCopy()
	next.Endpoints, next.Ports, next.Labels = b.endpoints, b.ports, r.labels
	r.plan.Add(plan.Update(plan.EndpointSlices, next))
}

// sliceLabels are the service's labels and this controller's own.
func sliceLabels(svc *corev1.Service) map[string]string {
	out := maps.Clone(svc.Labels)
	if out == nil {
		out = map[string]string{}
	}
	delete(out, corev1.IsHeadlessService)
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		out[corev1.IsHeadlessService] = ""
	}
	out[discoveryv1.LabelServiceName] = svc.Name
	out[discoveryv1.LabelManagedBy] = ManagedBy
	return out
}

// addressTypes returns the families that the service is reached by.
func addressTypes(svc *corev1.Service) []discoveryv1.AddressType {
	var out []discoveryv1.AddressType
	for _, f := range svc.Spec.IPFamilies {
		if f == corev1.IPv6Protocol {
			out = append(out, discoveryv1.AddressTypeIPv6)
		} else {
			out = append(out, discoveryv1.AddressTypeIPv4)
		}
	}
	if len(out) > 0 {
		return out
	}
	if strings.Contains(svc.Spec.ClusterIP, ":") {
		return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv6}
	}
	return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}
}

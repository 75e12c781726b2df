// Package endpointslicemirroring mirrors Endpoints that users keep by hand into EndpointSlices, which is what proxies and DNS
// read.
//
// Reconcile is pure: an Endpoints object of a Service without selector has one slice per set of ports and address family; the
// slices belong to it and go with it. Endpoints of Services with a selector are made from pods, as are their slices, and
// are left alone; so are those that ask for it by label, and those that only hold an election.
package endpointslicemirroring

import (
	"fmt"
	"maps"
	"net/netip"
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
	// ManagedBy marks this controller's slices.
	ManagedBy = "endpointslicemirroring-controller.k8s.io"
	// MaxPerSubset is upstream's limit of addresses that are mirrored of one subset.
	MaxPerSubset = 1000
	// electionAnnotation marks Endpoints that are locks of an old kind.
	electionAnnotation = "control-plane.alpha.kubernetes.io/leader"
)

// dropped are annotations that mean the Endpoints object itself.
var dropped = []string{electionAnnotation, corev1.LastAppliedConfigAnnotation, corev1.EndpointsLastChangeTriggerTime}

// Input is what a decision is made from.
type Input struct {
	// Endpoints and Service of one name, nil if there is none.
	Endpoints *corev1.Endpoints
	Service   *corev1.Service
	// Slices are those of the Service's name that carry ManagedBy.
	Slices []*discoveryv1.EndpointSlice
	// NameTaken reports whether a slice of that name exists in the namespace.
	NameTaken func(name string) bool
}

// Reconcile plans the slices of one Endpoints object.
func Reconcile(in Input) plan.Plan {
	var p plan.Plan
	want := map[string]*discoveryv1.EndpointSlice{}
	if mirrored(in) {
		want = desired(&p, in.Endpoints)
	}
	for _, s := range slices.SortedFunc(slices.Values(in.Slices), func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) }) {
		key := groupKey(s.AddressType, s.Ports)
		w := want[key]
		delete(want, key)
		switch {
		case s.DeletionTimestamp != nil:
		case w == nil:
			p.Add(plan.Delete(plan.EndpointSlices, s))
		case !same(s, w):
			next := s.DeepCopy()
			next.Endpoints, next.Ports, next.Labels, next.Annotations = w.Endpoints, w.Ports, w.Labels, w.Annotations
			p.Add(plan.Update(plan.EndpointSlices, next))
		}
	}
	if len(want) == 0 {
		return p
	}
	names := owner.NewNames(in.Endpoints.Name+"-", in.Endpoints.UID, "mirror", in.NameTaken)
	for _, key := range slices.Sorted(maps.Keys(want)) {
		want[key].Name = names.Next()
		p.Add(plan.Create(plan.EndpointSlices, want[key]))
	}
	return p
}

func mirrored(in Input) bool {
	e, s := in.Endpoints, in.Service
	if e == nil || s == nil || e.DeletionTimestamp != nil || s.DeletionTimestamp != nil || s.Spec.Selector != nil {
		return false
	}
	_, election := e.Annotations[electionAnnotation]
	return !election && e.Labels[discoveryv1.LabelSkipMirror] != "true"
}

func same(a, b *discoveryv1.EndpointSlice) bool {
	return apiequality.Semantic.DeepEqual(a.Endpoints, b.Endpoints) && apiequality.Semantic.DeepEqual(a.Ports, b.Ports) &&
		maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations)
}

// desired makes the slices, by their family and ports. Addresses that cannot be parsed are named in an event and left out.
func desired(p *plan.Plan, e *corev1.Endpoints) map[string]*discoveryv1.EndpointSlice {
	out := map[string]*discoveryv1.EndpointSlice{}
	for _, subset := range e.Subsets {
		ports := portsOf(subset.Ports)
		count := 0
		add := func(list []corev1.EndpointAddress, ready bool) {
			for i := range list {
				addr, err := netip.ParseAddr(list[i].IP)
				if err != nil {
					p.Event(e, corev1.EventTypeWarning, "InvalidIPAddress", "Skipped %d invalid IP addresses when mirroring to EndpointSlices", 1)
					continue
				}
				if count++; count > MaxPerSubset {
					return
				}
				family := discoveryv1.AddressTypeIPv4
				if addr.Is6() {
					family = discoveryv1.AddressTypeIPv6
				}
				key := groupKey(family, ports)
				if out[key] == nil {
					out[key] = slice(e, family, ports)
				}
				out[key].Endpoints = append(out[key].Endpoints, endpoint(&list[i], ready))
			}
		}
		add(subset.Addresses, true)
		add(subset.NotReadyAddresses, false)
		if count > MaxPerSubset {
			p.Event(e, corev1.EventTypeWarning, "TooManyAddressesToMirror", "A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %d addresses were skipped", MaxPerSubset,
				len(subset.Addresses)+len(subset.NotReadyAddresses)-MaxPerSubset)
		}
	}
	return out
}

func slice(e *corev1.Endpoints, family discoveryv1.AddressType, ports []discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: e.Namespace, GenerateName: e.Name + "-", Labels: map[string]string{}, OwnerReferences: []metav1.OwnerReference{owner.Ref(plan.Endpoints, e)},
		},
		AddressType: family, Ports: ports,
	}
	maps.Copy(s.Labels, e.Labels)
	s.Labels[discoveryv1.LabelServiceName], s.Labels[discoveryv1.LabelManagedBy] = e.Name, ManagedBy
	for k, v := range e.Annotations {
		if slices.Contains(dropped, k) {
			continue
		}
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[k] = v
	}
	return s
}

func endpoint(a *corev1.EndpointAddress, ready bool) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{
		Addresses: []string{a.IP}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, TargetRef: a.TargetRef, NodeName: a.NodeName,
	}
	if a.Hostname != "" {
		e.Hostname = &a.Hostname
	}
	return e
}

func portsOf(list []corev1.EndpointPort) []discoveryv1.EndpointPort {
	out := []discoveryv1.EndpointPort{}
	for i := range list {
		p := list[i]
		out = append(out, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol, AppProtocol: p.AppProtocol})
	}
	return out
}

// groupKey is equal for equal families and sets of ports.
func groupKey(family discoveryv1.AddressType, ports []discoveryv1.EndpointPort) string {
	var parts []string
	for _, p := range ports {
		parts = append(parts, fmt.Sprintf("%q/%q/%d/%q", text(p.Name), text(p.Protocol), number(p.Port), text(p.AppProtocol)))
	}
	slices.Sort(parts)
	return string(family) + " " + strings.Join(parts, ";")
}

func text[S ~string](s *S) S {
	if s == nil {
		return ""
	}
	return *s
}

func number(n *int32) int32 {
	if n == nil {
		return 0
	}
	return *n
}

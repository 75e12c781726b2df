package devices

import (
	"crypto/sha1"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
)

// result is the allocation of the i-th pending claim.
func (s *search) result(i int) *resourcev1.AllocationResult {
	p, out := s.pending[i], &resourcev1.AllocationResult{}
	for n, c := range s.chosen[i] {
		r := resourcev1.DeviceRequestAllocationResult{
			Request: c.of.name, Driver: c.id.pool.driver, Pool: c.id.pool.name, Device: c.Name, Tolerations: c.of.tolerations,
			BindingConditions: c.BindingConditions, BindingFailureConditions: c.BindingFailureConditions, SkipNodeOperations: c.skip,
		}
		if c.of.admin {
			yes := true
			r.AdminAccess = &yes
		}
		if c.shared() && !c.of.admin {
			id := shareID(p.claim.UID, r, n)
			r.ShareID, r.ConsumedCapacity = &id, c.consumed
		}
		out.Devices.Results = append(out.Devices.Results, r)
	}
	out.Devices.Config = s.config(i)
	out.NodeSelector = s.where(s.chosen[i])
	return out
}

// shareID names a share of a device: a UUID made of names (RFC 9562, version 5), so that the same decision names it the same.
func shareID(claim types.UID, r resourcev1.DeviceRequestAllocationResult, n int) types.UID {
	h := sha1.Sum(fmt.Appendf(nil, "%s/%s/%s/%s/%d", claim, r.Driver, r.Pool, r.Device, n))
	h[6], h[8] = h[6]&0x0f|0x50, h[8]&0x3f|0x80
	return types.UID(fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16]))
}

// config lists the configuration of a claim's devices: the classes' first, so that the claim's, which comes later, wins.
func (s *search) config(i int) []resourcev1.DeviceAllocationConfiguration {
	claim := s.pending[i].claim
	var out []resourcev1.DeviceAllocationConfiguration
	var allocated []*alternative
	for _, c := range s.chosen[i] {
		if !slices.Contains(allocated, c.of) {
			allocated = append(allocated, c.of)
		}
	}
	for _, a := range allocated {
		for _, c := range a.class.Spec.Config {
			out = append(out, resourcev1.DeviceAllocationConfiguration{
				Source: resourcev1.AllocationConfigSourceClass, Requests: []string{a.name}, DeviceConfiguration: c.DeviceConfiguration,
			})
		}
	}
	for _, c := range claim.Spec.Devices.Config {
		if len(c.Requests) == 0 || slices.ContainsFunc(allocated, func(a *alternative) bool {
			return slices.Contains(c.Requests, a.name) || slices.Contains(c.Requests, a.parent)
		}) {
			out = append(out, resourcev1.DeviceAllocationConfiguration{
				Source: resourcev1.AllocationConfigSourceClaim, Requests: c.Requests, DeviceConfiguration: c.DeviceConfiguration,
			})
		}
	}
	for n := range out {
		if appliesToAll(out[n].Requests, claim, allocated) {
			out[n].Requests = nil // which means all
		}
	}
	return out
}

// appliesToAll tells whether a list of requests names every request of a claim, or the alternative that was taken of it.
func appliesToAll(names []string, claim *resourcev1.ResourceClaim, allocated []*alternative) bool {
	for i := range claim.Spec.Devices.Requests {
		name := claim.Spec.Devices.Requests[i].Name
		if !slices.Contains(names, name) && !slices.ContainsFunc(allocated, func(a *alternative) bool {
			return a.parent == name && slices.Contains(names, a.name)
		}) {
			return false
		}
	}
	return true
}

// where is from which nodes chosen devices can all be used; nil for everywhere.
func (s *search) where(chosen []choice) *corev1.NodeSelector {
	var term corev1.NodeSelectorTerm
	for _, c := range chosen {
		switch {
		case c.reach.node != "":
			return nodeNamed(c.reach.node)
		case c.BindsToNode != nil && *c.BindsToNode:
			return nodeNamed(s.node.Name)
		case c.reach.terms == nil:
		default: // validation allows exactly one term
			for _, t := range c.reach.terms.NodeSelectorTerms {
				term.MatchExpressions = appendNew(term.MatchExpressions, t.MatchExpressions)
				term.MatchFields = appendNew(term.MatchFields, t.MatchFields)
			}
		}
	}
	if len(term.MatchExpressions) == 0 && len(term.MatchFields) == 0 {
		return nil
	}
	return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term}}
}

func nodeNamed(name string) *corev1.NodeSelector {
	return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
		{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{name}},
	}}}}
}

// appendNew appends the requirements that are not in the list.
func appendNew(list, more []corev1.NodeSelectorRequirement) []corev1.NodeSelectorRequirement {
	for _, r := range more {
		if !slices.ContainsFunc(list, func(have corev1.NodeSelectorRequirement) bool { return equality.Semantic.DeepEqual(have, r) }) {
			list = append(list, r)
		}
	}
	return list
}

// Package servicecidr keeps ServiceCIDRs and IPAddresses (KEP-1880) true: it says of each ServiceCIDR when Services may take
// addresses from it, lets none go that addresses of Services are in, and makes the IPAddresses agree with the Services.
//
// The Services' addresses themselves are chosen and held when a Service is written, by registry/core and the pipeline, which
// write the IPAddress in the same commit. What is left here is what no single write can do. Every API server runs it; all of them
// write the same things, each conditional on what it was decided from, so that it does not matter who is first.
//
//	plan := servicecidr.Decide(servicecidr.Snapshot{CIDRs: cidrs, Addresses: addresses}, now)
package servicecidr

import (
	"net/netip"
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Finalizer keeps a ServiceCIDR until no address is in it.
const Finalizer = "networking.k8s.io/service-cidr-finalizer"

// settle is how long a ServiceCIDR that nobody may take addresses from any more is kept, so that every API server has heard of
// it, and what they wrote before can be seen: their caches are milliseconds behind, or they fail.
const settle = 5 * time.Second

const (
	ready   = "Kubernetes Service CIDR is ready"
	leaving = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
)

// Snapshot is what a decision is made from.
type Snapshot struct {
	CIDRs     []*networkingv1.ServiceCIDR
	Addresses []*networkingv1.IPAddress
}

// Plan is what to write. Its objects are copies, to be written on condition that they have not changed since.
type Plan struct {
	// Objects have other finalizers, Statuses another status.
	Objects, Statuses []*networkingv1.ServiceCIDR
	// Again is when something is to be looked at again though nothing changes; 0 means never.
	Again time.Duration
}

// Decide says what of the ServiceCIDRs is to be changed.
func Decide(s Snapshot, now time.Time) Plan {
	var p Plan
	for _, c := range s.CIDRs {
		if c.DeletionTimestamp == nil {
			p.welcome(c, now)
		} else if slices.Contains(c.Finalizers, Finalizer) {
			p.dismiss(c, s, now)
		}
	}
	return p
}

// welcome protects a ServiceCIDR and then says that it is ready: one that is used is always protected.
func (p *Plan) welcome(c *networkingv1.ServiceCIDR, now time.Time) {
	c = c.DeepCopy()
	if !slices.Contains(c.Finalizers, Finalizer) {
		c.Finalizers = append(c.Finalizers, Finalizer)
		p.Objects = append(p.Objects, c)
		return
	}
	if !meta.IsStatusConditionTrue(c.Status.Conditions, networkingv1.ServiceCIDRConditionReady) {
		setReady(c, metav1.ConditionTrue, "", ready, now)
		p.Statuses = append(p.Statuses, c)
	}
}

// dismiss first has nobody take addresses from a ServiceCIDR, and lets it go once none is left in it.
func (p *Plan) dismiss(c *networkingv1.ServiceCIDR, s Snapshot, now time.Time) {
	c = c.DeepCopy()
	condition := meta.FindStatusCondition(c.Status.Conditions, networkingv1.ServiceCIDRConditionReady)
	if condition == nil || condition.Status != metav1.ConditionFalse {
		setReady(c, metav1.ConditionFalse, networkingv1.ServiceCIDRReasonTerminating, leaving, now)
		p.Statuses = append(p.Statuses, c)
		p.Again = settle
		return
	}
	// The condition's time is in whole seconds, and may have been rounded down.
	if wait := condition.LastTransitionTime.Add(settle + time.Second).Sub(now); wait > 0 || s.holds(c) {
		p.Again = settle
		return
	}
	c.Finalizers = slices.DeleteFunc(c.Finalizers, func(f string) bool { return f == Finalizer })
	p.Objects = append(p.Objects, c)
}

func setReady(c *networkingv1.ServiceCIDR, status metav1.ConditionStatus, reason, message string, now time.Time) {
	meta.SetStatusCondition(&c.Status.Conditions, metav1.Condition{
		Type: networkingv1.ServiceCIDRConditionReady, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(now),
	})
}

// holds reports whether an address is in a ServiceCIDR and in no other one that stays.
func (s Snapshot) holds(c *networkingv1.ServiceCIDR) bool {
	var others []netip.Prefix
	for _, other := range s.CIDRs {
		if other.Name != c.Name && other.DeletionTimestamp == nil && meta.IsStatusConditionTrue(other.Status.Conditions, networkingv1.ServiceCIDRConditionReady) {
			others = append(others, prefixes(other)...)
		}
	}
	own := prefixes(c)
	return slices.ContainsFunc(s.Addresses, func(a *networkingv1.IPAddress) bool {
		ip, err := netip.ParseAddr(a.Name)
		in := func(p netip.Prefix) bool { return p.Contains(ip) }
		return err == nil && slices.ContainsFunc(own, in) && !slices.ContainsFunc(others, in)
	})
}

func prefixes(c *networkingv1.ServiceCIDR) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range c.Spec.CIDRs {
		if p, err := netip.ParsePrefix(text); err == nil {
			list = append(list, p)
		}
	}
	return list
}

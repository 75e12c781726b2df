package servicecidr_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/servicecidr"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 500, time.UTC)

func cidr(name string, networks ...string) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: networks}}
}

func address(name string) *networkingv1.IPAddress {
	return &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// state is a small model of a store that a plan is carried out on.
type state struct {
	servicecidr.Snapshot
	now time.Time
}

// step carries out one plan, and says what was done.
func (s *state) step() string {
	p := servicecidr.Decide(s.Snapshot, s.now)
	var did []string
	for _, c := range p.Objects {
		did = append(did, fmt.Sprintf("%s finalizers %v", c.Name, c.Finalizers))
		s.replace(c)
	}
	for _, c := range p.Statuses {
		did = append(did, fmt.Sprintf("%s %s %s", c.Name, c.Status.Conditions[0].Status, c.Status.Conditions[0].Reason))
		s.replace(c)
	}
	if p.Again > 0 {
		did = append(did, "again in "+p.Again.String())
	}
	return strings.Join(did, ", ")
}

func (s *state) replace(c *networkingv1.ServiceCIDR) {
	i := slices.IndexFunc(s.CIDRs, func(o *networkingv1.ServiceCIDR) bool { return o.Name == c.Name })
	if c.DeletionTimestamp != nil && len(c.Finalizers) == 0 {
		s.CIDRs = slices.Delete(s.CIDRs, i, i+1)
		return
	}
	s.CIDRs[i] = c
}

func (s *state) remove(name string) {
	for _, c := range s.CIDRs {
		if c.Name == name {
			c.DeletionTimestamp = &metav1.Time{Time: s.now}
		}
	}
}

func (s *state) expect(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := s.step(); got != w {
			t.Fatalf("got %q, want %q", got, w)
		}
	}
}

const finalizers = " finalizers [networking.k8s.io/service-cidr-finalizer]"

// A ServiceCIDR is protected before it is ready; one that is deleted is used by nobody at once, and goes when no address is in it.
func TestLife(t *testing.T) {
	s := &state{now: start}
	s.CIDRs = []*networkingv1.ServiceCIDR{cidr("more", "10.9.0.0/24", "fd00::/112")}
	s.Addresses = []*networkingv1.IPAddress{address("10.96.0.1"), address("fd00::7")}
	s.expect(t, "more"+finalizers, "more True ", "")
	s.remove("more")
	s.expect(t, "more False Terminating, again in 5s", "again in 5s")
	s.now = s.now.Add(time.Minute)
	s.expect(t, "again in 5s")
	s.Addresses = s.Addresses[:1]
	s.expect(t, "more finalizers []", "")
	if len(s.CIDRs) != 0 {
		t.Errorf("left: %v", s.CIDRs)
	}
}

// Until every server has heard that a ServiceCIDR goes, it stays though it is empty.
func TestSettle(t *testing.T) {
	s := &state{now: start}
	s.CIDRs = []*networkingv1.ServiceCIDR{cidr("more", "10.9.0.0/24")}
	s.expect(t, "more"+finalizers, "more True ")
	s.remove("more")
	s.expect(t, "more False Terminating, again in 5s")
	s.now = s.now.Add(5 * time.Second)
	s.expect(t, "again in 5s")
	s.now = s.now.Add(time.Second)
	s.expect(t, "more finalizers []")
}

// An address keeps a ServiceCIDR only if no other one that is ready has it.
func TestOverlap(t *testing.T) {
	s := &state{now: start}
	s.CIDRs = []*networkingv1.ServiceCIDR{cidr("small", "10.9.0.0/24"), cidr("wide", "10.9.0.0/16")}
	s.Addresses = []*networkingv1.IPAddress{address("10.9.0.3")}
	s.step()
	s.step()
	s.remove("small")
	s.step()
	s.now = s.now.Add(time.Minute)
	s.expect(t, "small finalizers []")
	s.remove("wide")
	s.step()
	s.now = s.now.Add(time.Minute)
	s.expect(t, "again in 5s")
}

// The IPAddresses that repair makes and removes are those in which Services and IPAddresses differ, and nobody else's.
func TestRepair(t *testing.T) {
	service := func(name string, ips ...string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.ServiceSpec{ClusterIPs: ips}}
	}
	services := []*corev1.Service{service("a", "10.0.0.1", "fd00:0::1"), service("headless", "None"), service("b", "10.0.0.2")}
	have := servicecidr.Missing(services, nil)
	if names := namesOf(have); names != "10.0.0.1 fd00::1 10.0.0.2" {
		t.Fatalf("missing: %s", names)
	}
	if l := have[1]; l.Labels[networkingv1.LabelIPAddressFamily] != "IPv6" || l.Spec.ParentRef.Name != "a" || l.Spec.ParentRef.Namespace != "ns" {
		t.Errorf("got %v", l)
	}
	if none := servicecidr.Missing(services, have); len(none) > 0 {
		t.Errorf("missing: %s", namesOf(none))
	}
	if none := servicecidr.Orphans(services, have); len(none) > 0 {
		t.Errorf("orphans: %s", namesOf(none))
	}
	foreign := address("10.0.0.9")
	foreign.Spec.ParentRef = &networkingv1.ParentReference{Group: "example.com", Resource: "gateways", Name: "g"}
	services[0].Spec.ClusterIPs = services[0].Spec.ClusterIPs[:1]
	if names := namesOf(servicecidr.Orphans(services[:1], append(have, foreign))); names != "fd00::1 10.0.0.2" {
		t.Errorf("orphans: %s", names)
	}
}

func namesOf(list []*networkingv1.IPAddress) string {
	var names []string
	for _, a := range list {
		names = append(names, a.Name)
	}
	return strings.Join(names, " ")
}

package plan

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Family is an IP family; a plan never mixes two.
type Family uint8

// The two families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Of reports the family of an address; an IPv4-mapped IPv6 address counts as IPv6 and should be unmapped first.
func Of(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// Unspecified is 0.0.0.0 or ::, which as a frontend's address means "any address of this node".
func (f Family) Unspecified() netip.Addr {
	if f == IPv4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// String is "IPv4" or "IPv6", as the Kubernetes API spells it.
func (f Family) String() string {
	if f == IPv4 {
		return "IPv4"
	}
	return "IPv6"
}

// Protocol is an upper-case transport protocol, as the Kubernetes API spells it.
type Protocol = corev1.Protocol

// Node is what the plan must know about the node that it is for.
type Node struct {
	// Name is the node's name; endpoints with it as nodeName are local.
	Name string
	// Zone is the node's topology.kubernetes.io/zone label; empty if unknown.
	Zone string
	// AllowExternalIPs makes spec.externalIPs effective. Off by default: anyone who may create a Service could
	// otherwise take over the traffic to any address (CVE-2020-8554).
	AllowExternalIPs bool
}

// Kind is the way a frontend came to be.
type Kind uint8

// The kinds of frontends.
const (
	ClusterIP Kind = iota
	ExternalIP
	LoadBalancer
	NodePort
)

var kindNames = [...]string{"cluster-ip", "external-ip", "load-balancer", "node-port"}

// String is the name used in printed plans.
func (k Kind) String() string { return kindNames[k] }

// Action is what happens to the first packet of a connection to a frontend.
type Action uint8

// The actions. Reject answers with an ICMP error: nobody serves this service anywhere. Drop stays silent: other nodes
// do serve it, so a load balancer should try there.
const (
	Balance Action = iota
	Reject
	Drop
)

var actionNames = [...]string{"balance", "reject", "drop"}

// String is the name used in printed plans.
func (a Action) String() string { return actionNames[a] }

// Address is the place of a frontend: what a packet must carry as destination.
type Address struct {
	Addr     netip.Addr // unspecified: any address of the node (NodePort)
	Port     uint16
	Protocol Protocol
}

// Compare orders addresses by protocol, address and port.
func (a Address) Compare(b Address) int {
	if c := strings.Compare(string(a.Protocol), string(b.Protocol)); c != 0 {
		return c
	}
	if c := a.Addr.Compare(b.Addr); c != 0 {
		return c
	}
	return int(a.Port) - int(b.Port)
}

// Frontend is one place at which packets for a Port arrive.
type Frontend struct {
	Kind Kind
	Address
	// LocalOnly: traffic is served by the Port's Local pool; for external kinds, traffic that starts in the cluster
	// still uses the Cluster pool.
	LocalOnly bool
	// Restricted: only packets from Sources may use it (which can be none at all).
	Restricted bool
	Sources    []netip.Prefix
	// Shadowed: another service owns this address; no rules are made for it. Set by Set, never by ForService.
	Shadowed bool
}

// External says whether traffic arrives from outside the cluster by design.
func (f Frontend) External() bool { return f.Kind != ClusterIP }

// Equal compares by value.
func (f Frontend) Equal(o Frontend) bool {
	return f.Kind == o.Kind && f.Address == o.Address && f.LocalOnly == o.LocalOnly &&
		f.Restricted == o.Restricted && f.Shadowed == o.Shadowed && slices.Equal(f.Sources, o.Sources)
}

// Port is one port of a Service in one family.
type Port struct {
	Service  string // namespace/name
	Name     string // the port's name; empty if it has none
	Protocol Protocol
	// Cluster and Local are sorted and without duplicates. Local is empty unless a policy needs it.
	Cluster []netip.AddrPort
	Local   []netip.AddrPort
	// AffinitySeconds is the ClientIP session affinity's timeout; zero: no affinity.
	AffinitySeconds int32
	Frontends       []Frontend // sorted by Address
}

// ID names the port for people and for hashing: "namespace/name:port/PROTOCOL".
func (p Port) ID() string {
	return p.Service + ":" + p.Name + "/" + string(p.Protocol)
}

// Action is what happens to traffic for f from outside the cluster.
func (p Port) Action(f Frontend) Action {
	switch {
	case f.LocalOnly && len(p.Local) > 0, !f.LocalOnly && len(p.Cluster) > 0:
		return Balance
	case f.LocalOnly && len(p.Cluster) > 0:
		return Drop
	}
	return Reject
}

// Equal compares by value.
func (p Port) Equal(o Port) bool {
	return p.Service == o.Service && p.Name == o.Name && p.Protocol == o.Protocol &&
		p.AffinitySeconds == o.AffinitySeconds && slices.Equal(p.Cluster, o.Cluster) &&
		slices.Equal(p.Local, o.Local) && slices.EqualFunc(p.Frontends, o.Frontends, Frontend.Equal)
}

// HealthCheck is the answer to a load balancer that asks on a node port whether this node serves the service.
type HealthCheck struct {
	Port      uint16
	Endpoints int // ready endpoints on this node, each address once
}

// Service is all rules of one Service in one family. The zero value has none.
type Service struct {
	Key    string // namespace/name
	Ports  []Port // sorted by ID
	Health HealthCheck
	// Hairpin lists the addresses of this node's endpoints, sorted: a pod that reaches itself through the service needs
	// its source address rewritten, or it would answer itself directly.
	Hairpin []netip.Addr
}

// Empty says that the service needs nothing from the kernel.
func (s Service) Empty() bool { return len(s.Ports) == 0 && s.Health == HealthCheck{} }

// Equal compares by value.
func (s Service) Equal(o Service) bool {
	return s.Key == o.Key && s.Health == o.Health && slices.EqualFunc(s.Ports, o.Ports, Port.Equal) &&
		slices.Equal(s.Hairpin, o.Hairpin)
}

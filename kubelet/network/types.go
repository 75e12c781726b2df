package network

import (
	"errors"
	"net/netip"
)

// DefaultBridge is the bridge's name unless configured.
const DefaultBridge = "bareboat0"

// The errors of this package, to be matched with errors.Is.
var (
	// ErrNoAddress: every address of the node's pod range is taken.
	ErrNoAddress = errors.New("no free pod address on this node")
	// ErrPortTaken: another pod has the host port.
	ErrPortTaken = errors.New("host port is taken")
	// ErrNotFound: the pod has no network.
	ErrNotFound = errors.New("pod network not found")
	// ErrInvalid: the configuration or request makes no sense.
	ErrInvalid = errors.New("invalid network configuration")
)

// Config is the node's pod network.
type Config struct {
	// PodCIDRs are the node's own ranges (Node.spec.podCIDRs): one, or one of each family. Required.
	PodCIDRs []netip.Prefix
	// ClusterCIDRs are the ranges of all pods: traffic to them keeps its source address. Empty means PodCIDRs.
	ClusterCIDRs []netip.Prefix
	// NodeIPs are the node's own addresses, at most one of each family, as other nodes know them. Without one of a family, nodes of that
	// family on other segments cannot be reached.
	NodeIPs []netip.Addr
	// StateDir holds the allocations. Required.
	StateDir string
	// Bridge is an interface name; "" means DefaultBridge.
	Bridge string
	// MTU of the pods' interfaces; 0 means that of the interface with the default route, or 1500.
	MTU int
	// NoMasquerade leaves the source addresses of traffic to the outside alone.
	NoMasquerade bool
	// NetNSPath names the network namespace to act on; "" is the process's own. For tests and nodes in namespaces.
	NetNSPath string
}

// Attachment asks for a pod to be connected.
type Attachment struct {
	// PodUID, and the pod's network namespace. Required.
	PodUID    string
	NetNSPath string
	// Namespace and Name are for people reading the interfaces' aliases.
	Namespace, Name string
	HostPorts       []HostPort
	// IngressBandwidth and EgressBandwidth are in bits per second, as the pod sees it; 0 is no limit
	// (annotations kubernetes.io/ingress-bandwidth and egress-bandwidth).
	IngressBandwidth, EgressBandwidth uint64
}

// Protocol of a port, as in the API: TCP, UDP or SCTP.
type Protocol string

// The protocols.
const (
	TCP  Protocol = "TCP"
	UDP  Protocol = "UDP"
	SCTP Protocol = "SCTP"
)

// HostPort is a port of the node that leads to the pod (ContainerPort.hostPort).
type HostPort struct {
	Protocol Protocol `json:"protocol"`
	// HostIP limits it to one of the node's addresses; the zero value is all of them.
	HostIP        netip.Addr `json:"hostIP,omitzero"`
	HostPort      uint16     `json:"hostPort"`
	ContainerPort uint16     `json:"containerPort"`
}

// Attached is a pod's place in the network.
type Attached struct {
	PodUID string `json:"podUID"`
	// IPs are the pod's addresses, one per range, in the order of Config.PodCIDRs.
	IPs []netip.Addr `json:"ips"`
	// HostInterface is the node's end of the pod's veth pair; the pod's is eth0.
	HostInterface string     `json:"hostInterface"`
	HostPorts     []HostPort `json:"hostPorts,omitempty"`
}

// Route leads to another node's pods.
type Route struct {
	Destination netip.Prefix
	Gateway     netip.Addr
}

// Stats are the counters of a pod's interface, as the pod sees them.
type Stats struct {
	ReceivedBytes, ReceivedPackets, ReceivedErrors, ReceivedDropped uint64
	SentBytes, SentPackets, SentErrors, SentDropped                 uint64
}

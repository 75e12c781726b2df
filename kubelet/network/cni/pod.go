package cni

import (
	"math"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"bareboat.dev/kubelet/network"
)

// capabilities are what plug-ins that ask for them are told (CONVENTIONS.md of the specification).
func capabilities(a network.Attachment) map[string]any {
	all := map[string]any{}
	var ports []map[string]any
	for _, p := range a.HostPorts {
		m := map[string]any{"hostPort": p.HostPort, "containerPort": p.ContainerPort, "protocol": lower(p.Protocol)}
		if p.HostIP.IsValid() {
			m["hostIP"] = p.HostIP.String()
		}
		ports = append(ports, m)
	}
	if len(ports) > 0 {
		all["portMappings"] = ports
	}
	bandwidth := map[string]any{}
	const burst = math.MaxInt32 // bits: as other runtimes have it, the rate alone counts
	if a.IngressBandwidth > 0 {
		bandwidth["ingressRate"], bandwidth["ingressBurst"] = a.IngressBandwidth, burst
	}
	if a.EgressBandwidth > 0 {
		bandwidth["egressRate"], bandwidth["egressBurst"] = a.EgressBandwidth, burst
	}
	if len(bandwidth) > 0 {
		all["bandwidth"] = bandwidth
	}
	return all
}

func lower(p network.Protocol) string {
	switch p {
	case network.UDP:
		return "udp"
	case network.SCTP:
		return "sctp"
	}
	return "tcp"
}

// inodeOf tells one network namespace from another (namespaces(7)).
func inodeOf(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}

// loopback brings a pod's own loopback interface up, which plug-ins leave to the runtime.
func loopback(path string) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	return h.LinkSetUp(lo)
}

package network

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Shows that a pod that sends frames in another's name gets none of its traffic: the other is reached as before, and who has which address,
// and the gateway's, is fixed at both ends until the pod goes.
func TestPodsCannotPoseAsOthers(t *testing.T) {
	node := newNode(t)
	n := openNetwork(t, config(t, node, "10.244.7.0/24"))
	_, attacker := setup(t, n, "attacker")
	victim, ns := setup(t, n, "victim")
	serve(t, ns, victim.IPs[0].String()+":80")
	if _, err := ask(node, victim.IPs[0].String()+":80"); err != nil {
		t.Fatal(err)
	}
	mac := hardwareAddress(t, ns)
	gateway := net.ParseIP("10.244.7.1").To4()
	sendFrame(t, attacker, slices.Concat([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, []byte(mac), []byte{0x88, 0xb5, 0}))
	// ARP: the victim's address, and for the victim the gateway's, is here.
	own := []byte(hardwareAddress(t, attacker))
	for _, claimed := range [][]byte{victim.IPs[0].AsSlice(), gateway} {
		sendFrame(t, attacker, slices.Concat([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, own, []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 2}, own, claimed,
			[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, claimed))
	}
	if _, err := ask(node, victim.IPs[0].String()+":80"); err != nil {
		t.Errorf("the victim cannot be reached: %v", err)
	}
	if got := neighbour(t, node, n.bridge, victim.IPs[0]); got == nil || got.State != netlink.NUD_PERMANENT || !bytes.Equal(got.HardwareAddr, mac) {
		t.Errorf("the node believes that the victim is %+v", got)
	}
	if got := neighbour(t, ns, 0, netip.MustParseAddr("10.244.7.1")); got == nil || got.State != netlink.NUD_PERMANENT || !bytes.Equal(got.HardwareAddr, bridgeMAC(DefaultBridge)) {
		t.Errorf("the victim believes that the gateway is %+v", got)
	}
	if err := n.Teardown(t.Context(), "victim"); err != nil {
		t.Fatal(err)
	}
	if got := neighbour(t, node, n.bridge, victim.IPs[0]); got != nil {
		t.Errorf("left: %+v", got)
	}
}

// Shows that nobody follows a router that a pod advertises (CVE-2020-13401, CVE-2020-10749), nor its redirects.
func TestPodsCannotPoseAsRouters(t *testing.T) {
	node := newNode(t)
	n := openNetwork(t, config(t, node, "10.244.7.0/24"))
	_, attacker := setup(t, n, "attacker")
	_, victim := setup(t, n, "victim")
	source, everybody := net.ParseIP("fe80::bad").To16(), net.ParseIP("ff02::1").To16()
	advertisement := slices.Concat([]byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1}, []byte(hardwareAddress(t, attacker)))
	binary.BigEndian.PutUint16(advertisement[2:], icmpChecksum(source, everybody, advertisement))
	sendFrame(t, attacker, slices.Concat([]byte{0x33, 0x33, 0, 0, 0, 1}, []byte(hardwareAddress(t, attacker)), []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(advertisement)), 58, 255},
		[]byte(source), []byte(everybody), advertisement))
	for who, at := range map[string]struct{ ns, link string }{"node": {node, DefaultBridge}, "pod": {victim, podInterface}} {
		withHandle(t, at.ns, func(h *netlink.Handle) {
			routes, err := h.RouteList(nil, netlink.FAMILY_V6)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range routes {
				if r.Gw != nil {
					t.Errorf("%s has a route by way of %s", who, r.Gw)
				}
			}
		})
		err := in(at.ns, func() error {
			for _, name := range []string{"ipv6/conf/" + at.link + "/accept_ra", "ipv6/conf/" + at.link + "/accept_redirects", "ipv4/conf/" + at.link + "/accept_redirects"} {
				if data, err := os.ReadFile("/proc/sys/net/" + name); err != nil || string(data) != "0\n" {
					t.Errorf("%s: %s is %q, %v", who, name, data, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func hardwareAddress(t *testing.T, ns string) (mac net.HardwareAddr) {
	t.Helper()
	withHandle(t, ns, func(h *netlink.Handle) {
		link, err := h.LinkByName(podInterface)
		if err != nil {
			t.Fatal(err)
		}
		mac = link.Attrs().HardwareAddr
	})
	return mac
}

// sendFrame sends from a pod what it wants to have sent.
func sendFrame(t *testing.T, ns string, frame []byte) {
	t.Helper()
	err := in(ns, func() error {
		link, err := net.InterfaceByName(podInterface)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// neighbour is what a namespace believes of an address; link 0 is any.
func neighbour(t *testing.T, ns string, link int, ip netip.Addr) (found *netlink.Neigh) {
	t.Helper()
	withHandle(t, ns, func(h *netlink.Handle) {
		list, err := h.NeighList(link, netlink.FAMILY_ALL)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.IP.Equal(ip.AsSlice()) {
				found = &e
			}
		}
	})
	return found
}

// icmpChecksum is that of ICMPv6 (RFC 4443, 2.3).
func icmpChecksum(source, destination net.IP, message []byte) uint16 {
	data := slices.Concat([]byte(source), []byte(destination), []byte{0, 0, 0, byte(len(message)), 0, 0, 0, 58}, message)
	var sum uint32
	for i := 0; i+1 < len(data); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(data[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

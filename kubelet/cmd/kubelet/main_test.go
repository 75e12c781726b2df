package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"bareboat.dev/kubelet/shim/shimtest"
)

// inside tells the test binary that it runs in namespaces of its own.
const inside = "BAREBOAT_TEST_INSIDE"

// TestMain runs the tests in a network and a mount namespace of their own: nothing that a kubelet does there can touch the host.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests run containers and must run as root")
		os.Exit(1)
	}
	if os.Getenv(inside) != "" {
		os.Exit(runInside(m))
	}
	os.Exit(runAgain())
}

// runAgain runs this binary once more, in new namespaces.
func runAgain() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// runInside gives the namespace an uplink, builds podshim once, and runs the tests.
func runInside(m *testing.M) int {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		fmt.Fprintln(os.Stderr, "make mounts private:", err)
		return 1
	}
	if err := uplink(); err != nil {
		fmt.Fprintln(os.Stderr, "set up the network:", err)
		return 1
	}
	remove, err := shimtest.Share()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer remove()
	return m.Run()
}

// uplink makes an interface with a default route, as a host has.
func uplink() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	up := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "up0"}, PeerName: "up1"}
	if err := netlink.LinkAdd(up); err != nil {
		return err
	}
	addr, err := netlink.ParseAddr("192.0.2.10/24")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(up, addr); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(up); err != nil {
		return err
	}
	peer, err := netlink.LinkByName("up1")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(peer); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: up.Attrs().Index, Gw: []byte{192, 0, 2, 1}})
}

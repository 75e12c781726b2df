package host

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Dial opens a TCP connection from this process in the host's network namespace.
func (h *Host) Dial(_ context.Context, addr string) (net.Conn, error) {
	to, err := tcpAddr(addr)
	if err != nil {
		return nil, err
	}
	var conn *net.TCPConn
	err = h.inside(func() (err error) { conn, err = net.DialTCP("tcp", nil, to); return err })
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// Listen lets this process serve an address of the host.
func (h *Host) Listen(addr string) (net.Listener, error) {
	at, err := tcpAddr(addr)
	if err != nil {
		return nil, err
	}
	var l *net.TCPListener
	err = h.inside(func() (err error) { l, err = net.ListenTCP("tcp", at); return err })
	if err != nil {
		return nil, err
	}
	return l, nil
}

// tcpAddr reads an address that needs no lookup: a resolver may hand its work to goroutines outside of the namespace.
func tcpAddr(addr string) (*net.TCPAddr, error) {
	at, err := netip.ParseAddrPort(strings.TrimPrefix(addr, "https://"))
	if err != nil {
		return nil, fmt.Errorf("address on a host: %w", err)
	}
	return net.TCPAddrFromAddrPort(at), nil
}

// inside calls f on a thread that is in the host's network namespace.
func (h *Host) inside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		back, err := h.enter(f)
		if back {
			// A thread that ended would take with it the processes that it started with a parent-death signal.
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// enter says whether the thread is back in its own namespace.
func (h *Host) enter(f func() error) (back bool, err error) {
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return true, err
	}
	defer own.Close()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", h.pid))
	if err != nil {
		return true, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return true, err
	}
	err = f()
	return unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil, err
}

// Processes lists the host's processes of a name by their ids on this machine.
func (h *Host) Processes(name string) []int {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", h.pid))
	if err != nil {
		return nil
	}
	comms, _ := filepath.Glob("/proc/[0-9]*/comm")
	var pids []int
	for _, c := range comms {
		dir := filepath.Dir(c)
		exe, _ := os.Readlink(dir + "/exe")
		ns, _ := os.Readlink(dir + "/ns/pid")
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && ns == own && filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == name {
			pids = append(pids, pid)
		}
	}
	return pids
}

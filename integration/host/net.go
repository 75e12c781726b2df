package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Dial opens a TCP connection from this process in the host's network namespace.
func (h *Host) Dial(_ context.Context, addr string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		conn, back, err := h.dialInside(addr)
		if back {
			// A thread that ended would take with it the processes that it started with a parent-death signal.
			runtime.UnlockOSThread()
		}
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// dialInside says whether the thread is back in its own namespace.
func (h *Host) dialInside(addr string) (conn net.Conn, back bool, err error) {
	host, port, err := net.SplitHostPort(strings.TrimPrefix(addr, "https://"))
	if err != nil {
		return nil, true, err
	}
	ip := net.ParseIP(host)
	n, err := strconv.Atoi(port)
	if ip == nil || err != nil {
		return nil, true, errors.New("dial a host: want an IP address and a port, not " + addr)
	}
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, true, err
	}
	defer own.Close()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", h.pid))
	if err != nil {
		return nil, true, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, true, err
	}
	// A dialer may hand its work to other goroutines, which are not in the namespace, unless the address needs no lookup.
	tcp, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: ip, Port: n})
	back = unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil
	if err != nil {
		return nil, back, err
	}
	return tcp, back, nil
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

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
		// The thread is given up with the goroutine, since it may be left in the wrong namespace.
		runtime.LockOSThread()
		conn, err := h.dialInside(addr)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

func (h *Host) dialInside(addr string) (net.Conn, error) {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", h.pid))
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(strings.TrimPrefix(addr, "https://"))
	if err != nil {
		return nil, err
	}
	ip := net.ParseIP(host)
	n, err := strconv.Atoi(port)
	if ip == nil || err != nil {
		return nil, errors.New("dial a host: want an IP address and a port, not " + addr)
	}
	// A dialer may hand its work to other goroutines, which are not in the namespace, unless the address needs no lookup.
	return net.DialTCP("tcp", nil, &net.TCPAddr{IP: ip, Port: n})
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

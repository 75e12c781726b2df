package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// testLimit bounds connections in tests: they are within one machine.
const testLimit = 5 * time.Second

// newNamespace makes a network namespace that is kept by a mount and gone after the test.
func newNamespace(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces: it needs root")
	}
	path := filepath.Join(t.TempDir(), "netns")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		errs <- err
	}()
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, 0); err != nil {
			t.Error(err)
		}
	})
	return path
}

// newNode makes a namespace that looks like a node: with a loopback interface that is up.
func newNode(t testing.TB) string {
	t.Helper()
	path := newNamespace(t)
	withHandle(t, path, func(h *netlink.Handle) {
		lo, err := h.LinkByName("lo")
		if err != nil {
			t.Fatal(err)
		}
		if err := h.LinkSetUp(lo); err != nil {
			t.Fatal(err)
		}
	})
	return path
}

func withHandle(t testing.TB, path string, fn func(*netlink.Handle)) {
	t.Helper()
	h, err := handleAt(path)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	fn(h)
}

func config(t testing.TB, node string, cidrs ...string) Config {
	t.Helper()
	c := Config{StateDir: t.TempDir(), NetNSPath: node, MTU: 1450}
	for _, s := range cidrs {
		c.PodCIDRs = append(c.PodCIDRs, netip.MustParsePrefix(s))
	}
	return c
}

func openNetwork(t testing.TB, c Config) *Network {
	t.Helper()
	n, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// setup connects a new pod and returns its namespace too.
func setup(t testing.TB, n *Network, uid string, ports ...HostPort) (Attached, string) {
	t.Helper()
	ns := newNamespace(t)
	a, err := n.Setup(t.Context(), Attachment{PodUID: uid, NetNSPath: ns, Namespace: "default", Name: uid, HostPorts: ports})
	if err != nil {
		t.Fatal(err)
	}
	return a, ns
}

// serve answers every connection in a namespace with the address that it comes from.
func serve(t testing.TB, ns, address string) {
	t.Helper()
	var l net.Listener
	err := in(ns, func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			_, _ = io.WriteString(c, host)
			c.Close()
		}
	}()
}

// ask connects from a namespace and returns what the server saw as its address.
func ask(ns, address string) (string, error) { return askFrom(ns, nil, address) }

// askFrom is ask with an address of the namespace's own to connect from; nil leaves it to the kernel.
func askFrom(ns string, own net.IP, address string) (string, error) {
	var c net.Conn
	err := in(ns, func() (err error) {
		c, err = (&net.Dialer{Timeout: testLimit, LocalAddr: &net.TCPAddr{IP: own}}).Dial("tcp", address)
		return err
	})
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testLimit))
	data, err := io.ReadAll(c)
	return string(data), err
}

// joinNodes connects two namespaces by a cable.
func joinNodes(t testing.TB, a, b, addrA, addrB string) {
	t.Helper()
	cable(t, "cable0", a, b, addrA, addrB)
}

// echo answers every datagram in a namespace with a name.
func echo(t testing.TB, ns, address, name string) {
	t.Helper()
	var l net.PacketConn
	err := in(ns, func() (err error) {
		l, err = net.ListenPacket("udp4", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 16)
		for {
			_, from, err := l.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = l.WriteTo([]byte(name), from)
		}
	}()
}

// exchange sends a datagram and returns the answer.
func exchange(c net.Conn) (string, error) {
	if err := c.SetDeadline(time.Now().Add(testLimit)); err != nil {
		return "", err
	}
	if _, err := c.Write([]byte("?")); err != nil {
		return "", err
	}
	buf := make([]byte, 16)
	n, err := c.Read(buf)
	return string(buf[:n]), err
}

// cable connects two namespaces by a cable whose ends bear a name.
func cable(t testing.TB, name, a, b, addrA, addrB string) {
	t.Helper()
	withHandle(t, a, func(ha *netlink.Handle) {
		withHandle(t, b, func(hb *netlink.Handle) {
			f, err := os.Open(b)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			attrs := netlink.NewLinkAttrs()
			attrs.Name = name
			if err := ha.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name, PeerNamespace: netlink.NsFd(f.Fd())}); err != nil {
				t.Fatal(err)
			}
			for _, end := range []struct {
				h    *netlink.Handle
				addr string
			}{{ha, addrA}, {hb, addrB}} {
				link, err := end.h.LinkByName(name)
				if err != nil {
					t.Fatal(err)
				}
				addr, err := netlink.ParseAddr(end.addr)
				if err != nil {
					t.Fatal(err)
				}
				if addr.IP.To4() == nil {
					addr.Flags = unix.IFA_F_NODAD
				}
				if err := end.h.AddrAdd(link, addr); err != nil {
					t.Fatal(err)
				}
				if err := end.h.LinkSetUp(link); err != nil {
					t.Fatal(err)
				}
			}
		})
	})
}

// inventory prints what a node has in interfaces, routes and rules, for comparison.
func inventory(t testing.TB, node string) string {
	t.Helper()
	var s string
	withHandle(t, node, func(h *netlink.Handle) {
		links, err := h.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			s += fmt.Sprintf("link %s %s\n", l.Attrs().Name, l.Type())
		}
		routes, err := h.RouteList(nil, netlink.FAMILY_V4)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			s += fmt.Sprintf("route %s\n", r)
		}
	})
	err := in(node, func() error {
		ipt, err := tables{}.client()
		if err != nil {
			return err
		}
		for _, table := range []string{"nat", "filter"} {
			chains, err := ipt.ListChains(table)
			if err != nil {
				return err
			}
			for _, c := range chains {
				rules, err := ipt.List(table, c)
				if err != nil {
					return err
				}
				s += fmt.Sprintln(table, rules)
			}
		}
		forward, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
		s += "forward " + string(forward)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func isRefused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }

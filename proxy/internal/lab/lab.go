// Package lab makes small networks out of network namespaces for tests against the real kernel: a node with a pod
// bridge, pods, and outside clients. Nothing of the host's own namespace is touched, and all of it goes away with the
// test.
//
//	l := lab.New(t)
//	web := l.Pod("web", 2)      // 10.244.0.2 and fd00:10:244::2 behind the node's bridge
//	web.ServeTCP(":8080")       // answers "web <client address>"
//	who, err := l.Client.AskTCP("10.96.0.7:80")
package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// patience bounds each wait for a packet that should come; it only decides how long a failing test takes.
const patience = 10 * time.Second

// Host is one network namespace that plays a machine or a pod.
type Host struct {
	t    testing.TB
	Name string
	ns   netns.NsHandle
	path string
}

// Lab is one node with what is around it.
type Lab struct {
	t testing.TB
	// Node has a bridge br0 with 10.244.0.1/24 and fd00:10:244::1/64 for its pods, and one link to each outside host.
	Node *Host
	// Client is a machine outside the cluster, 192.168.50.2 and fd00:50::2; the node is 192.168.50.1 and fd00:50::1.
	Client *Host

	links int
}

// New makes the node and one client. It fails, with that sentence, without root.
func New(t testing.TB) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces and needs root")
	}
	l := &Lab{t: t, Node: newHost(t, "node")}
	l.Node.Do(func() {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		l.must(netlink.LinkAdd(br))
		l.address("br0", "10.244.0.1/24", "fd00:10:244::1/64")
		for _, f := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			l.must(os.WriteFile("/proc/sys/net/"+f, []byte("1"), 0))
		}
	})
	l.Client = l.Outside("client", 50)
	// As on any real host, there is a way out for what nobody claims; there it is lost.
	l.Outside("uplink", 254)
	l.Node.Do(func() { l.route("192.168.254.2", "fd00:254::2") })
	return l
}

// Pod makes a host at 10.244.0.n and fd00:10:244::n on the node's bridge.
func (l *Lab) Pod(name string, n int) *Host {
	l.t.Helper()
	p := newHost(l.t, name)
	end := l.veth(p)
	l.Node.Do(func() {
		br, err := netlink.LinkByName("br0")
		l.must(err)
		port, err := netlink.LinkByName(end)
		l.must(err)
		l.must(netlink.LinkSetMaster(port, br))
		// With br_netfilter, a translated packet between two pods is bridged, not routed: one that goes back to its
		// sender has to leave by the port that it came in by.
		l.must(netlink.LinkSetHairpin(port, true))
		l.must(netlink.LinkSetUp(port))
	})
	p.Do(func() {
		l.address("eth0", fmt.Sprintf("10.244.0.%d/24", n), fmt.Sprintf("fd00:10:244::%x/64", n))
		l.route("10.244.0.1", "fd00:10:244::1")
	})
	return p
}

// Outside makes a host at 192.168.net.2 and fd00:net::2 on a link of its own, that routes by the node.
func (l *Lab) Outside(name string, net int) *Host {
	return l.linked(name, fmt.Sprintf("192.168.%d.", net), fmt.Sprintf("fd00:%d::", net))
}

// RemotePod makes a host in the cluster's pod network that is on another node: 10.244.net.2, fd00:10:244:net::2.
func (l *Lab) RemotePod(name string, net int) *Host {
	return l.linked(name, fmt.Sprintf("10.244.%d.", net), fmt.Sprintf("fd00:10:244:%d::", net))
}

func (l *Lab) linked(name, v4, v6 string) *Host {
	l.t.Helper()
	h := newHost(l.t, name)
	end := l.veth(h)
	l.Node.Do(func() { l.address(end, v4+"1/24", v6+"1/64") })
	h.Do(func() {
		l.address("eth0", v4+"2/24", v6+"2/64")
		l.route(v4+"1", v6+"1")
	})
	return h
}

// veth joins h's eth0 with a new interface of the node and returns that one's name.
func (l *Lab) veth(h *Host) string {
	l.links++
	end := fmt.Sprintf("veth%d", l.links)
	l.Node.Do(func() {
		l.must(netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: end}, PeerName: "eth0", PeerNamespace: netlink.NsFd(h.ns),
		}))
	})
	return end
}

func (l *Lab) address(link string, cidrs ...string) {
	dev, err := netlink.LinkByName(link)
	l.must(err)
	for _, c := range cidrs {
		a, err := netlink.ParseAddr(c)
		l.must(err)
		a.Flags = 0x02 // IFA_F_NODAD: usable at once
		l.must(netlink.AddrAdd(dev, a))
	}
	l.must(netlink.LinkSetUp(dev))
}

func (l *Lab) route(gateways ...string) {
	for _, g := range gateways {
		l.must(netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(g)}))
	}
}

func (l *Lab) must(err error) {
	if err != nil {
		l.t.Helper()
		l.t.Fatal(err)
	}
}

func newHost(t testing.TB, name string) *Host {
	t.Helper()
	h := &Host{t: t, Name: name}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		h.ns = ns
		if err == nil {
			// Addresses are usable at once, without asking the link for duplicates first.
			for _, c := range []string{"all", "default"} {
				os.WriteFile("/proc/sys/net/ipv6/conf/"+c+"/accept_dad", []byte("0"), 0)
			}
			var lo netlink.Link
			if lo, err = netlink.LinkByName("lo"); err == nil {
				err = netlink.LinkSetUp(lo)
			}
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("namespace for %s: %v", name, err)
	}
	h.path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(h.ns))
	t.Cleanup(func() { h.ns.Close() })
	return h
}

// Do runs f on a thread inside the host's namespace. Commands and sockets that f makes belong to it; goroutines that f
// starts do not.
func (h *Host) Do(f func()) {
	done := make(chan error, 1)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		runtime.LockOSThread()
		if err := netns.Set(h.ns); err != nil {
			done <- err
			return
		}
		done <- nil
		f()
	}()
	if err := <-done; err != nil {
		h.t.Errorf("entering %s: %v", h.Name, err)
	}
	<-finished
}

// Run runs a command inside the host and returns its output.
func (h *Host) Run(args ...string) string {
	h.t.Helper()
	var out []byte
	var err error
	h.Do(func() { out, err = exec.Command(args[0], args[1:]...).CombinedOutput() })
	if err != nil {
		h.t.Fatalf("%s: %v: %v: %s", h.Name, args, err, out)
	}
	return string(out)
}

// Start starts a command inside the host, to be stopped by the caller; it is killed at the latest with the test.
func (h *Host) Start(cmd *exec.Cmd) {
	h.t.Helper()
	var err error
	h.Do(func() { err = cmd.Start() })
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { cmd.Process.Kill() })
}

// ServeTCP answers each line of each connection with "<name> <client's address>".
func (h *Host) ServeTCP(addr string) {
	h.t.Helper()
	var ln net.Listener
	var err error
	h.Do(func() { ln, err = net.Listen("tcp", addr) })
	if err != nil {
		h.t.Fatal(err)
	}
	var open sync.Map
	h.t.Cleanup(func() {
		ln.Close()
		open.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
	})
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			open.Store(c, nil)
			go func() {
				defer open.Delete(c)
				defer c.Close()
				lines := bufio.NewScanner(c)
				for lines.Scan() {
					fmt.Fprintf(c, "%s %s\n", h.Name, host(c.RemoteAddr()))
				}
			}()
		}
	}()
}

// ServeUDP answers each datagram with "<name> <client's address>".
func (h *Host) ServeUDP(addr string) {
	h.t.Helper()
	var c net.PacketConn
	var err error
	h.Do(func() { c, err = net.ListenPacket("udp", addr) })
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			_, from, err := c.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				c.WriteTo([]byte(h.Name+" "+host(from)), from)
			}
		}
	}()
}

func host(a net.Addr) string { return netip.MustParseAddrPort(a.String()).Addr().Unmap().String() }

// Answer is what a server said of itself and of the client.
type Answer struct{ Server, Client string }

func answer(line string) Answer {
	server, client, _ := strings.Cut(strings.TrimSpace(line), " ")
	return Answer{server, client}
}

// Dial opens a connection from the host.
func (h *Host) Dial(network, addr string) (c net.Conn, err error) {
	h.Do(func() { c, err = net.DialTimeout(network, addr, patience) })
	return c, err
}

// AskTCP makes a new connection and asks who answers.
func (h *Host) AskTCP(addr string) (Answer, error) {
	c, err := h.Dial("tcp", addr)
	if err != nil {
		return Answer{}, err
	}
	defer c.Close()
	return Ask(c)
}

// AskUDP sends one datagram from a new socket and waits for the answer.
func (h *Host) AskUDP(addr string) (Answer, error) {
	c, err := h.Dial("udp", addr)
	if err != nil {
		return Answer{}, err
	}
	defer c.Close()
	return Ask(c)
}

// Ask asks on an open connection.
func Ask(c net.Conn) (Answer, error) {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "who\n"); err != nil {
		return Answer{}, err
	}
	buf := make([]byte, 256)
	n, err := c.Read(buf)
	return answer(string(buf[:n])), err
}

// Silent says that nothing comes back from addr, not even an error, for a short while.
func (h *Host) Silent(network, addr string, wait time.Duration) error {
	var err error
	var c net.Conn
	h.Do(func() { c, err = net.DialTimeout(network, addr, wait) })
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(wait))
		io.WriteString(c, "who\n")
		_, err = c.Read(make([]byte, 256))
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return nil
	}
	return fmt.Errorf("expected silence, got: %v", err)
}

// Client is a UDP socket that is kept.
type Client struct {
	t testing.TB
	c net.Conn
}

// UDP opens a socket towards addr.
func (h *Host) UDP(addr string) Client {
	h.t.Helper()
	c, err := h.Dial("udp", addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	return Client{h.t, c}
}

// Send sends a datagram and waits for nothing.
func (c Client) Send() {
	if _, err := io.WriteString(c.c, "who\n"); err != nil {
		c.t.Error(err)
	}
}

// Server asks and says who answered.
func (c Client) Server() (string, error) {
	a, err := Ask(c.c)
	return a.Server, err
}

package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
)

// Network is the node's end of the pod network. See the package comment.
type Network struct {
	config Config
	host   *netlink.Handle
	bridge int // its interface index

	mu    sync.Mutex
	pools []*pool // as Config.PodCIDRs
	pods  map[string]Attached

	// routesMu makes route sets follow one another.
	routesMu sync.Mutex
	// rulesMu makes rule sets follow one another in the order of what they were made from.
	rulesMu sync.Mutex
}

var uidPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// Open makes the bridge, its addresses, forwarding and the masquerade rules, or finds them as they should be, reads the allocations, and
// removes what belongs to none.
func Open(c Config) (*Network, error) {
	if c.Bridge == "" {
		c.Bridge = DefaultBridge
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(c.StateDir, podsDir), 0o700); err != nil {
		return nil, err
	}
	host, err := handleAt(c.NetNSPath)
	if err != nil {
		return nil, err
	}
	n := &Network{config: c, host: host, pods: map[string]Attached{}}
	if err := n.open(); err != nil {
		host.Close()
		return nil, fmt.Errorf("open pod network: %w", err)
	}
	return n, nil
}

func (n *Network) open() error {
	if n.config.MTU == 0 {
		n.config.MTU = defaultRouteMTU(n.host)
	}
	for _, cidr := range n.config.PodCIDRs {
		n.pools = append(n.pools, newPool(cidr))
	}
	if err := n.readState(); err != nil {
		return err
	}
	if err := n.forward(); err != nil {
		return err
	}
	if err := n.ensureBridge(); err != nil {
		return err
	}
	for _, t := range n.families() {
		if err := t.restore(context.Background(), natChains(&n.config, n.List(), t.ipv6)+forwardChain(&n.config, t.ipv6)); err != nil {
			return err
		}
		if err := t.ensureJumps(); err != nil {
			return err
		}
	}
	return n.removeStrays()
}

func (c *Config) validate() error {
	switch {
	case len(c.PodCIDRs) == 0 || len(c.PodCIDRs) > 2:
		return fmt.Errorf("%w: %d pod ranges, one or two are possible", ErrInvalid, len(c.PodCIDRs))
	case len(c.PodCIDRs) == 2 && c.PodCIDRs[0].Addr().Is6() == c.PodCIDRs[1].Addr().Is6():
		return fmt.Errorf("%w: two pod ranges of one family", ErrInvalid)
	case !filepath.IsAbs(c.StateDir):
		return fmt.Errorf("%w: state directory %q", ErrInvalid, c.StateDir)
	case len(c.Bridge) > 15:
		return fmt.Errorf("%w: bridge name %q is longer than 15 characters", ErrInvalid, c.Bridge)
	}
	for _, p := range c.PodCIDRs {
		if !p.IsValid() || p.Addr().BitLen()-p.Bits() < 2 {
			return fmt.Errorf("%w: pod range %s is too small", ErrInvalid, p)
		}
	}
	return nil
}

func (c *Config) clusterCIDRs() []netip.Prefix {
	if len(c.ClusterCIDRs) == 0 {
		return c.PodCIDRs
	}
	return c.ClusterCIDRs
}

// families are those of the pod ranges.
func (n *Network) families() []tables { return familiesOf(&n.config) }

func familiesOf(c *Config) []tables {
	var list []tables
	for _, ipv6 := range []bool{false, true} {
		if len(ofFamily(c.PodCIDRs, ipv6)) > 0 {
			list = append(list, tables{netns: c.NetNSPath, ipv6: ipv6})
		}
	}
	return list
}

// readState claims what the files say. Addresses outside of the ranges (the node was given another) stay the pod's until it goes.
func (n *Network) readState() error {
	pods, err := readPods(n.config.StateDir)
	if err != nil {
		return err
	}
	for _, a := range pods {
		for _, ip := range a.IPs {
			if p := n.poolOf(ip); p != nil {
				if err := p.claim(ip, a.PodUID); err != nil {
					return err
				}
			}
		}
		n.pods[a.PodUID] = a
	}
	return nil
}

func (n *Network) poolOf(ip netip.Addr) *pool {
	for _, p := range n.pools {
		if p.prefix.Contains(ip) {
			return p
		}
	}
	return nil
}

// forward has the kernel route between interfaces, and remembers how it was.
func (n *Network) forward() error {
	file := filepath.Join(n.config.StateDir, sysctlFile)
	before := map[string]string{}
	if err := readJSONFile(file, &before); err != nil {
		return err
	}
	err := in(n.config.NetNSPath, func() error {
		for _, t := range n.families() {
			name := forwardSysctl(t.ipv6)
			was, err := setSysctl(name, "1")
			if err != nil {
				return fmt.Errorf("enable forwarding: %w", err)
			}
			if _, known := before[name]; !known {
				before[name] = was
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return writeJSON(file, before)
}

func forwardSysctl(ipv6 bool) string {
	if ipv6 {
		return "net/ipv6/conf/all/forwarding"
	}
	return "net/ipv4/ip_forward"
}

// removeStrays deletes our interfaces of pods that have no file: a Teardown got that far, and no further.
func (n *Network) removeStrays() error {
	links, err := n.host.LinkList()
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for uid := range n.pods {
		known[hostName(uid)] = true
	}
	for _, l := range links {
		if !isOurPort(l, n.bridge) || known[l.Attrs().Name] {
			continue
		}
		if err := n.host.LinkDel(l); err != nil && !isNotFound(err) {
			return fmt.Errorf("remove stray interface %s: %w", l.Attrs().Name, err)
		}
	}
	return nil
}

// Setup connects a pod. If it fails, what it had made is taken away again.
func (n *Network) Setup(ctx context.Context, a Attachment) (Attached, error) {
	if !uidPattern.MatchString(a.PodUID) || a.NetNSPath == "" {
		return Attached{}, fmt.Errorf("%w: pod UID %q, network namespace %q", ErrInvalid, a.PodUID, a.NetNSPath)
	}
	pod, err := n.allocate(a)
	if err != nil {
		return Attached{}, fmt.Errorf("pod %s: %w", a.PodUID, err)
	}
	if err := n.connect(ctx, a, pod); err != nil {
		return Attached{}, errors.Join(fmt.Errorf("connect pod %s: %w", a.PodUID, err), n.Teardown(context.WithoutCancel(ctx), a.PodUID))
	}
	return pod, nil
}

// allocate gives the pod addresses and ports, durably; a pod that has some keeps them.
func (n *Network) allocate(a Attachment) (pod Attached, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if pod, ok := n.pods[a.PodUID]; ok {
		return pod, nil
	}
	if err := n.checkPortsLocked(a.HostPorts); err != nil {
		return Attached{}, err
	}
	pod = Attached{PodUID: a.PodUID, HostInterface: hostName(a.PodUID), HostPorts: slices.Clone(a.HostPorts)}
	defer func() {
		if err != nil {
			n.freeLocked(pod)
		}
	}()
	for _, p := range n.pools {
		ip, err := p.allocate(a.PodUID)
		if err != nil {
			return Attached{}, err
		}
		pod.IPs = append(pod.IPs, ip)
	}
	if err := writeJSON(podFile(n.config.StateDir, a.PodUID), pod); err != nil {
		return Attached{}, err
	}
	n.pods[a.PodUID] = pod
	return pod, nil
}

func (n *Network) checkPortsLocked(ports []HostPort) error {
	for i, p := range ports {
		if p.HostPort == 0 || p.ContainerPort == 0 || p.Protocol != TCP && p.Protocol != UDP && p.Protocol != SCTP {
			return fmt.Errorf("%w: host port %+v", ErrInvalid, p)
		}
		for _, q := range ports[:i] {
			if conflicts(p, q) {
				return fmt.Errorf("%w: %s %d twice", ErrInvalid, p.Protocol, p.HostPort)
			}
		}
		for _, other := range n.pods {
			for _, q := range other.HostPorts {
				if conflicts(p, q) {
					return fmt.Errorf("%w: %s %d, by pod %s", ErrPortTaken, p.Protocol, p.HostPort, other.PodUID)
				}
			}
		}
	}
	return nil
}

func (n *Network) freeLocked(pod Attached) {
	for _, ip := range pod.IPs {
		if p := n.poolOf(ip); p != nil {
			p.release(ip, pod.PodUID)
		}
	}
	delete(n.pods, pod.PodUID)
}

// Teardown disconnects a pod and frees its addresses and ports. A pod without network is fine; so is one whose namespace is gone.
func (n *Network) Teardown(ctx context.Context, podUID string) error {
	if !uidPattern.MatchString(podUID) {
		return fmt.Errorf("%w: pod UID %q", ErrInvalid, podUID)
	}
	pod, err := n.Get(podUID)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err := n.removeLink(podUID); err != nil {
		return fmt.Errorf("disconnect pod %s: %w", podUID, err)
	}
	if err := n.unpin(pod); err != nil {
		return fmt.Errorf("disconnect pod %s: %w", podUID, err)
	}
	if len(pod.HostPorts) > 0 {
		if err := n.syncRules(ctx, podUID); err != nil {
			return fmt.Errorf("disconnect pod %s: %w", podUID, err)
		}
		if err := n.forgetFlows(pod, true); err != nil {
			return fmt.Errorf("disconnect pod %s: %w", podUID, err)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := os.Remove(podFile(n.config.StateDir, podUID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	n.freeLocked(pod)
	return nil
}

func (n *Network) removeLink(podUID string) error {
	link, err := n.host.LinkByName(hostName(podUID))
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := n.host.LinkDel(link); err != nil && !isNotFound(err) {
		return err
	}
	return nil
}

// syncRules brings the host ports to what the pods have, but for one that is going.
func (n *Network) syncRules(ctx context.Context, except string) error {
	n.rulesMu.Lock()
	defer n.rulesMu.Unlock()
	pods := slices.DeleteFunc(n.List(), func(a Attached) bool { return a.PodUID == except })
	for _, t := range n.families() {
		if err := t.restore(ctx, natChains(&n.config, pods, t.ipv6)); err != nil {
			return err
		}
	}
	return nil
}

// Get returns what Setup returned. [ErrNotFound].
func (n *Network) Get(podUID string) (Attached, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a, ok := n.pods[podUID]; ok {
		return a, nil
	}
	return Attached{}, fmt.Errorf("pod %s: %w", podUID, ErrNotFound)
}

// List returns all pods that have addresses.
func (n *Network) List() []Attached {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]Attached, 0, len(n.pods))
	for _, a := range n.pods {
		list = append(list, a)
	}
	return sortedPods(list)
}

// Retain tears down all pods but those that keep says: after a restart, for what was lost in between.
func (n *Network) Retain(ctx context.Context, keep func(podUID string) bool) error {
	var all error
	for _, a := range n.List() {
		if !keep(a.PodUID) {
			all = errors.Join(all, n.Teardown(ctx, a.PodUID))
		}
	}
	return all
}

// Stats reads the counters of a pod's interface. [ErrNotFound].
func (n *Network) Stats(podUID string) (Stats, error) {
	link, err := n.host.LinkByName(hostName(podUID))
	if isNotFound(err) {
		return Stats{}, fmt.Errorf("pod %s: %w", podUID, ErrNotFound)
	}
	if err != nil {
		return Stats{}, err
	}
	s := link.Attrs().Statistics
	if s == nil {
		return Stats{}, nil
	}
	// What the node's end receives is what the pod sent.
	return Stats{
		ReceivedBytes: s.TxBytes, ReceivedPackets: s.TxPackets, ReceivedErrors: s.TxErrors, ReceivedDropped: s.TxDropped,
		SentBytes: s.RxBytes, SentPackets: s.RxPackets, SentErrors: s.RxErrors, SentDropped: s.RxDropped,
	}, nil
}

// Close frees what the process holds. The network stays as it is.
func (n *Network) Close() error {
	n.host.Close()
	return nil
}

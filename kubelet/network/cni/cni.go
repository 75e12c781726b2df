// Package cni connects pods by CNI plug-ins instead of the built-in network (https://www.cni.dev/docs/spec/, version 1.1 and before).
//
// The network is the first valid configuration, by file name, of a directory. What a pod was connected with is written down before
// its plug-ins are called and removed after they have disconnected it: a pod is always disconnected by the configuration that connected
// it, whatever has become of that since, and nothing is forgotten in a crash.
//
//	n, err := cni.Open(cni.Config{ConfDir: "/etc/cni/net.d", BinDirs: []string{"/opt/cni/bin"}, StateDir: "/var/lib/bareboat/network/cni"})
//	attached, err := n.Setup(ctx, network.Attachment{PodUID: uid, NetNSPath: pod.NetNSPath()})
//
// Methods may be called from any number of goroutines.
package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containernetworking/cni/libcni"
	types "github.com/containernetworking/cni/pkg/types/100"

	"bareboat.dev/kubelet/network"
)

// Config says where things are.
type Config struct {
	// ConfDir holds the configurations, BinDirs the plug-ins.
	ConfDir string
	BinDirs []string
	// StateDir holds what pods were connected with, and the library's cache.
	StateDir string
}

// ErrNoConfig: there is no valid configuration.
var ErrNoConfig = errors.New("no valid CNI configuration")

// podInterface is the name of a pod's interface, as Kubernetes has it.
const podInterface = "eth0"

// Network connects pods.
type Network struct {
	c   Config
	lib *libcni.CNIConfig

	mu   sync.Mutex
	pods map[string]*state
}

// state is what a pod was connected with.
type state struct {
	PodUID    string `json:"podUID"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	NetNSPath string `json:"netNSPath"`
	// NetNS is the namespace's inode: a path by a process id may come to mean another.
	NetNS uint64 `json:"netNS"`
	// List is the configuration, Capabilities what the plug-ins were told beside it.
	List         json.RawMessage `json:"list"`
	Capabilities map[string]any  `json:"capabilities,omitempty"`
	// Attached is nil until the plug-ins have succeeded.
	Attached *network.Attached `json:"attached,omitempty"`
}

// Open reads what pods have. It does not need a configuration yet.
func Open(c Config) (*Network, error) {
	n := &Network{c: c, lib: libcni.NewCNIConfigWithCacheDir(c.BinDirs, filepath.Join(c.StateDir, "cache"), nil), pods: map[string]*state{}}
	if err := os.MkdirAll(n.podsDir(), 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(n.podsDir())
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		uid, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		data, err := os.ReadFile(n.file(uid))
		if err != nil {
			return nil, err
		}
		s := &state{}
		if err := json.Unmarshal(data, s); err != nil || s.PodUID != uid {
			return nil, fmt.Errorf("%s cannot be read; remove it if its pod is gone: %w", n.file(uid), err)
		}
		n.pods[uid] = s
	}
	return n, nil
}

func (n *Network) podsDir() string        { return filepath.Join(n.c.StateDir, "pods") }
func (n *Network) file(uid string) string { return filepath.Join(n.podsDir(), uid+".json") }

// Ready says whether there is a network to connect pods to; [ErrNoConfig] says why not.
func Ready(dir string) error {
	_, err := load(dir)
	return err
}

// load reads the network's configuration.
func load(dir string) (*libcni.NetworkConfigList, error) {
	files, err := libcni.ConfFiles(dir, []string{".conflist", ".conf", ".json"})
	if err != nil {
		return nil, fmt.Errorf("%w in %s: %w", ErrNoConfig, dir, err)
	}
	var bad error
	for _, file := range files {
		list, err := read(file)
		if err == nil && len(list.Plugins) > 0 {
			return list, nil
		}
		bad = errors.Join(bad, err)
	}
	if bad != nil {
		return nil, fmt.Errorf("%w in %s: %w", ErrNoConfig, dir, bad)
	}
	return nil, fmt.Errorf("%w in %s", ErrNoConfig, dir)
}

// read reads a list of plug-ins, or a single one as a list.
func read(file string) (*libcni.NetworkConfigList, error) {
	if filepath.Ext(file) == ".conflist" {
		return libcni.NetworkConfFromFile(file)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	one, err := libcni.NetworkPluginConfFromBytes(data)
	if err != nil {
		return nil, err
	}
	if one.Network.Type == "" {
		return nil, fmt.Errorf("%s: no type of plug-in", file)
	}
	return libcni.ConfListFromConf(one)
}

// Setup connects a pod. A pod that is connected stays so; one whose namespace was made anew is connected again.
func (n *Network) Setup(ctx context.Context, a network.Attachment) (network.Attached, error) {
	inode, err := inodeOf(a.NetNSPath)
	if err != nil {
		return network.Attached{}, fmt.Errorf("%w: network namespace of pod %s: %w", network.ErrInvalid, a.PodUID, err)
	}
	if old := n.get(a.PodUID); old != nil {
		if old.Attached != nil && old.NetNS == inode {
			return *old.Attached, nil
		}
		if err := n.Teardown(ctx, a.PodUID); err != nil {
			return network.Attached{}, err
		}
	}
	list, err := load(n.c.ConfDir)
	if err != nil {
		return network.Attached{}, err
	}
	s := &state{PodUID: a.PodUID, Namespace: a.Namespace, Name: a.Name, NetNSPath: a.NetNSPath, NetNS: inode, List: list.Bytes, Capabilities: capabilities(a)}
	if err := n.save(s); err != nil {
		return network.Attached{}, err
	}
	attached, err := n.add(ctx, list, s)
	if err == nil {
		s = s.with(attached)
		err = n.save(s)
	}
	if err != nil {
		undo := n.Teardown(context.WithoutCancel(ctx), a.PodUID)
		return network.Attached{}, errors.Join(fmt.Errorf("connect pod %s by network %q: %w", a.PodUID, list.Name, err), undo)
	}
	return attached, nil
}

// add has the plug-ins connect the pod.
func (n *Network) add(ctx context.Context, list *libcni.NetworkConfigList, s *state) (network.Attached, error) {
	if err := loopback(s.NetNSPath); err != nil {
		return network.Attached{}, err
	}
	r, err := n.lib.AddNetworkList(ctx, list, s.runtime())
	if err != nil {
		return network.Attached{}, err
	}
	result, err := types.NewResultFromResult(r)
	if err != nil {
		return network.Attached{}, err
	}
	at := network.Attached{PodUID: s.PodUID}
	for _, ip := range result.IPs {
		if ip.Interface != nil && *ip.Interface < len(result.Interfaces) && result.Interfaces[*ip.Interface].Sandbox == "" {
			continue // an address of the host's end
		}
		if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			at.IPs = append(at.IPs, addr.Unmap())
		}
	}
	if len(at.IPs) == 0 {
		return at, errors.New("the plug-ins gave the pod no address")
	}
	return at, nil
}

// with returns a copy that is connected.
func (s *state) with(at network.Attached) *state {
	c := *s
	c.Attached = &at
	return &c
}

// runtime is what plug-ins are told of the pod.
func (s *state) runtime() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: s.PodUID, NetNS: s.NetNSPath, IfName: podInterface, CapabilityArgs: s.Capabilities,
		Args: [][2]string{
			{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", s.Namespace}, {"K8S_POD_NAME", s.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", s.PodUID}, {"K8S_POD_UID", s.PodUID},
		},
	}
}

// Teardown disconnects a pod. A pod that is not connected is fine; so is one whose namespace is gone.
func (n *Network) Teardown(ctx context.Context, podUID string) error {
	s := n.get(podUID)
	if s == nil {
		return nil
	}
	list, err := libcni.NetworkConfFromBytes(s.List)
	if err != nil {
		return fmt.Errorf("disconnect pod %s: %w", podUID, err)
	}
	rt := s.runtime()
	if inode, err := inodeOf(s.NetNSPath); err != nil || inode != s.NetNS {
		rt.NetNS = ""
	}
	if err := n.lib.DelNetworkList(ctx, list, rt); err != nil {
		return fmt.Errorf("disconnect pod %s from network %q: %w", podUID, list.Name, err)
	}
	if err := os.Remove(n.file(podUID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.pods, podUID)
	return nil
}

// Get returns what Setup returned. [network.ErrNotFound].
func (n *Network) Get(podUID string) (network.Attached, error) {
	if s := n.get(podUID); s != nil && s.Attached != nil {
		return *s.Attached, nil
	}
	return network.Attached{}, fmt.Errorf("pod %s: %w", podUID, network.ErrNotFound)
}

// Retain disconnects all pods but those that keep says.
func (n *Network) Retain(ctx context.Context, keep func(podUID string) bool) error {
	var all error
	for _, uid := range n.uids() {
		if !keep(uid) {
			all = errors.Join(all, n.Teardown(ctx, uid))
		}
	}
	return all
}

// List returns all pods that are connected.
func (n *Network) List() []network.Attached {
	var list []network.Attached
	for _, uid := range n.uids() {
		if at, err := n.Get(uid); err == nil {
			list = append(list, at)
		}
	}
	return list
}

// Cleanup disconnects all pods and forgets everything. For the end of a node.
func Cleanup(ctx context.Context, c Config) error {
	if _, err := os.Stat(c.StateDir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	n, err := Open(c)
	if err != nil {
		return err
	}
	if err := n.Retain(ctx, func(string) bool { return false }); err != nil {
		return err
	}
	return os.RemoveAll(c.StateDir)
}

func (n *Network) get(uid string) *state {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pods[uid]
}

func (n *Network) uids() (all []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for uid := range n.pods {
		all = append(all, uid)
	}
	return all
}

// save writes a pod's state down, by rename.
func (n *Network) save(s *state) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	tmp := n.file(s.PodUID) + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	if err := os.Rename(tmp, n.file(s.PodUID)); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pods[s.PodUID] = s
	return nil
}

package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestMain is the tests, and under CNI_COMMAND a plug-in.
func TestMain(m *testing.M) {
	if os.Getenv("CNI_COMMAND") != "" {
		if err := plugin(); err != nil {
			_ = json.NewEncoder(os.Stdout).Encode(types.Error{Code: 100, Msg: err.Error()})
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// pluginConf is the configuration of the test's plug-in.
type pluginConf struct {
	types.PluginConf
	// Log is where the plug-in writes what it is called with; Fail has ADD fail after it has done its work.
	Log     string `json:"log"`
	Address string `json:"address"`
	Fail    bool   `json:"fail"`
	Runtime struct {
		PortMappings []map[string]any `json:"portMappings"`
	} `json:"runtimeConfig"`
}

// plugin connects a pod by a veth pair, as a real plug-in does: the host's end is in the namespace that it runs in.
func plugin() error {
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	c := pluginConf{}
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	command, id, path := os.Getenv("CNI_COMMAND"), os.Getenv("CNI_CONTAINERID"), os.Getenv("CNI_NETNS")
	if command == "VERSION" {
		_, err := fmt.Println(`{"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}`)
		return err
	}
	f, err := os.OpenFile(c.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	where := "there"
	if path == "" {
		where = "gone"
	}
	if _, err := fmt.Fprintf(f, "%s %s %s %s %d ports %s\n", command, id, where, os.Getenv("CNI_IFNAME"), len(c.Runtime.PortMappings), c.Address); err != nil {
		return err
	}
	host := "cn" + id
	if command == "DEL" {
		if link, err := netlink.LinkByName(host); err == nil {
			return netlink.LinkDel(link)
		}
		return nil
	}
	if !strings.Contains(os.Getenv("CNI_ARGS"), "K8S_POD_NAMESPACE=default") {
		return errors.New("not told of the pod: " + os.Getenv("CNI_ARGS"))
	}
	return add(&c, host, path)
}

func add(c *pluginConf, host, path string) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = host
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: os.Getenv("CNI_IFNAME"), PeerNamespace: netlink.NsFd(ns)}); err != nil {
		return err
	}
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	link, err := inside.LinkByName(os.Getenv("CNI_IFNAME"))
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(c.Address)
	if err != nil {
		return err
	}
	if err := inside.AddrAdd(link, addr); err != nil {
		return err
	}
	if c.Fail {
		return errors.New("cannot go on")
	}
	zero, one := 0, 1
	result := &current.Result{CNIVersion: current.ImplementedSpecVersion, Interfaces: []*current.Interface{{Name: host}, {Name: "eth0", Sandbox: path}},
		IPs: []*current.IPConfig{{Interface: &zero, Address: net.IPNet{IP: net.IPv4(10, 88, 0, 1), Mask: net.CIDRMask(16, 32)}}, {Interface: &one, Address: *addr.IPNet}}}
	return types.PrintResult(result, c.CNIVersion)
}

// private moves the test to a network namespace of its own, with what it starts: plug-ins work there, not on the host.
func private(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces: it needs root")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

// newNamespace makes a network namespace that is kept by a mount, and returns its path.
func newNamespace(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "netns")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		errs <- err
	}()
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, 0) })
	return path
}

// Package bridge has the packet filter see packets between pods of one node.
//
// Two pods on one bridge exchange frames without the node's IP layer, and so without translation: a pod that asks a service
// would get its answer from the endpoint's own address, and drop it. br_netfilter passes bridged packets through the packet
// filter. It is a kernel module, with a switch for each network namespace and family.
//
//	problems := bridge.Ensure("/run/bareboat/proxy") // remembers what it changed
//	err := bridge.Restore("/run/bareboat/proxy")     // for --cleanup
package bridge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"bareboat.dev/proxy/sysctl"
)

// switches is the directory of the switches, which exists when the module is there.
const switches = "net/bridge"

func names() []string {
	return []string{switches + "/bridge-nf-call-iptables", switches + "/bridge-nf-call-ip6tables"}
}

// Ensure loads the module if need be and turns the switches on. The former value of one that was off is kept in dir. The
// result is what could not be done; hosts whose pods are on no bridge can do without.
func Ensure(dir string) error {
	if _, err := os.Stat("/proc/sys/" + switches); errors.Is(err, fs.ErrNotExist) {
		if out, err := exec.Command("modprobe", "br_netfilter").CombinedOutput(); err != nil {
			return fmt.Errorf("bridge: the module br_netfilter cannot be loaded: %w: %s", err, strings.TrimSpace(string(out)))
		}
	}
	var errs []error
	for _, name := range names() {
		if err := sysctl.Set(dir, name, "1"); err != nil {
			errs = append(errs, fmt.Errorf("bridge: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Restore turns the switches that Ensure turned on back to what they were, and forgets about it.
func Restore(dir string) error { return sysctl.Restore(dir, names()...) }

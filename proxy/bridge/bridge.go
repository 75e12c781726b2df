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
	"path/filepath"
	"strings"
)

// switches is the directory of the switches, which exists when the module is there.
const switches = "/proc/sys/net/bridge"

func names() []string { return []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} }

// Ensure loads the module if need be and turns the switches on. The former value of one that was off is kept in dir. The
// result is what could not be done; hosts whose pods are on no bridge can do without.
func Ensure(dir string) error {
	if _, err := os.Stat(switches); errors.Is(err, fs.ErrNotExist) {
		if out, err := exec.Command("modprobe", "br_netfilter").CombinedOutput(); err != nil {
			return fmt.Errorf("bridge: the module br_netfilter cannot be loaded: %w: %s", err, strings.TrimSpace(string(out)))
		}
	}
	var errs []error
	for _, name := range names() {
		errs = append(errs, turnOn(dir, name))
	}
	return errors.Join(errs...)
}

func turnOn(dir, name string) error {
	path := filepath.Join(switches, name)
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	was := strings.TrimSpace(string(data))
	if was == "1" {
		return nil
	}
	// The old value first: a crash in between leaves a file that restores what is there anyway.
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(was), 0o644); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	if err := os.WriteFile(path, []byte("1"), 0); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	return nil
}

// Restore turns the switches that Ensure turned on back to what they were, and forgets about it.
func Restore(dir string) error {
	var errs []error
	for _, name := range names() {
		kept := filepath.Join(dir, name)
		was, err := os.ReadFile(kept)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(switches, name), was, 0)
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) { // without the module there is nothing to restore
			err = os.Remove(kept)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("bridge: %w", err))
		}
	}
	os.Remove(dir) // if it is empty
	return errors.Join(errs...)
}

// Package apparmor loads the AppArmor profile that Kubernetes calls RuntimeDefault.
//
// The profile is loaded into the kernel by the host's apparmor_parser (Debian: apparmor) when a container first asks for it, and stays: it
// harms nobody, and containers of another kubelet may have it.
//
//	l := apparmor.NewLoader("")
//	name, err := l.Default(ctx)
package apparmor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// DefaultName is the profile's name in the kernel.
const DefaultName = "bareboat-default"

// profile lets a program do what the rest of its container's confinement lets it, but for what leads out of a container with too many
// capabilities: mounting, changing the kernel's settings, and looking into processes outside. Whoever is not confined, such as podshim,
// may signal it.
const profile = `profile ` + DefaultName + ` flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (send,receive) peer=` + DefaultName + `,
  ptrace (trace,read,tracedby,readby) peer=` + DefaultName + `,
  deny mount,
  deny /proc/sys/** wkl,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,
  deny /proc/kmem rwklx,
  deny /proc/mem rwklx,
  deny /sys/** wkl,
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/security/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
}
`

// ErrNoParser: the host cannot load profiles.
var ErrNoParser = errors.New("AppArmor profile RuntimeDefault needs the program apparmor_parser; on Debian: apt-get install apparmor")

// Enabled says whether the kernel enforces profiles, and lets this host name them: without securityfs, as where the kubelet has a /sys of its
// own, libcontainer starts no container that has one.
func Enabled() bool { return enabledIn("/sys") }

func enabledIn(sys string) bool {
	if _, err := os.Stat(filepath.Join(sys, "kernel/security/apparmor")); err != nil {
		return false
	}
	data, err := os.ReadFile(filepath.Join(sys, "module/apparmor/parameters/enabled"))
	return err == nil && strings.HasPrefix(string(data), "Y")
}

// Loader loads the profile once. Its methods may be called from any number of goroutines.
type Loader struct {
	parser string

	mu     sync.Mutex
	loaded bool
}

// NewLoader makes a loader that uses the parser at that path, or where Debian has it.
func NewLoader(parser string) *Loader {
	if parser == "" {
		parser = "/sbin/apparmor_parser"
	}
	return &Loader{parser: parser}
}

// Able says whether there is a parser.
func (l *Loader) Able() bool {
	_, err := os.Stat(l.parser)
	return err == nil
}

// Default loads the profile, unless that has been done, and returns its name.
func (l *Loader) Default(ctx context.Context) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loaded {
		return DefaultName, nil
	}
	if !l.Able() {
		return "", ErrNoParser
	}
	cmd := exec.CommandContext(ctx, l.parser, "--replace", "--skip-cache")
	cmd.Stdin = strings.NewReader(profile)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("load AppArmor profile %s: %w: %s", DefaultName, err, bytes.TrimSpace(out))
	}
	l.loaded = true
	return DefaultName, nil
}

package shim_test

import (
	"slices"
	"strings"
	"testing"

	"bareboat.dev/kubelet/shim"
	"bareboat.dev/kubelet/shim/shimtest"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Shows that under the default profile ordinary programs work, while namespaces, mounts, the kernel's log and keys are out of reach, and
// that a capability opens what goes with it.
func TestDefaultSeccomp(t *testing.T) {
	pod, rootfs := shimtest.Launch(t, shim.PodConfig{}), shimtest.Rootfs(t)
	for _, c := range []struct {
		name, command, want string
		caps                []string
	}{
		{"ordinary", "mkdir /tmp/d && echo x | tr x y && sleep 0.01 && (: | nc 127.0.0.1 1) 2>/dev/null; grep Seccomp: /proc/self/status | tr -d '\\t'", "y\nSeccomp:2\n", nil},
		{"unshare", "unshare -U true 2>&1", "Operation not permitted", nil},
		{"mount", "mount -t tmpfs x /tmp 2>&1", "permission denied (are you root?)", nil},
		{"mount with the capability", "mount -t tmpfs x /tmp && echo mounted", "mounted\n", []string{"CAP_SYS_ADMIN"}},
		{"chroot", "chroot / echo inside", "inside\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := shimtest.ContainerIn(t, rootfs, c.command)
			caps := append(shim.DefaultCapabilities(), c.caps...)
			slices.Sort(caps)
			caps = slices.Compact(caps)
			config.Spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
			config.Spec.Linux.Seccomp = shim.DefaultSeccomp(caps)
			finishes(t, pod, config)
			if got := shimtest.Log(t, config); !strings.HasSuffix(strings.TrimSpace(got), strings.TrimSpace(c.want)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// Shows that no call is listed twice or without need: a list by purpose invites both.
func TestDefaultSeccompNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, rule := range shim.DefaultSeccomp(nil).Syscalls {
		for _, name := range rule.Names {
			if seen[name] {
				t.Errorf("%s is listed twice", name)
			}
			seen[name] = true
		}
	}
	for _, never := range []string{"mount", "unshare", "setns", "bpf", "keyctl", "add_key", "request_key", "kexec_load", "io_uring_setup", "userfaultfd", "open_by_handle_at", "swapon"} {
		if seen[never] {
			t.Errorf("%s is allowed to everybody", never)
		}
	}
}

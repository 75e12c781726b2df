package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"bareboat.dev/kubelet/cgroup"
	"bareboat.dev/kubelet/config"
)

// preflight finds out before anything is touched what would keep the kubelet from working. Each error is a sentence that
// says what to do.
func preflight(c *config.Config) error {
	if os.Geteuid() != 0 {
		return errors.New("the kubelet must run as root: it makes namespaces, mounts and control groups; start it with sudo or under systemd")
	}
	var errs []error
	if _, err := cgroup.Detect(); err != nil {
		errs = append(errs, fmt.Errorf("control groups cannot be used: %w; mount them at /sys/fs/cgroup", err))
	}
	if data, err := os.ReadFile("/proc/filesystems"); err == nil && !strings.Contains(string(data), "\toverlay\n") && !haveModule("overlay") {
		errs = append(errs, errors.New("the kernel has no overlay file system, which containers' root file systems need; load it with: modprobe overlay"))
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC}
	if fd, err := unix.Openat2(unix.AT_FDCWD, "/", &how); errors.Is(err, unix.ENOSYS) {
		errs = append(errs, errors.New("the kernel has no openat2(2); Linux 5.6 or newer is needed"))
	} else if err == nil {
		_ = unix.Close(fd)
	}
	if info, err := os.Stat(c.Podshim); err != nil || info.Mode()&0o111 == 0 {
		errs = append(errs, fmt.Errorf("podshim is not at %s; install it beside the kubelet, or name it with --podshim", c.Podshim))
	}
	if _, err := exec.LookPath("iptables"); err != nil {
		errs = append(errs, errors.New("iptables is not installed; install it with: apt-get install iptables"))
	}
	return errors.Join(errs...)
}

// haveModule says whether the kernel can load a module of that name.
func haveModule(name string) bool {
	return exec.Command("modprobe", name).Run() == nil
}

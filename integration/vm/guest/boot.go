package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"bareboat.dev/integration/vm/plan"
)

const (
	disk = "/dev/vda"
	// diskPatience is how long the disk may take to appear once its driver is there: an emulated bus is scanned in milliseconds.
	diskPatience = 30 * time.Second
)

// startFromDisk replaces the initial RAM disk by the disk, and this process by the one that is there.
func startFromDisk() error {
	if err := mount("devtmpfs", "/dev", "devtmpfs", 0, ""); err != nil {
		return err
	}
	modules, err := filepath.Glob(plan.Modules + "/*.ko")
	if err != nil {
		return err
	}
	for _, m := range modules {
		if err := load(m); err != nil {
			return err
		}
	}
	if err := awaitDisk(); err != nil {
		return err
	}
	if err := mount(disk, "/root", "ext4", unix.MS_NOATIME, ""); err != nil {
		return err
	}
	if err := os.Chdir("/root"); err != nil {
		return err
	}
	// Not pivot_root(2), which the kernel refuses on the initial RAM disk.
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the disk to /: %w", err)
	}
	if err := errors.Join(unix.Chroot("."), os.Chdir("/")); err != nil {
		return err
	}
	return fmt.Errorf("start from the disk: %w", unix.Exec("/init", []string{"/init"}, []string{}))
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load %s: %w", path, err)
	}
	return nil
}

func awaitDisk() error {
	deadline := time.Now().Add(diskPatience)
	for {
		if _, err := os.Stat(disk); err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s did not appear", disk)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind, target, err)
	}
	return nil
}

package network

import (
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// in runs fn on a thread that is in the network namespace at path; "" is the process's own. What fn starts or opens is there too.
func in(path string, fn func() error) error {
	if path == "" {
		return fn()
	}
	done := make(chan error)
	go func() { done <- inThread(path, fn) }()
	return <-done
}

// inThread moves its thread there and back. If it cannot go back, it does not unlock the thread, which then ends with the goroutine.
func inThread(path string, fn func() error) error {
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		return err
	}
	defer own.Close()
	target, err := netns.GetFromPath(path)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer target.Close()
	if err := netns.Set(target); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	err = fn()
	if netns.Set(own) == nil {
		runtime.UnlockOSThread()
	}
	return err
}

// handleAt talks to the kernel about the network namespace at path; "" is the process's own.
func handleAt(path string) (*netlink.Handle, error) {
	if path == "" {
		return netlink.NewHandle()
	}
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer ns.Close()
	return netlink.NewHandleAt(ns)
}

// setSysctl writes a kernel parameter of the calling thread's network namespace and returns what it was. What is so already is not
// written, since that needs no permission.
func setSysctl(path, value string) (was string, err error) {
	data, err := os.ReadFile("/proc/sys/" + path)
	if err != nil {
		return "", err
	}
	was = trimNewline(string(data))
	if was == value {
		return was, nil
	}
	return was, os.WriteFile("/proc/sys/"+path, []byte(value), 0)
}

func trimNewline(s string) string {
	for len(s) > 0 && s[len(s)-1] == '\n' {
		s = s[:len(s)-1]
	}
	return s
}

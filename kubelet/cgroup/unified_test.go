package cgroup

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// unified mounts the kernel's v2 hierarchy, which every host has, if without controllers where those are v1's.
func unified(t *testing.T) *Hierarchy {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts a cgroup file system: it needs root")
	}
	root := t.TempDir()
	if err := unix.Mount("cgroup2", root, "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	h, err := detect(root)
	if err != nil || h.Version() != V2 {
		t.Fatalf("detected %+v, %v", h, err)
	}
	return h
}

// Shows that on the kernel's v2 hierarchy groups are made, joined, listed with those below, killed at once and removed.
func TestUnified(t *testing.T) {
	h := unified(t)
	root := fmt.Sprintf("bareboat-test-%d", os.Getpid())
	t.Cleanup(func() {
		if err := errors.Join(h.Kill(t.Context(), root), h.Remove(root)); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	one := sleeper(t, h, root+"/pod/one", "sleep 1000 & sleep 1000")
	two := sleeper(t, h, root+"/pod/two", "sleep 1000")
	pids, err := h.Procs(root)
	if err != nil || !slices.Contains(pids, one.Process.Pid) || !slices.Contains(pids, two.Process.Pid) {
		t.Errorf("processes %v, %v", pids, err)
	}
	if err := h.Kill(t.Context(), root+"/pod"); err != nil {
		t.Fatal(err)
	}
	if pids, err := h.Procs(root); err != nil || len(pids) != 0 {
		t.Errorf("after the kill: %v, %v", pids, err)
	}
	if err := h.RemoveChildren(root + "/pod"); err != nil {
		t.Fatal(err)
	}
	if !h.Exists(root+"/pod") || h.Exists(root+"/pod/one") {
		t.Error("RemoveChildren removed too much or too little")
	}
	if err := errors.Join(h.Remove(root), h.Remove(root)); err != nil {
		t.Error(err)
	}
}

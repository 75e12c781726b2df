package cgroup

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNothingStaysInAnyHierarchy shows that a removed tree is gone from every mounted hierarchy, also from a v2 one beside v1, where
// libcontainer makes groups that this package sets nothing in.
func TestNothingStaysInAnyHierarchy(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test makes control groups and needs root; run it with sudo")
	}
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	tree := h.Tree("bareboat-test-hierarchies")
	t.Cleanup(func() { _ = tree.Remove(context.Background()) })
	path, err := tree.CreatePod(Burstable, "uid", Resources{})
	if err != nil {
		t.Fatal(err)
	}
	// As libcontainer does for a container.
	roots := append([]string{}, h.distinct...)
	if unified := filepath.Join(mountPoint, "unified"); hasMagic(unified, unix.CGROUP2_SUPER_MAGIC) {
		roots = append(roots, unified)
	}
	for _, root := range roots {
		if err := os.MkdirAll(filepath.Join(root, path, "container"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := tree.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, root := range roots {
		if left, _ := filepath.Glob(filepath.Join(root, "bareboat-test-hierarchies*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

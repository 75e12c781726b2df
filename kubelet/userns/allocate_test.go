package userns

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

// TestAllocate shows that ranges are disjoint, above the host's users, kept over restarts, and given to others only when they are released.
func TestAllocate(t *testing.T) {
	dir := t.TempDir()
	for _, uid := range []string{"a", "b", "c"} {
		if err := os.Mkdir(filepath.Join(dir, uid), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	open := func() *Allocator {
		t.Helper()
		a, err := Open(dir, 2)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	want := func(a *Allocator, uid types.UID, first uint32) {
		t.Helper()
		if got, err := a.Allocate(uid); err != nil || got != first {
			t.Errorf("%s has %d, %v, want %d", uid, got, err, first)
		}
	}
	a := open()
	want(a, "a", 65536)
	want(a, "b", 131072)
	want(a, "a", 65536)
	if _, err := a.Allocate("c"); !errors.Is(err, ErrFull) {
		t.Errorf("a third: %v", err)
	}
	a = open()
	want(a, "b", 131072)
	if err := os.RemoveAll(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	a.Release("a")
	want(a, "c", 65536)
	want(open(), "c", 65536)
	if err := os.WriteFile(filepath.Join(dir, "b", file), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, 2); err == nil {
		t.Error("a record that cannot be read is passed over")
	}
}

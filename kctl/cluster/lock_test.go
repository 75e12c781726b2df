package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLookingAtALockDoesNotTakeIt shows that a lock is held by one, that any number of looks keep nobody out, and that it ends
// with its holder.
func TestLookingAtALockDoesNotTakeIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "x.lock")
	if lockHeld(path) {
		t.Error("a lock that nobody has made is held")
	}
	f, err := tryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if !lockHeld(path) || !lockHeld(path) {
		t.Error("a held lock looks free")
	}
	if _, err := tryLock(path); !errors.Is(err, errLocked) {
		t.Errorf("a second holder got %v", err)
	}
	f.Close()
	if lockHeld(path) {
		t.Error("the lock outlived its holder")
	}
}

// TestLockOfARemovedFile shows that who waited for a lock whose file its holder removed gets a lock on the file's successor.
func TestLockOfARemovedFile(t *testing.T) {
	l := Layout{Run: filepath.Join(t.TempDir(), "run")}
	first, err := lockHost(t.Context(), l, &strings.Builder{})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	got := make(chan error, 1)
	go func() {
		second, err := lockHost(t.Context(), l, &out)
		if err == nil {
			defer second.Close()
			if !same(second, l.lockFile()) {
				err = errors.New("the lock is on a removed file")
			}
		}
		got <- err
	}()
	if err := os.RemoveAll(l.Run); err != nil {
		t.Fatal(err)
	}
	first.Close()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// TestWaitForTheHostSaysSo shows that a second up or down says what it waits for, and that waiting ends with its context.
func TestWaitForTheHostSaysSo(t *testing.T) {
	l := Layout{Run: filepath.Join(t.TempDir(), "run")}
	first, err := lockHost(t.Context(), l, &strings.Builder{})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out strings.Builder
	if _, err := lockHost(ctx, l, &out); !errors.Is(err, context.Canceled) || !strings.Contains(out.String(), "waiting") {
		t.Errorf("lockHost: %q, %v", out.String(), err)
	}
}

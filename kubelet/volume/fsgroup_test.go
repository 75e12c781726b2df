package volume

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func groupOf(t *testing.T, path string) (gid uint32, mode uint32) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Gid, st.Mode & 0o7777
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFSGroup shows what a volume's files become, that links are not followed, and that mounts in it are left alone.
func TestFSGroup(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write(t, filepath.Join(dir, "sub/file"))
	write(t, filepath.Join(outside, "file"))
	mounted := filepath.Join(dir, "mounted")
	for _, err := range []error{
		os.Symlink(filepath.Join(outside, "file"), filepath.Join(dir, "link")), os.Symlink(outside, filepath.Join(dir, "dirlink")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600), os.Mkdir(mounted, 0o700), unix.Mount(outside, mounted, "", unix.MS_BIND, ""),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = unix.Unmount(mounted, unix.MNT_DETACH) })
	if err := ApplyFSGroup(dir, 2000, false); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][2]uint32{
		"": {2000, 0o2770}, "sub": {2000, 0o2770}, "sub/file": {2000, 0o660}, "fifo": {2000, 0o660}, "link": {2000, 0o777}, "dirlink": {2000, 0o777},
	} {
		gid, mode := groupOf(t, filepath.Join(dir, path))
		if path == "" {
			mode &= 0o2770 // the test's own folder is open to all
		}
		if gid != want[0] || mode != want[1] {
			t.Errorf("%q has group %d and mode %o, want %d and %o", path, gid, mode, want[0], want[1])
		}
	}
	for _, path := range []string{outside, filepath.Join(outside, "file")} {
		if gid, _ := groupOf(t, path); gid != 0 {
			t.Errorf("%s, outside of the volume, was given to group %d", path, gid)
		}
	}
	// With its root right, nothing else is looked at.
	if err := os.Chown(filepath.Join(dir, "sub/file"), 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := ApplyFSGroup(dir, 2000, true); err != nil {
		t.Fatal(err)
	}
	if gid, _ := groupOf(t, filepath.Join(dir, "sub/file")); gid != 0 {
		t.Error("OnRootMismatch looked into a volume whose root is right")
	}
}

// TestFSGroupIsConfined shows that a container which keeps swapping a folder for a link to one outside never has anything outside changed.
func TestFSGroupIsConfined(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	const files = 20
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"}[:files]
	for _, n := range names {
		write(t, filepath.Join(dir, "swap", n))
		write(t, filepath.Join(outside, n))
	}
	if err := os.Symlink(outside, filepath.Join(dir, "other")); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "swap"), unix.AT_FDCWD, filepath.Join(dir, "other"), unix.RENAME_EXCHANGE)
			}
		}
	})
	for range 300 {
		if err := ApplyFSGroup(dir, 2000, false); err != nil {
			t.Errorf("while folders were swapped: %v", err)
			break
		}
	}
	close(stop)
	swapper.Wait()
	for _, path := range append(names, "") {
		if gid, _ := groupOf(t, filepath.Join(outside, path)); gid != 0 {
			t.Fatalf("%q outside of the volume was given to group %d", path, gid)
		}
	}
}

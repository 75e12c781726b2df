package du

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Shows what counts: blocks and inodes, files with several names once, links as themselves, and nothing of another file system.
func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), 8192)
	if err := errors.Join(os.Link(filepath.Join(dir, "f"), filepath.Join(dir, "g")), os.Symlink("/", filepath.Join(dir, "l")), os.Mkdir(filepath.Join(dir, "d"), 0o755), os.Mkdir(filepath.Join(dir, "m"), 0o755)); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "d/h"), 4096)
	if err := unix.Mount("tmpfs", filepath.Join(dir, "m"), "tmpfs", 0, ""); err != nil {
		t.Fatal("this test needs root:", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(dir, "m"), 0) })
	write(t, filepath.Join(dir, "m/other"), 1<<20)
	got, err := Measure(dir)
	if err != nil || got.Inodes != 5 || got.Bytes < 12288 || got.Bytes > 64<<10 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Measure(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
}

// Shows that a tree deeper than any path may be long, and than we keep open, is measured to its end, on the way down and back.
func TestDeep(t *testing.T) {
	dir := t.TempDir()
	const depth = maxOpen + 50
	name := strings.Repeat("d", 100)
	fd, err := unix.Open(dir, unix.O_PATH, 0)
	for range depth {
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []string{name, "z"} {
			if err := unix.Mkdirat(fd, n, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		var next int
		next, err = unix.Openat(fd, name, unix.O_PATH, 0)
		_ = unix.Close(fd)
		fd = next
	}
	_ = unix.Close(fd)
	write(t, filepath.Join(dir, "beside"), 1<<20)
	got, err := Measure(dir)
	if err != nil || got.Inodes != 2*depth+2 || got.Bytes < 1<<20 {
		t.Errorf("%+v, %v; want %d inodes", got, err, 2*depth+2)
	}
}

func write(t *testing.T, path string, size int) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Repeat("x", size)), 0o644); err != nil {
		t.Fatal(err)
	}
}

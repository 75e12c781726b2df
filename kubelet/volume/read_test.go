package volume

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReadFile shows what is read of an emptyDir: regular files of a bounded size, through links inside of it, and nothing outside.
func TestReadFile(t *testing.T) {
	m, _, p := setup(t, `volumes: [{name: v, emptyDir: {}}]`)
	mount(t, m, p)
	root := m.dir(p.UID, pluginEmptyDir, "v")
	err := errors.Join(os.WriteFile(filepath.Join(root, "f"), []byte("text"), 0o600), os.Symlink("/f", filepath.Join(root, "in")),
		os.Symlink("/etc/passwd", filepath.Join(root, "out")), os.Symlink("../../../../../../../etc/passwd", filepath.Join(root, "up")),
		os.Mkdir(filepath.Join(root, "dir"), 0o755), unix.Mkfifo(filepath.Join(root, "fifo"), 0o600),
		os.WriteFile(filepath.Join(root, "large"), make([]byte, 11), 0o600), os.Symlink("/proc/self/root/etc/passwd", filepath.Join(root, "magic")))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		"f": nil, "in": nil, "out": fs.ErrNotExist, "up": fs.ErrNotExist, "none": fs.ErrNotExist, "dir": ErrNotFile, "fifo": ErrNotFile,
		"large": ErrNotFile, "magic": fs.ErrNotExist,
	} {
		data, err := m.ReadFile(p, "v", path, 10)
		if !errors.Is(err, want) || want == nil && string(data) != "text" {
			t.Errorf("%s: %q, %v; want %v", path, data, err, want)
		}
	}
	if _, err := m.ReadFile(p, "w", "f", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such volume: %v", err)
	}
}

package volume

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSubPathModes shows who may use directories that a subPath has made: whoever may use the volume's own, with its group. What was there
// before stays as it was.
func TestSubPathModes(t *testing.T) {
	m, _, p := setup(t, `volumes: [{name: v, emptyDir: {}}]`)
	for i, mode := range []uint32{0o777, 0o2775, 0o1777, 0o750} {
		root := t.TempDir()
		err := errors.Join(os.Chown(root, 0, 4321), unix.Chmod(root, mode), os.Mkdir(root+"/there", 0o700), unix.Chmod(root+"/there", 0o700))
		if err != nil {
			t.Fatal(err)
		}
		for _, sub := range []string{"a/b", "there/c"} {
			target, err := m.SubPath(p.UID, "v", sub[:1], i, root, sub)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
		}
		for path, want := range map[string]uint32{"a": mode, "a/b": mode, "there": 0o700, "there/c": mode & 0o1777} {
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(root, path), &st); err != nil {
				t.Fatal(err)
			}
			if got := st.Mode & 0o7777; got != want || want&unix.S_ISGID != 0 && st.Gid != 4321 {
				t.Errorf("in a volume of mode %o, %s has %o of group %d, want %o", mode, path, got, st.Gid, want)
			}
		}
	}
}

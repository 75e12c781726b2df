package cluster

import (
	"os"
	"path/filepath"
	"testing"
)

// TestInstall shows that the daemons are copied to the units' folder, again only when they have changed, and that only what install made
// is removed.
func TestInstall(t *testing.T) {
	l, to := fakeLayout(t, "exit 0\n"), filepath.Join(t.TempDir(), "lib")
	if err := os.WriteFile(l.Bin("podshim"), []byte("shim"), 0o755); err != nil {
		t.Fatal(err)
	}
	inode := func(name string) os.FileInfo {
		info, err := os.Stat(filepath.Join(to, "bin", name))
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	if err := install(l, to); err != nil {
		t.Fatal(err)
	}
	shim, dns := inode("podshim"), inode("dns")
	if shim.Mode().Perm() != 0o755 {
		t.Errorf("podshim's mode is %v", shim.Mode())
	}
	if err := os.WriteFile(l.Bin("dns"), []byte("a newer build"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := install(l, to); err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(shim, inode("podshim")) || os.SameFile(dns, inode("dns")) {
		t.Error("the unchanged program was replaced, or the changed one was not")
	}
	if err := uninstall(l, to); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(to); err == nil {
		t.Error("the folder is left")
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := install(l, to); err != nil {
		t.Fatal(err)
	}
	if err := uninstall(l, to); err != nil || inode("dns") == nil {
		t.Errorf("somebody else's folder was removed: %v", err)
	}
}

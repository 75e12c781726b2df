package vm

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"bareboat.dev/integration/vm/plan"
)

// Tree is a folder that becomes the machine's disk.
type Tree struct{ Root string }

// Copy puts a file there, with its mode.
func (t Tree) Copy(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	path := filepath.Join(t.Root, to)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}

// Write puts a file with the given content there.
func (t Tree) Write(to, content string) error {
	path := filepath.Join(t.Root, to)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), 0o644)
}

// Link puts a symbolic link there, unless something of that name is there already.
func (t Tree) Link(target, name string) error {
	path := filepath.Join(t.Root, name)
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.Symlink(target, path)
}

// Plan puts the plan there.
func (t Tree) Plan(p plan.Plan) error {
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return t.Write(plan.File, string(data))
}

// Image makes an ext4 file system of the tree, with room for size bytes in all. The file is sparse.
func (t Tree) Image(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	// No journal and no lazy work: the disk lives as long as the machine.
	out, err := exec.Command("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=0,root_owner=0:0", "-d", t.Root, path).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mkfs.ext4 (Debian: apt-get install e2fsprogs): %w: %s", err, out)
	}
	return nil
}

package volume

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// dataLink is the symbolic link through which a volume's files are reached, dataNew the one that replaces it.
const (
	dataLink = "..data"
	dataNew  = "..data_tmp"
)

// writeAtomically makes dir show exactly files. Readers see the old set or the new one, never a mixture: the files are
// written to a fresh directory, "..data" is replaced by rename to point to it, and the visible names are links through it.
func writeAtomically(dir string, files payload, group *int64) error {
	old, _ := os.Readlink(filepath.Join(dir, dataLink))
	if old != "" && unchanged(filepath.Join(dir, old), files) {
		// Whoever was killed while it wrote may have left names and directories of before.
		return errors.Join(link(dir, files), removeStale(dir, old, files))
	}
	fresh, err := os.MkdirTemp(dir, "..")
	if err != nil {
		return err
	}
	if err := writeFiles(fresh, files, group); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	if err := swapLink(dir, filepath.Base(fresh)); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	if err := link(dir, files); err != nil {
		return err
	}
	return removeStale(dir, filepath.Base(fresh), files)
}

func writeFiles(dir string, files payload, group *int64) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for name, f := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.data, f.mode); err != nil {
			return err
		}
		mode := f.mode
		uid, gid := 0, 0
		if f.uid != nil {
			uid = int(*f.uid)
		}
		if group != nil {
			gid = int(*group)
			mode |= 0o440
		}
		if err := os.Chown(path, uid, gid); err != nil {
			return err
		}
		// The mode goes last: chown clears set-id bits, and the umask has cut what was asked for.
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
	}
	return nil
}

// errDiffers ends the comparison of a directory with a payload.
var errDiffers = errors.New("not the same files")

// unchanged says whether dir has exactly these files with these contents.
func unchanged(dir string, files payload) bool {
	seen := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		f, ok := files[rel]
		data, err := os.ReadFile(path)
		if err != nil || !ok || !bytes.Equal(data, f.data) {
			return errDiffers // not fs.SkipAll: one file too many may come after all that are wanted
		}
		seen++
		return nil
	})
	return err == nil && seen == len(files)
}

func swapLink(dir, target string) error {
	tmp := filepath.Join(dir, dataNew)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, dataLink))
}

// link makes the visible names, which are the first components of the files' paths.
func link(dir string, files payload) error {
	for name := range files {
		top, _, _ := strings.Cut(name, "/")
		path := filepath.Join(dir, top)
		if have, err := os.Readlink(path); err == nil && have == filepath.Join(dataLink, top) {
			continue
		}
		if err := os.Symlink(filepath.Join(dataLink, top), path); err != nil {
			return err
		}
	}
	return nil
}

// removeStale removes visible names that are no more, and what older versions left.
func removeStale(dir, current string, files payload) error {
	visible := map[string]bool{dataLink: true, current: true}
	for name := range files {
		top, _, _ := strings.Cut(name, "/")
		visible[top] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if visible[e.Name()] {
			continue
		}
		isLink := e.Type()&fs.ModeSymlink != 0
		if isLink || e.IsDir() && strings.HasPrefix(e.Name(), "..") {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

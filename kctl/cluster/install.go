package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// installMark is in the installed folder if kctl up has made it, so that down --purge knows to remove it.
const installMark = ".made-by-kctl-up"

// install copies the daemons to where the units name them. Units are sandboxed: they see neither home folders nor /tmp, which is where
// build trees are.
func install(l Layout, to string) error {
	if l.Lib == to {
		return nil
	}
	bin := filepath.Join(to, "bin")
	if _, err := os.Stat(to); errors.Is(err, os.ErrNotExist) {
		if err := writeFile(filepath.Join(to, installMark), nil, 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	for _, d := range append(Daemons(), "podshim") {
		if err := copyProgram(l.Bin(d), filepath.Join(bin, d)); err != nil {
			return fmt.Errorf("install the %s: %w", d, err)
		}
	}
	return nil
}

// copyProgram replaces to at once, so that a daemon that runs from it goes on, and leaves it alone if it is the same build.
func copyProgram(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if have, err := os.Stat(to); err == nil && have.Size() == info.Size() && have.ModTime().Equal(info.ModTime()) {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(to), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = io.Copy(tmp, src)
	if err := errors.Join(err, tmp.Chmod(0o755), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Chtimes(tmp.Name(), info.ModTime(), info.ModTime()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), to)
}

// uninstall removes what install has made, unless somebody else had made the folder before.
func uninstall(l Layout, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, installMark)); err != nil || l.Lib == dir {
		return nil
	}
	return os.RemoveAll(dir)
}

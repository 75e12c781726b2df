package server

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"bareboat.dev/kubelet/shim"
)

// writeRecord replaces a file by v as JSON such that a crash at any instant leaves the old content or the new, and that the new
// is on disk when it returns: write, fsync, rename, fsync of the directory.
func writeRecord(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// containerDir is where a container's record is.
func (s *Server) containerDir(id string) string { return filepath.Join(s.dir, shim.ContainersDir, id) }

// runtimeDir is libcontainer's.
func (s *Server) runtimeDir() string { return filepath.Join(s.dir, shim.RuntimeDir) }

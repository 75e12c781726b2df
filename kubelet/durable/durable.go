// Package durable writes small files that must be whole after a power cut: what is to be read when the host comes up again.
//
//	err := durable.WriteFile("/var/lib/kubelet/cpu_manager.json", data, 0o600)
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// WriteFile replaces a file: whoever reads it, now or after a power cut, finds the old contents or the new ones, never a part. Once it
// returns nil the new ones stay. One writer at a time.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	next := path + ".tmp"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	if err := os.Rename(next, path); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Package sysctl changes the kernel's settings and puts them back.
//
//	err := sysctl.Set("/run/bareboat/proxy", "net/netfilter/nf_conntrack_tcp_timeout_close_wait", "3600")
//	err = sysctl.Restore("/run/bareboat/proxy", "net/netfilter/nf_conntrack_tcp_timeout_close_wait") // for --cleanup
package sysctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// root is where the settings of this process' namespaces are.
const root = "/proc/sys"

// Set gives a setting a value. What it was before the first change is kept in dir, in a file of the setting's last name.
func Set(dir, name, value string) error {
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return err
	}
	was := strings.TrimSpace(string(data))
	if was == value {
		return nil
	}
	// The old value first: a crash in between leaves a file that restores what is there anyway.
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := keep(filepath.Join(dir, path.Base(name)), was); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, name), []byte(value), 0)
}

// keep writes a file unless there is one, of an earlier change.
func keep(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Restore gives settings that Set changed their former values, and forgets about them.
func Restore(dir string, names ...string) error {
	var errs []error
	for _, name := range names {
		kept := filepath.Join(dir, path.Base(name))
		was, err := os.ReadFile(kept)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && len(was) > 0 { // nothing was changed if a crash left the file empty
			err = os.WriteFile(filepath.Join(root, name), was, 0)
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) { // without its module a setting has nothing to restore
			err = os.Remove(kept)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("restore %s: %w", name, err))
		}
	}
	_ = os.Remove(dir) // if it is empty
	return errors.Join(errs...)
}

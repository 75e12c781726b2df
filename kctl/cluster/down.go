package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Down stops every daemon and pod, and removes what they made on the host: processes, mounts, namespaces, interfaces, rules
// and cgroups. The cluster's state, certificates and images stay, and Up goes on with them; with purge they go too. A
// second Down does nothing. It needs no API server.
func Down(ctx context.Context, l Layout, purge bool, out io.Writer) error {
	if os.Geteuid() != 0 {
		return errors.New("stopping a cluster needs root; run it with sudo")
	}
	lock, err := lockHost(ctx, l, out)
	if err != nil {
		return err
	}
	defer lock.Close()
	mgr := newManager(l)
	was := mgr.running()
	if err := mgr.stop(ctx); err != nil {
		return err
	}
	if was {
		fmt.Fprintln(out, "Daemons stopped.")
	}
	if err := cleanHost(ctx, l); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%w; run `kctl down` again to finish", ErrInterrupted)
		}
		return err
	}
	if purge {
		for _, dir := range []string{l.State, l.Etc, l.Log, l.Kubelet} {
			if err := removeTree(dir); err != nil {
				return err
			}
		}
		if err := uninstall(l, installedLib); err != nil {
			return err
		}
		fmt.Fprintln(out, "State, certificates and images removed.")
	}
	fmt.Fprintln(out, "The host is as it was.")
	return nil
}

// cleanHost has each daemon remove what it made on the host, and removes what is in memory. All are asked even if one fails,
// so that as little as possible is left; what is in memory stays then, since it tells what is left.
func cleanHost(ctx context.Context, l Layout) error {
	var errs []error
	for _, d := range []string{"kubelet", "proxy", "dns"} {
		if _, err := os.Stat(l.Config(d)); err != nil {
			continue // it never ran
		}
		cmd := exec.CommandContext(ctx, l.Bin(d), "--config", l.Config(d), "--cleanup")
		if text, err := cmd.CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("%s --cleanup: %w: %s", d, err, complaint(text)))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.RemoveAll(l.Run)
}

// removeTree deletes a folder unless something is mounted in it: whatever is behind a mount is not ours to delete. Of a folder that
// is itself a mount point, such as a disk of its own for the state, it deletes what is in it.
func removeTree(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	itself, below := mountsIn(string(mounts), dir)
	if below != "" {
		return fmt.Errorf("%s is still mounted; unmount it and run this again", below)
	}
	if !itself {
		return os.RemoveAll(dir)
	}
	entries, err := os.ReadDir(dir)
	errs := []error{err}
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}

// mountsIn reports whether dir is a mount point in a table of proc_pid_mounts(5), and names one below it.
func mountsIn(table, dir string) (itself bool, below string) {
	dir = filepath.Clean(dir)
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		if fields[1] == dir {
			itself = true
		} else if strings.HasPrefix(fields[1], dir+"/") {
			below = fields[1]
		}
	}
	return itself, below
}

package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

// LocalDevice mounts local volumes that are block devices but are to be file systems, with the host's mount(8), blkid(8), fsck(8) and mkfs(8):
// each pod has a mount of its own. A device that holds nothing is formatted; one that holds anything is not.
type LocalDevice struct {
	// formatting is held by who looks what a device holds and formats it.
	formatting sync.Mutex
}

// localDevice says whether a volume is one that [LocalDevice] mounts.
func localDevice(r Request) bool {
	if r.PV == nil || r.PV.Spec.Local == nil || r.Block() {
		return false
	}
	info, err := os.Stat(r.PV.Spec.Local.Path)
	return err == nil && info.Mode()&os.ModeDevice != 0 && info.Mode()&os.ModeCharDevice == 0
}

// Mount implements [Plugin].
func (l *LocalDevice) Mount(ctx context.Context, r Request) (string, error) {
	mounted, err := isMountPoint(r.Dir)
	if err != nil || mounted {
		return r.Dir, err
	}
	device, kind, options := r.PV.Spec.Local.Path, "ext4", slices.Clone(r.PV.Spec.MountOptions)
	if t := r.PV.Spec.Local.FSType; t != nil && *t != "" {
		kind = *t
	}
	readOnly := r.ReadOnly() || slices.Contains(options, "ro")
	if kind, err = l.prepare(ctx, device, kind, readOnly); err != nil {
		return "", err
	}
	args := []string{"-t", kind}
	if len(options) > 0 {
		args = append(args, "-o", strings.Join(options, ","))
	}
	if _, err := run(ctx, "mount", "util-linux", append(args, device, r.Dir)...); err != nil {
		return "", err
	}
	if !readOnly {
		return r.Dir, applyFSGroup(r.Dir, r.Pod)
	}
	// This mount, not the file system: another pod may write to it.
	if _, err := run(ctx, "mount", "util-linux", "-o", "remount,bind,ro", r.Dir); err != nil {
		return "", errors.Join(err, unix.Unmount(r.Dir, unix.MNT_DETACH))
	}
	return r.Dir, nil
}

// prepare makes sure that there is a file system on a device, and that it is in order. It returns of which type it is: an existing one counts
// rather than the one that is asked for.
func (l *LocalDevice) prepare(ctx context.Context, device, kind string, readOnly bool) (string, error) {
	l.formatting.Lock()
	defer l.formatting.Unlock()
	have, err := holds(ctx, device)
	switch {
	case err != nil:
		return "", err
	case have != "" && readOnly:
		return have, nil
	case have != "":
		return have, check(ctx, device)
	case readOnly:
		return "", fmt.Errorf("cannot mount unformatted disk %s as we are manipulating it in read-only mode", device)
	}
	var args []string
	switch kind {
	case "ext3", "ext4":
		args = []string{"-F", "-m0"} // no questions, and nothing kept back for root
	case "xfs":
		args = []string{"-f"}
	}
	_, err = run(ctx, "mkfs."+kind, map[string]string{"xfs": "xfsprogs", "btrfs": "btrfs-progs"}[kind], append(args, device)...)
	return kind, err
}

// holds is the type of the file system that a device holds; empty if it holds nothing at all.
func holds(ctx context.Context, device string) (string, error) {
	const nothing = 2 // blkid(8): nothing was found
	out, err := run(ctx, "blkid", "util-linux", "-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export", device)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == nothing {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	kind, table := "", ""
	for line := range strings.Lines(out) {
		if v, ok := strings.CutPrefix(line, "TYPE="); ok {
			kind = strings.TrimSpace(v)
		}
		if v, ok := strings.CutPrefix(line, "PTTYPE="); ok {
			table = strings.TrimSpace(v)
		}
	}
	if kind == "" {
		return "", fmt.Errorf("%s holds something that is no file system (partition table %q)", device, table)
	}
	return kind, nil
}

// check has a file system repaired before it is written to. One that is mounted by another pod is in use, and in order.
func check(ctx context.Context, device string) error {
	const corrected, uncorrected, operational = 1, 4, 8 // fsck(8), bits
	_, err := run(ctx, "fsck", "util-linux", "-a", device)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if code := exit.ExitCode(); code&uncorrected == 0 && code&(corrected|operational) != 0 {
			return nil // it is in order now, or nobody can tell: mounting decides
		}
	}
	return err
}

// run runs a program of the host. What is missing is named with the package that has it.
func run(ctx context.Context, program, pkg string, args ...string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		if pkg == "" {
			return "", fmt.Errorf("this host has no program %s", program)
		}
		return "", fmt.Errorf("this host has no program %s; on Debian: apt-get install %s", program, pkg)
	}
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// Path implements [Plugin].
func (*LocalDevice) Path(r Request) string { return r.Dir }

// Unmount implements [Plugin]: the manager unmounts.
func (*LocalDevice) Unmount(context.Context, types.UID, string) error { return nil }

package volume

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

func fsGroup(p *corev1.Pod) *int64 {
	if s := p.Spec.SecurityContext; s != nil {
		return s.FSGroup
	}
	return nil
}

// applyFSGroup gives a volume to the pod's fsGroup: group ownership, read and write for the group, and set-group-id on
// directories so that new files follow. With OnRootMismatch nothing is done if the volume's root is right already.
func applyFSGroup(dir string, p *corev1.Pod) error {
	group := fsGroup(p)
	if group == nil {
		return nil
	}
	policy := p.Spec.SecurityContext.FSGroupChangePolicy
	if policy != nil && *policy == corev1.FSGroupChangeOnRootMismatch && rootMatches(dir, *group) {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return giveToGroup(path, e, int(*group))
	})
}

func giveToGroup(path string, e fs.DirEntry, group int) error {
	if err := os.Lchown(path, -1, group); err != nil {
		return err
	}
	if e.Type()&fs.ModeSymlink != 0 {
		return nil
	}
	info, err := e.Info()
	if err != nil {
		return err
	}
	mode := info.Mode() | 0o660
	if e.IsDir() {
		mode |= fs.ModeSetgid | 0o110
	}
	return os.Chmod(path, mode)
}

func rootMatches(dir string, group int64) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int64(st.Gid) == group && info.Mode()&fs.ModeSetgid != 0 && info.Mode()&0o660 == 0o660
}

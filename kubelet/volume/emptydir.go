package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/du"
)

// emptyDirMode lets every user of the pod write, as Kubernetes does: the directory above keeps others out.
const emptyDirMode = 0o777

func (m *Manager) mountEmptyDir(p *corev1.Pod, v *corev1.Volume) error {
	dir := m.dir(p.UID, pluginEmptyDir, v.Name)
	if err := os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		return err
	}
	if err := os.Mkdir(dir, emptyDirMode); err != nil && !os.IsExist(err) {
		return err
	}
	switch v.EmptyDir.Medium {
	case corev1.StorageMediumDefault:
	case corev1.StorageMediumMemory:
		if err := mountTmpfs(dir, memorySize(p, v.EmptyDir)); err != nil {
			return err
		}
	default:
		return mountHugepages(dir, v.EmptyDir)
	}
	if err := os.Chmod(dir, emptyDirMode); err != nil {
		return err
	}
	return applyFSGroup(dir, p)
}

// memorySize bounds a memory-backed emptyDir: by its sizeLimit, or by the sum of the containers' memory limits if all have
// one; 0 leaves the kernel's default, half of the memory.
func memorySize(p *corev1.Pod, e *corev1.EmptyDirVolumeSource) int64 {
	var sum int64
	for i := range p.Spec.Containers {
		limit := p.Spec.Containers[i].Resources.Limits.Memory().Value()
		if limit == 0 {
			sum = 0
			break
		}
		sum += limit
	}
	if e.SizeLimit != nil && e.SizeLimit.Value() > 0 && (sum == 0 || e.SizeLimit.Value() < sum) {
		return e.SizeLimit.Value()
	}
	return sum
}

// mountTmpfs mounts a tmpfs unless there is one. size 0 leaves the default.
func mountTmpfs(dir string, size int64) error {
	mounted, err := isMountPoint(dir)
	if err != nil || mounted {
		return err
	}
	options := "mode=0777"
	if size > 0 {
		options += fmt.Sprintf(",size=%d", size)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return &os.PathError{Op: "mount tmpfs", Path: dir, Err: err}
	}
	return nil
}

func mountHugepages(dir string, e *corev1.EmptyDirVolumeSource) error {
	mounted, err := isMountPoint(dir)
	if err != nil || mounted {
		return err
	}
	options := ""
	if size, ok := cutPrefix(string(e.Medium), string(corev1.StorageMediumHugePagesPrefix)); ok {
		options = "pagesize=" + size
	}
	if err := unix.Mount("nodev", dir, "hugetlbfs", 0, options); err != nil {
		return &os.PathError{Op: "mount hugetlbfs", Path: dir, Err: err}
	}
	return nil
}

// EmptyDirUsage measures the disk-backed emptyDirs of a pod, by volume: what was seen of them, even with an error. It crosses no mount.
func (m *Manager) EmptyDirUsage(uid types.UID) (map[string]du.Size, error) {
	base := filepath.Join(m.PodDir(uid), "volumes", pluginEmptyDir)
	entries, err := os.ReadDir(base)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	usage := map[string]du.Size{}
	for _, e := range entries {
		size, measureErr := du.Measure(filepath.Join(base, e.Name()))
		if !os.IsNotExist(measureErr) {
			err = errors.Join(err, measureErr)
		}
		usage[e.Name()] = size
	}
	return usage, err
}

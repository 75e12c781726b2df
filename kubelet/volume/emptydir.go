package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
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
		if err := mountHugepages(dir, p, v.EmptyDir); err != nil {
			return err
		}
	}
	if err := os.Chmod(dir, emptyDirMode); err != nil {
		return err
	}
	return applyFSGroup(dir, p)
}

// memorySize bounds a memory-backed emptyDir: by its sizeLimit, or by the memory limit of the pod, which is its own or the sum of its
// containers' if all have one; 0 leaves the kernel's default, half of the memory.
func memorySize(p *corev1.Pod, e *corev1.EmptyDirVolumeSource) int64 {
	limit := memoryLimit(p)
	if e.SizeLimit != nil && e.SizeLimit.Value() > 0 && (limit == 0 || e.SizeLimit.Value() < limit) {
		return e.SizeLimit.Value()
	}
	return limit
}

// memoryLimit is the most memory that a pod's containers can have; 0 if that is not bounded.
func memoryLimit(p *corev1.Pod) (sum int64) {
	if r := p.Spec.Resources; r != nil && r.Limits.Memory().Sign() > 0 {
		return r.Limits.Memory().Value()
	}
	for i := range p.Spec.Containers {
		limit := p.Spec.Containers[i].Resources.Limits.Memory().Value()
		if limit == 0 {
			return 0
		}
		sum += limit
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

func mountHugepages(dir string, p *corev1.Pod, e *corev1.EmptyDirVolumeSource) error {
	size, err := pageSize(p, e.Medium)
	if err != nil {
		return err
	}
	mounted, err := isMountPoint(dir)
	if err != nil || mounted {
		return err
	}
	if err := unix.Mount("nodev", dir, "hugetlbfs", 0, fmt.Sprintf("pagesize=%d", size)); err != nil {
		return &os.PathError{Op: "mount hugetlbfs", Path: dir, Err: err}
	}
	return nil
}

// pageSize is that of a medium of huge pages, which its name says, or that of the pages that the pod asks for, which must be one.
func pageSize(p *corev1.Pod, medium corev1.StorageMedium) (int64, error) {
	asked := map[string]bool{}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			for name := range list[i].Resources.Requests {
				if size, ok := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix); ok {
					asked[size] = true
				}
			}
		}
	}
	text, named := strings.CutPrefix(string(medium), string(corev1.StorageMediumHugePagesPrefix))
	switch {
	case named && !asked[text]:
		return 0, fmt.Errorf("medium %q: no container of the pod requests pages of that size", medium)
	case !named && medium != corev1.StorageMediumHugePages:
		return 0, fmt.Errorf("unknown storage medium %q", medium)
	case !named && len(asked) != 1:
		return 0, fmt.Errorf("medium %q: the pod's containers request huge pages of %d sizes, not of one; name the size in the medium", medium, len(asked))
	case !named:
		for text = range asked {
		}
	}
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return 0, fmt.Errorf("medium %q: %w", medium, err)
	}
	return q.Value(), nil
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

package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/rmtree"
)

// The local-path provisioner, a controller, makes PersistentVolumes that are directories on one node; what names them is
// agreed with it.
const (
	// LocalPathRoot is where those directories are, and the only place where they are made and removed.
	LocalPathRoot = "/var/lib/bareboat/volumes"
	// LocalPathProvisioner is the value of the volumes' annotation provisionedBy.
	LocalPathProvisioner = "bareboat.dev/local-path"
	provisionedBy        = "pv.kubernetes.io/provisioned-by"

	// localPathRootMode keeps the host's users out, since the volumes below are open to any user a container may run as.
	localPathRootMode   = 0o700
	localPathVolumeMode = 0o777
)

// ErrNotLocalPath: the volume is not a directory that the local-path provisioner made.
var ErrNotLocalPath = errors.New("not a volume of the local-path provisioner")

// IsLocalPath reports whether a volume is a directory of the local-path provisioner, one below LocalPathRoot of the volume's own
// name.
func IsLocalPath(v *corev1.PersistentVolume) bool {
	return v.Annotations[provisionedBy] == LocalPathProvisioner && v.Spec.Local != nil && filepath.Base(v.Name) == v.Name &&
		v.Name != "." && v.Name != ".." && v.Spec.Local.Path == filepath.Join(LocalPathRoot, v.Name)
}

// makeLocalPath makes the directory of a volume of the local-path provisioner, unless it is there, with a mode that lets any user
// of a container write.
func makeLocalPath(root string, v *corev1.PersistentVolume) error {
	dir, err := openLocalPathRoot(root)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Mkdirat(int(dir.Fd()), v.Name, localPathVolumeMode); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return nil
		}
		return fmt.Errorf("make the directory of volume %s: %w", v.Name, err)
	}
	return unix.Fchmodat(int(dir.Fd()), v.Name, localPathVolumeMode, 0) // whatever the umask is
}

// RemoveLocalPath removes the directory of a volume of the local-path provisioner with all that is in it, following no link and
// crossing no mount: one that is mounted, or has something mounted in it, is refused. It is fine if there is none.
func RemoveLocalPath(root, name string) error {
	if filepath.Base(name) != name || name == "." || name == ".." {
		return fmt.Errorf("%w: %q", ErrNotLocalPath, name)
	}
	dir, err := openLocalPathRoot(root)
	if err != nil {
		return err
	}
	defer dir.Close()
	return rmtree.RemoveAt(int(dir.Fd()), name, filepath.Join(root, name))
}

// openLocalPathRoot opens the directory that volumes are in, made if there is none. It may be a mount of its own, or a link to
// one, as an administrator likes.
func openLocalPathRoot(root string) (*os.File, error) {
	if err := os.MkdirAll(root, localPathRootMode); err != nil {
		return nil, err
	}
	return os.Open(root)
}

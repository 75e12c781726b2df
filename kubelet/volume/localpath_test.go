package volume

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func localPathVolume(name, path string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{provisionedBy: LocalPathProvisioner}},
		Spec:       corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}}},
	}
}

// Only a directory of the volume's own name below the root is the provisioner's.
func TestIsLocalPath(t *testing.T) {
	foreign := localPathVolume("a", LocalPathRoot+"/a")
	foreign.Annotations = nil
	for _, c := range []struct {
		v    *corev1.PersistentVolume
		want bool
	}{
		{localPathVolume("pvc-1", LocalPathRoot+"/pvc-1"), true},
		{localPathVolume("pvc-1", LocalPathRoot+"/pvc-2"), false},
		{localPathVolume("pvc-1", "/etc"), false},
		{localPathVolume("..", LocalPathRoot+"/.."), false},
		{foreign, false},
	} {
		if got := IsLocalPath(c.v); got != c.want {
			t.Errorf("%s at %s: %v", c.v.Name, c.v.Spec.Local.Path, got)
		}
	}
}

// A volume's directory is open to every user of its containers and its root to none of the host's; making it again keeps
// what is in it.
func TestMakeLocalPath(t *testing.T) {
	root := filepath.Join(t.TempDir(), "volumes")
	v := localPathVolume("pvc-1", LocalPathRoot+"/pvc-1")
	for range 2 {
		if err := makeLocalPath(root, v); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "pvc-1", "data"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]os.FileMode{root: 0o700, filepath.Join(root, "pvc-1"): 0o777} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v %v", path, fi.Mode(), err)
		}
	}
}

// Removing a volume's directory stops at a mount in it, follows no link, and takes no name that leads elsewhere.
func TestRemoveLocalPath(t *testing.T) {
	base := t.TempDir()
	root, outside := filepath.Join(base, "volumes"), filepath.Join(base, "outside")
	mounted := filepath.Join(root, "pvc-1", "mounted")
	for _, dir := range []string{mounted, outside} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	precious := filepath.Join(outside, "precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(outside, mounted, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("this test needs root to mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mounted, unix.MNT_DETACH) })
	if err := os.Symlink(outside, filepath.Join(root, "pvc-1", "a-link")); err != nil {
		t.Fatal(err)
	}
	if err := RemoveLocalPath(root, "pvc-1"); err == nil {
		t.Error("it was removed through a mount")
	}
	if err := unix.Unmount(mounted, 0); err != nil {
		t.Fatal(err)
	}
	if err := RemoveLocalPath(root, "pvc-1"); err != nil {
		t.Error(err)
	}
	if err := RemoveLocalPath(root, ".."); err == nil {
		t.Error("the parent was removed")
	}
	if err := RemoveLocalPath(root, "pvc-1"); err != nil {
		t.Errorf("a second time: %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

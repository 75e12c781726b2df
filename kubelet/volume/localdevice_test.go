package volume

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// disk is a block device of a file.
func disk(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const size = 16 << 20 // enough for a file system with a journal
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		t.Fatalf("this test needs losetup, of the package mount, and loop devices: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("detach %s: %v: %s", device, err, out)
		}
	})
	return device
}

// TestLocalDevice shows a local volume that is a disk: formatted when it is empty, mounted for each pod with its group, and never formatted
// again; read-only it is not formatted at all, and what holds something else is left alone.
func TestLocalDevice(t *testing.T) {
	device := disk(t)
	c := &claims{pv: &corev1.PersistentVolume{}}
	c.claim.Status.Phase = corev1.ClaimBound
	c.pv.Name, c.pv.Spec.ClaimRef = "pv", &corev1.ObjectReference{}
	c.pv.Spec.Local = &corev1.LocalVolumeSource{Path: device}
	c.pv.Spec.MountOptions = []string{"noatime", "nodev"}
	m := New(Config{Root: t.TempDir(), Sources: c, Plugins: map[string]Plugin{PluginLocal: &LocalDevice{}}})
	pod := func(name string, readOnly bool) *corev1.Pod {
		p := &corev1.Pod{}
		if err := yaml.UnmarshalStrict([]byte("{securityContext: {fsGroup: 4321}, volumes: [{name: data, persistentVolumeClaim: {claimName: c}}]}"), &p.Spec); err != nil {
			t.Fatal(err)
		}
		p.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly = readOnly
		p.Name, p.UID = name, types.UID(name)
		return p
	}
	one, two, reader := pod("one", false), pod("two", false), pod("reader", true)
	if err := m.Mount(t.Context(), reader); err == nil || !strings.Contains(err.Error(), "cannot mount unformatted disk") {
		t.Errorf("an empty disk, read-only: %v", err)
	}
	for _, p := range []*corev1.Pod{one, two, reader} {
		t.Cleanup(func() {
			if err := m.RemovePodDir(p.UID); err != nil {
				t.Error(err)
			}
		})
		if err := m.Mount(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		path, err := m.Path(t.Context(), p, &p.Spec.Volumes[0])
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(path, "file")
		if p == one {
			if err := os.WriteFile(file, []byte("precious"), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		if data, err := os.ReadFile(file); err != nil || string(data) != "precious" {
			t.Errorf("%s reads %q, %v", p.Name, data, err)
		}
		var fs unix.Statfs_t
		if err := unix.Statfs(path, &fs); err != nil || fs.Flags&unix.ST_NODEV == 0 || fs.Flags&unix.ST_NOATIME == 0 {
			t.Errorf("%s is mounted with %x, %v", p.Name, fs.Flags, err)
		}
		if err := os.WriteFile(path+"/more", nil, 0o600); (err == nil) == (p == reader) {
			t.Errorf("%s writes: %v", p.Name, err)
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Gid != 4321 {
			t.Errorf("%s: group %d, %v", p.Name, st.Gid, err)
		}
		if got, err := m.Measure(t.Context(), Claimed{Request: Request{Pod: p, PV: c.pv, Source: &p.Spec.Volumes[0], Dir: path}}); err != nil || got.Capacity == 0 || got.Capacity > 16<<20 {
			t.Errorf("%s: %+v, %v", p.Name, got, err)
		}
	}
	other := disk(t)
	table := bytes.Repeat([]byte{0}, 512)
	copy(table[446:], []byte{0, 0, 2, 0, 0x83, 0, 3, 0, 1, 0, 0, 0, 9, 0, 0, 0})
	table[510], table[511] = 0x55, 0xaa // a partition table of a PC
	if err := os.WriteFile(other, table, 0o600); err != nil {
		t.Fatal(err)
	}
	c.pv.Spec.Local.Path = other
	three := pod("three", false)
	if err := m.Mount(t.Context(), three); err == nil || !strings.Contains(err.Error(), "holds something that is no file system") {
		t.Errorf("a disk with partitions: %v", err)
	}
	if err := m.RemovePodDir(three.UID); err != nil {
		t.Error(err)
	}
}

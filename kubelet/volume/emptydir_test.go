package volume

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"
)

// TestHugePages shows an emptyDir of huge pages: of the size that its medium names, or that the pod asks for, for all users of the pod.
func TestHugePages(t *testing.T) {
	m, _, p := setup(t, `
securityContext: {fsGroup: 4321}
containers: [{name: c, resources: {requests: {hugepages-2Mi: 2Mi}}}]
volumes: [{name: a, emptyDir: {medium: HugePages}}, {name: b, emptyDir: {medium: HugePages-2Mi}}]`)
	mount(t, m, p)
	for _, name := range []string{"a", "b"} {
		dir := m.dir(p.UID, pluginEmptyDir, name)
		var fs unix.Statfs_t
		var st unix.Stat_t
		if err := unix.Statfs(dir, &fs); err != nil || fs.Type != unix.HUGETLBFS_MAGIC || fs.Bsize != 2<<20 {
			t.Errorf("%s is of type %x with pages of %d, %v", name, fs.Type, fs.Bsize, err)
		}
		if err := unix.Stat(dir, &st); err != nil || st.Gid != 4321 || st.Mode&0o2777 != 0o2777 {
			t.Errorf("%s has mode %o, group %d, %v", name, st.Mode, st.Gid, err)
		}
	}
	if err := m.Unmount(p.UID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(m.dir(p.UID, pluginEmptyDir, "a")); !os.IsNotExist(err) {
		t.Error("it is there still:", err)
	}
}

// TestPageSize shows of what size huge pages are, and which volumes are refused.
func TestPageSize(t *testing.T) {
	for _, c := range []struct {
		requests string
		medium   corev1.StorageMedium
		want     string
	}{
		{"hugepages-1Gi: 1Gi", "HugePages", "1073741824 <nil>"},
		{"hugepages-1Gi: 1Gi, hugepages-2Mi: 2Mi", "HugePages-2Mi", "2097152 <nil>"},
		{"hugepages-1Gi: 1Gi, hugepages-2Mi: 2Mi", "HugePages", `0 medium "HugePages": the pod's containers request huge pages of 2 sizes, not of one; name the size in the medium`},
		{"cpu: 1", "HugePages", `0 medium "HugePages": the pod's containers request huge pages of 0 sizes, not of one; name the size in the medium`},
		{"hugepages-1Gi: 1Gi", "HugePages-2Mi", `0 medium "HugePages-2Mi": no container of the pod requests pages of that size`},
		{"cpu: 1", "Tape", `0 unknown storage medium "Tape"`},
	} {
		p := &corev1.Pod{}
		if err := yaml.UnmarshalStrict([]byte("containers: [{name: c, resources: {requests: {"+c.requests+"}}}]"), &p.Spec); err != nil {
			t.Fatal(err)
		}
		size, err := pageSize(p, c.medium)
		if got := fmt.Sprint(size, " ", err); got != c.want {
			t.Errorf("%s of %s: %s, want %s", c.medium, c.requests, got, c.want)
		}
	}
}

// TestMemorySize shows how large an emptyDir in memory may become.
func TestMemorySize(t *testing.T) {
	limit := resource.MustParse("5")
	for spec, want := range map[string]string{
		"{containers: [{name: a, resources: {limits: {memory: 3}}}, {name: b, resources: {limits: {memory: 4}}}]}": "7 5",
		"{containers: [{name: a, resources: {limits: {memory: 3}}}]}":                                              "3 3",
		"{containers: [{name: a, resources: {limits: {memory: 3}}}, {name: b}]}":                                   "0 5",
		"{resources: {limits: {memory: 2}}, containers: [{name: a}, {name: b}]}":                                   "2 2",
	} {
		p := &corev1.Pod{}
		if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(memorySize(p, &corev1.EmptyDirVolumeSource{}), memorySize(p, &corev1.EmptyDirVolumeSource{SizeLimit: &limit})); got != want {
			t.Errorf("%s: %s, want %s", spec, got, want)
		}
	}
}

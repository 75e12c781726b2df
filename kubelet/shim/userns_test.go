package shim_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"bareboat.dev/kubelet/shim"
	"bareboat.dev/kubelet/shim/shimtest"
)

// Shows a pod with a user namespace of its own: its root owns its files, network and host name, and is nobody on the host.
func TestUserNamespace(t *testing.T) {
	ids := &shim.IDRange{First: 1 << 20, Length: 1 << 16}
	pod := shimtest.Launch(t, shim.PodConfig{Hostname: "inside", UserNamespace: ids})
	rootfs := shimtest.Rootfs(t)
	giveAway(t, rootfs, int(ids.First))
	data := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(data, 0o700); err != nil { // root's, and nobody else's
		t.Fatal(err)
	}
	c := shimtest.ContainerIn(t, rootfs, `
id -u; cat /proc/self/uid_map | tr -s ' '; hostname; ip link set lo down && echo down; touch /data/mine && stat -c '%u %g' /data/mine
echo hello > /dev/shm/x && echo shm; hostname other && hostname; mknod /tmp/d b 8 0 2>&1; exec sleep 1000`)
	c.Spec.Process.Capabilities.Bounding = append(c.Spec.Process.Capabilities.Bounding, "CAP_NET_ADMIN", "CAP_SYS_ADMIN")
	c.Spec.Process.Capabilities.Effective, c.Spec.Process.Capabilities.Permitted = c.Spec.Process.Capabilities.Bounding, c.Spec.Process.Capabilities.Bounding
	c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Source: data, Destination: "/data", Type: "bind", Options: []string{"rbind", "rprivate", "idmap"}})
	pid := run(t, pod, c)
	if got := execIn(t, pod, c.ID, "id -u; cat /data/mine; echo done"); got != "0\ndone" {
		t.Errorf("an exec'd process prints %q", got)
	}
	want := "0\n 0 1048576 65536\ninside\ndown\n0 0\nshm\nother\nmknod: /tmp/d: Operation not permitted\n"
	if got := shimtest.Log(t, c); got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+itoa(pid), &st); err != nil || st.Uid != ids.First {
		t.Errorf("on the host its first process is user %d's, %v", st.Uid, err)
	}
	if err := unix.Stat(filepath.Join(data, "mine"), &st); err != nil || st.Uid != 0 {
		t.Errorf("on the disk its file is user %d's, %v", st.Uid, err)
	}
	if own, err := os.Readlink(pod.UserNSPath()); err != nil || !strings.HasPrefix(own, "user:[") {
		t.Errorf("user namespace %q, %v", own, err)
	}
}

// giveAway makes a tree another user's.
func giveAway(t *testing.T, root string, id int) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, id, id)
	})
	// The folders above are the test's own, and closed to others.
	for dir := filepath.Dir(root); err == nil && dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

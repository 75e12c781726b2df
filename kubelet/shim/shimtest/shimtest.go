// Package shimtest gives tests what real pods need: a podshim built from this tree, a root file system of Debian's static busybox,
// state directories and control groups that are gone afterwards, whatever happened.
//
//	pod := shimtest.Launch(t, shim.PodConfig{})
//	err := pod.Create(t.Context(), shimtest.Container(t, "echo hello"))
package shimtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bareboat.dev/kubelet/cgroup"
	"bareboat.dev/kubelet/shim"
)

// busybox is where Debian's package busybox-static puts it.
const busybox = "/bin/busybox"

// cleanupLimit bounds how long a test's pod may take to go away.
const cleanupLimit = 30 * time.Second

// BuildArgs are the arguments of `go` that build podshim as it is shipped, but for -o and the package.
func BuildArgs() []string {
	return []string{"build", "-trimpath", "-tags", "seccomp,netgo,osusergo", "-ldflags", "-s -w -extldflags=-static"}
}

// BinaryVariable names the environment variable that tells Binary and Share of a podshim that is built already. Whoever runs tests on a
// machine without a compiler sets it.
const BinaryVariable = "BAREBOAT_TEST_PODSHIM"

// Binary returns the path of a podshim built from this tree: the one that Share built, or one of the test's own.
func Binary(t testing.TB) string {
	t.Helper()
	if shared := os.Getenv(BinaryVariable); shared != "" {
		return shared
	}
	path := filepath.Join(t.TempDir(), "podshim")
	if err := build(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Share builds one podshim for all tests of a package, for its TestMain: linking one for each test takes longer than most tests.
func Share() (remove func(), err error) {
	if os.Getenv(BinaryVariable) != "" {
		return func() {}, nil
	}
	dir, err := os.MkdirTemp("", "podshim-*")
	if err != nil {
		return nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	path := filepath.Join(dir, "podshim")
	if err := build(path); err != nil {
		remove()
		return nil, err
	}
	return remove, os.Setenv(BinaryVariable, path)
}

func build(path string) error {
	args := append(BuildArgs(), "-o", path, "bareboat.dev/kubelet/cmd/podshim")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build podshim (Debian: apt-get install gcc libc6-dev libseccomp-dev): %w\n%s", err, out)
	}
	return nil
}

// Root fails the test unless it is run as root.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes namespaces, mounts and cgroups: it needs root")
	}
}

// Rootfs makes a root file system with busybox and its applets, and the empty directories that every image has.
func Rootfs(t testing.TB) string {
	t.Helper()
	Root(t)
	root := filepath.Join(t.TempDir(), "rootfs")
	for _, dir := range []string{"bin", "dev", "etc", "proc", "sys", "tmp", "root"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o1777); err != nil {
		t.Fatal(err)
	}
	copyFile(t, busybox, filepath.Join(root, "bin/busybox"))
	out, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, applet := range strings.Fields(string(out)) {
		if applet != "busybox" {
			if err := os.Symlink("busybox", filepath.Join(root, "bin", applet)); err != nil {
				t.Fatal(err)
			}
		}
	}
	passwd := "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte(passwd), 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatalf("this test needs a static busybox (Debian: apt-get install busybox-static): %v", err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// NewID returns an ID that no other test has.
func NewID() string { return strings.ToLower(rand.Text()) }

// Launch starts a pod with what config says, filling in what is missing, and sees to its end. The podshim is built for the purpose.
func Launch(t testing.TB, config shim.PodConfig) *shim.Pod {
	t.Helper()
	return LaunchBinary(t, Binary(t), config)
}

// LaunchBinary is Launch with a podshim that has been built already.
func LaunchBinary(t testing.TB, binary string, config shim.PodConfig) *shim.Pod {
	t.Helper()
	Root(t)
	Fill(t, &config)
	pod, err := shim.Launch(context.WithoutCancel(t.Context()), binary, config)
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// Fill completes a pod's configuration, makes its cgroup, and has everything removed at the end of the test.
func Fill(t testing.TB, config *shim.PodConfig) {
	t.Helper()
	if config.UID == "" {
		config.UID = NewID()
	}
	if config.StateDir == "" {
		config.StateDir = filepath.Join(t.TempDir(), config.UID)
	}
	root := "bareboat-test-" + config.UID
	if config.CgroupParent == "" {
		config.CgroupParent = root + "/pod"
	}
	if config.ShimCgroup == "" {
		config.ShimCgroup = root + "/shim"
	}
	h, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Create(config.CgroupParent); err != nil {
		t.Fatal(err)
	}
	dir := config.StateDir
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupLimit)
		defer cancel()
		if err := shim.Reap(ctx, dir); err != nil {
			t.Errorf("reap the test's pod: %v", err)
		}
		if err := h.Kill(ctx, root); err != nil {
			t.Errorf("kill the test's cgroup: %v", err)
		}
		if err := h.Remove(root); err != nil {
			t.Errorf("remove the test's cgroup: %v", err)
		}
	})
}

// Container describes a container that runs a shell command in a root file system of its own, logging into the test's directory.
func Container(t testing.TB, command string) shim.ContainerConfig {
	t.Helper()
	return ContainerIn(t, Rootfs(t), command)
}

// ContainerIn is Container with a root file system that exists already.
func ContainerIn(t testing.TB, rootfs, command string) shim.ContainerConfig {
	t.Helper()
	spec := shim.DefaultSpec()
	spec.Root.Path = rootfs
	spec.Process.Args = []string{"/bin/sh", "-c", command}
	return shim.ContainerConfig{ID: NewID(), Name: "main", Spec: spec, LogPath: filepath.Join(t.TempDir(), "0.log")}
}

// Log returns what the container wrote to stdout and stderr, without the log format.
func Log(t testing.TB, c shim.ContainerConfig) string {
	t.Helper()
	data, err := os.ReadFile(c.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(line, " ", 4)
		if len(fields) != 4 {
			t.Fatalf("not a CRI log line: %q", line)
		}
		content := fields[3]
		if fields[2] == "P" {
			content = strings.TrimSuffix(content, "\n")
		}
		b.WriteString(content)
	}
	return b.String()
}

// AwaitExit returns the container's final status, from the pod's events.
func AwaitExit(t testing.TB, pod *shim.Pod, id string) shim.ContainerStatus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), cleanupLimit)
	defer cancel()
	for event, err := range pod.Events(ctx) {
		if err != nil {
			t.Fatalf("wait for container %s: %v", id, err)
		}
		if event.ID == id {
			return event.ContainerStatus
		}
	}
	t.Fatalf("no exit of container %s", id)
	return shim.ContainerStatus{}
}

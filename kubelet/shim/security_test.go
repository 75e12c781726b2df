package shim_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bareboat.dev/kubelet/shim"
	"bareboat.dev/kubelet/shim/shimtest"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Shows that a container cannot write to the runtime's binary through /proc, neither as its own first program nor by waiting for an exec
// (CVE-2019-5736).
func TestRuntimeBinaryIsOutOfReach(t *testing.T) {
	binary, rootfs := shimtest.Binary(t), shimtest.Rootfs(t)
	before := digest(t, binary)
	pod := shimtest.LaunchBinary(t, binary, shim.PodConfig{})

	// The image's program is the runtime itself: the container starts as a copy of podshim, and has a library of its own choice.
	self := shimtest.ContainerIn(t, rootfs, "")
	self.Spec.Process.Args = []string{"/proc/self/exe"}
	if err := pod.Create(t.Context(), self); err == nil {
		if _, err := pod.Start(t.Context(), self.ID); err == nil {
			shimtest.AwaitExit(t, pod, self.ID)
		}
	}
	// A process that lies in wait for whatever joins the container, and writes to its program.
	waiting := shimtest.ContainerIn(t, rootfs, `
		while :; do
			for p in /proc/[0-9]*; do
				[ "$p" = /proc/1 ] || [ "$p" = "/proc/$$" ] || { echo overwritten > $p/exe; } 2>/dev/null && echo "wrote to $p"
			done
		done`)
	caps := append(shim.DefaultCapabilities(), "CAP_SYS_PTRACE")
	waiting.Spec.Process.Capabilities.Bounding, waiting.Spec.Process.Capabilities.Effective, waiting.Spec.Process.Capabilities.Permitted = caps, caps, caps
	run(t, pod, waiting)
	for range 10 {
		execIn(t, pod, waiting.ID, "true")
	}
	if after := digest(t, binary); after != before {
		t.Error("the runtime's binary was changed")
	}
	if err := pod.Kill(t.Context(), waiting.ID); err != nil {
		t.Fatal(err)
	}
	finishes(t, pod, shimtest.ContainerIn(t, rootfs, "true")) // and it still works
}

func digest(t *testing.T, path string) [32]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(data)
}

// Shows that a working directory in one of the runtime's own descriptors is refused, for a container and for an exec (CVE-2024-21626).
func TestWorkingDirectoryInDescriptors(t *testing.T) {
	pod, rootfs := shimtest.Launch(t, shim.PodConfig{}), shimtest.Rootfs(t)
	alive := shimtest.ContainerIn(t, rootfs, "sleep 1000")
	run(t, pod, alive)
	for fd := range 16 {
		cwd := "/proc/self/fd/" + itoa(fd)
		c := shimtest.ContainerIn(t, rootfs, "pwd; ls ../../..")
		c.Spec.Process.Cwd = cwd
		if err := pod.Create(t.Context(), c); err == nil {
			if _, err := pod.Start(t.Context(), c.ID); err == nil {
				shimtest.AwaitExit(t, pod, c.ID)
				t.Errorf("a container started in %s: %s", cwd, shimtest.Log(t, c))
			}
		}
		var out bytes.Buffer
		exit, err := pod.Exec(t.Context(), alive.ID, shim.ExecConfig{Args: []string{"sh", "-c", "ls ../../.."}, Cwd: cwd}, shim.Stdio{Stdout: &out}, nil)
		if err == nil && exit.Code == 0 {
			t.Errorf("a process was run in %s: %s", cwd, out.String())
		}
	}
}

// Shows that a container has no descriptor but its standard streams.
func TestNoDescriptorsLeak(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{})
	c := shimtest.Container(t, "ls -l /proc/self/fd; exec sleep 1000")
	run(t, pod, c)
	want := "0 1 2 3" // the last is ls reading the directory
	if got := execIn(t, pod, c.ID, "ls /proc/self/fd | tr '\\n' ' '"); strings.TrimSpace(got) != want {
		t.Errorf("an exec'd process has descriptors %q", got)
	}
	if got := execIn(t, pod, c.ID, "ls /proc/1/fd | tr '\\n' ' '"); strings.TrimSpace(got) != "0 1 2" {
		t.Errorf("the first process has descriptors %q", got)
	}
}

// Shows that an image whose /proc, /dev, /sys or masked paths are links to elsewhere gets nothing on the host mounted over or read.
func TestImagesWithLinksForMounts(t *testing.T) {
	outside := t.TempDir()
	marker := filepath.Join(outside, "marker")
	if err := os.WriteFile(marker, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	mountsBefore := mountsUnder(t, outside)
	pod := shimtest.Launch(t, shim.PodConfig{})
	for _, name := range []string{"proc", "dev", "sys"} {
		for _, target := range []string{outside, "../../../../../../../../" + outside, "/"} {
			rootfs := shimtest.Rootfs(t)
			if err := os.Remove(filepath.Join(rootfs, name)); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, filepath.Join(rootfs, name)); err != nil {
				t.Fatal(err)
			}
			c := shimtest.ContainerIn(t, rootfs, "cat "+marker+" && echo leaked")
			if err := pod.Create(t.Context(), c); err != nil {
				continue // refused
			}
			if _, err := pod.Start(t.Context(), c.ID); err == nil {
				shimtest.AwaitExit(t, pod, c.ID)
				if log := shimtest.Log(t, c); strings.Contains(log, "leaked") {
					t.Errorf("/%s -> %s: the container read the host's file", name, target)
				}
			}
		}
	}
	if data, err := os.ReadFile(marker); err != nil || string(data) != "untouched" {
		t.Errorf("the host's file: %q, %v", data, err)
	}
	if after := mountsUnder(t, outside); after != mountsBefore {
		t.Errorf("mounts on the host: %s", after)
	}
}

// Shows that an image whose paths, where volumes are mounted and which are masked or made read-only, are links to elsewhere has all that done
// inside of it: the host's files behind the links are as they were, and not seen.
func TestImagesWithLinksForMaskedPaths(t *testing.T) {
	outside := t.TempDir()
	names := []string{"masked", "readonly", "volume", "file"}
	for _, name := range names {
		if err := errors.Join(os.Mkdir(filepath.Join(outside, name), 0o777), os.WriteFile(filepath.Join(outside, name, "marker"), []byte("secret"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	before := mountsUnder(t, outside)
	pod := shimtest.Launch(t, shim.PodConfig{})
	for _, target := range []string{outside, "../../../../../../../../.." + outside} {
		rootfs, volume := shimtest.Rootfs(t), t.TempDir()
		for _, name := range names {
			to := filepath.Join(target, name)
			if name == "file" {
				to = filepath.Join(to, "marker")
			}
			if err := os.Symlink(to, filepath.Join(rootfs, name)); err != nil {
				t.Fatal(err)
			}
		}
		c := shimtest.ContainerIn(t, rootfs, "cat /masked/marker /readonly/marker /volume/marker /file 2>/dev/null && echo leaked; echo x > /volume/made; true")
		c.Spec.Linux.MaskedPaths = append(c.Spec.Linux.MaskedPaths, "/masked", "/file")
		c.Spec.Linux.ReadonlyPaths = append(c.Spec.Linux.ReadonlyPaths, "/readonly")
		c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/volume", Type: "bind", Source: volume, Options: []string{"rbind", "rw"}})
		if err := pod.Create(t.Context(), c); err != nil {
			continue // refused
		}
		if _, err := pod.Start(t.Context(), c.ID); err != nil {
			continue
		}
		shimtest.AwaitExit(t, pod, c.ID)
		if log := shimtest.Log(t, c); strings.Contains(log, "secret") {
			t.Errorf("links to %s: the container read the host's file: %s", target, log)
		}
		if _, err := os.Stat(filepath.Join(outside, "volume/made")); err == nil {
			t.Errorf("links to %s: the container wrote to the host's folder", target)
		}
		if _, err := os.Stat(filepath.Join(volume, "made")); err != nil {
			t.Errorf("links to %s: the volume is not where it was to be: %v", target, err)
		}
	}
	for _, name := range names {
		if data, err := os.ReadFile(filepath.Join(outside, name, "marker")); err != nil || string(data) != "secret" {
			t.Errorf("the host's file in %s: %q, %v", name, data, err)
		}
		if err := os.WriteFile(filepath.Join(outside, name, "writable"), nil, 0o600); err != nil {
			t.Errorf("the host's folder was made read-only: %v", err)
		}
	}
	if after := mountsUnder(t, outside); after != before {
		t.Errorf("mounts on the host: %s", after)
	}
}

// Shows that what the kernel tells about the host in /proc and /sys is hidden or read-only, unless the container is privileged.
func TestMaskedPaths(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{})
	c := shimtest.Container(t, `
		[ "$(cat /proc/kcore 2>/dev/null | wc -c)" = 0 ] || echo kcore
		[ -z "$(ls /sys/firmware 2>/dev/null)" ] || echo firmware
		echo 1 2>/dev/null > /proc/sys/kernel/panic && echo sysctl
		echo b 2>/dev/null > /proc/sysrq-trigger && echo sysrq
		mkdir /sys/fs/cgroup/memory/x 2>/dev/null && echo cgroup
		mknod /tmp/vda b 254 0 && head -c 1 /tmp/vda 2>/dev/null && echo disk
		true`)
	c.Spec.Linux.Seccomp = shim.DefaultSeccomp(shim.DefaultCapabilities())
	finishes(t, pod, c)
	if got := shimtest.Log(t, c); got != "" {
		t.Errorf("within reach: %s", strings.Fields(got))
	}
}

func mountsUnder(t *testing.T, dir string) string {
	t.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir) {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}

// Shows that a container without privileges can use the usual devices and no other, even with a node that it made itself.
func TestDevices(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{})
	// Memory, a disk by the commonest number, the kernel's log and the loop devices' control; whatever of them this machine lacks cannot be
	// opened for that reason.
	c := shimtest.Container(t, `
head -c 1 /dev/zero | wc -c; head -c 1 /dev/urandom >/dev/null && echo random; echo x >/dev/null && echo null
for d in "c 1 1" "b 254 0" "b 8 0" "c 1 11" "c 10 237" "b 7 0"; do
	rm -f /tmp/d; mknod /tmp/d $d && head -c 1 /tmp/d >/dev/null 2>&1 && echo "opened $d"
done
ls /dev | sort | tr '\n' ' '`)
	if status := finishes(t, pod, c); status.ExitCode != 0 {
		t.Fatalf("ended %+v: %s", status, shimtest.Log(t, c))
	}
	want := "1\nrandom\nnull\nfd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "
	if got := shimtest.Log(t, c); got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

// Shows that the first process of a shared PID namespace, which a container with CAP_SYS_PTRACE can take over, is of no use to it: it is
// nobody, has no capability and can get none, and may call next to nothing.
func TestPauseIsHarmless(t *testing.T) {
	pod := shimtest.Launch(t, shim.PodConfig{ShareProcessNamespace: true})
	c := shimtest.Container(t, "sleep 1000")
	run(t, pod, c)
	got := execIn(t, pod, c.ID, "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp):' /proc/1/status | tr -s '\\t ' ' '")
	want := `Uid: 65534 65534 65534 65534
Gid: 65534 65534 65534 65534
Groups: 
CapInh: 0000000000000000
CapPrm: 0000000000000000
CapEff: 0000000000000000
CapBnd: 0000000000000000
CapAmb: 0000000000000000
NoNewPrivs: 1
Seccomp: 2`
	if strings.TrimSpace(got) != want {
		t.Errorf("it has\n%s\nwant\n%s", got, want)
	}
}

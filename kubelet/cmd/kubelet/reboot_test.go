package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// TestHostReboots shows pods of before a reboot, which leaves the disk and nothing else: those that are to be started again are, with what
// was on the disk and nothing of what was in memory, those that are not have failed, and deleted they leave nothing.
func TestHostReboots(t *testing.T) {
	h := newHost(t)
	h.load()
	const volumes = `volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}]}], volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory}}]`
	h.create("again", `{containers: [{name: app, command: [sh, -c, "ls /disk /memory; touch /disk/kept /memory/lost; exec sleep 1000"], `+volumes+`}`)
	h.create("never", `{restartPolicy: Never, containers: [{name: app}]}`)
	again, never := h.await("again", "Running", running), h.await("never", "Running", running)
	h.awaitLog(again, "app", "0", "/disk:\n\n/memory:\n")

	h.reboot(again, never)
	h.await("never", "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	p := h.await("again", "Running again", func(p *corev1.Pod) bool { return running(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	h.awaitLog(p, "app", "1", "/disk:\nkept\n\n/memory:\n")
	for _, p := range []*corev1.Pod{again, never} {
		h.remove(p.Name, 0)
		h.awaitGone(p.Name)
		h.awaitNoTraces(p)
	}
}

// reboot takes from a host what a reboot would: processes, mounts, what is in /run, and the kernel's word for this life of it.
func (h *host) reboot(pods ...*corev1.Pod) {
	h.t.Helper()
	var shims []int
	for _, p := range pods {
		shims = append(shims, h.attach(p).PID())
	}
	h.stop()
	for _, pid := range shims {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			h.t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
			h.t.Fatal(err)
		}
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(limit.Milliseconds())); n != 1 {
			h.t.Fatalf("podshim %d did not end: %v", pid, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		h.t.Fatal(err)
	}
	lines := strings.Split(string(mounts), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		f := strings.Fields(line)
		if len(f) < 5 || !slices.ContainsFunc([]string{h.c.RootDir, h.c.StateDir, h.c.ImageStore}, func(dir string) bool { return strings.HasPrefix(f[4], dir+"/") }) {
			continue
		}
		if err := unix.Unmount(f[4], unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			h.t.Fatalf("unmount %s: %v", f[4], err)
		}
	}
	for _, p := range pods {
		if err := os.RemoveAll(filepath.Join(h.c.StateDir, string(p.UID))); err != nil {
			h.t.Fatal(err)
		}
		noted := filepath.Join(h.c.RootDir, "pods", string(p.UID), "bareboat", "volumes")
		if _, err := os.Stat(noted); err != nil {
			h.t.Fatal(err)
		}
		if err := os.WriteFile(noted, []byte("another life"), 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	h.start()
}

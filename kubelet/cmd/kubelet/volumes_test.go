package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
)

func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// claim makes a bound claim of a volume.
func (h *host) claim(name string, spec corev1.PersistentVolumeSpec) {
	h.t.Helper()
	ctx, api := context.Background(), h.api.NewClient()
	defer api.Close()
	pv := &corev1.PersistentVolume{Spec: spec}
	pv.Name = "pv-" + name
	if _, err := client.Of(api, client.PersistentVolumes()).Create(ctx, pv); err != nil {
		h.t.Fatal(err)
	}
	pvc := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{VolumeName: pv.Name}}
	pvc.Namespace, pvc.Name, pvc.Status.Phase = "default", name, corev1.ClaimBound
	if _, err := client.Of(api, client.PersistentVolumeClaims()).Create(ctx, pvc); err != nil {
		h.t.Fatal(err)
	}
}

// TestImageVolume shows an image as a volume: its files are there, nothing of it can be written or executed, and it goes with the pod.
func TestImageVolume(t *testing.T) {
	h := newHost(t)
	h.load()
	h.create("reader", withScript(`{CONTAINER: {volumeMounts: [{name: v, mountPath: /image}, {name: v, mountPath: /part, subPath: etc}]},
		volumes: [{name: v, image: {reference: "busybox:1", pullPolicy: Never}}]}`,
		`grep -c web /image/etc/passwd; touch /image/x 2>&1; /image/bin/busybox true 2>&1; test -e /part/passwd && echo part`))
	p := h.await("reader", "its end", ended)
	got := h.log(p, "app", "0")
	for _, want := range []string{"1\n", "touch: /image/x: Read-only file system\n", "Permission denied\n", "part\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("printed %q, without %q", got, want)
		}
	}
	h.remove("reader", 0)
	h.awaitGone("reader")
	h.awaitNoTraces(p)
}

// TestBlockVolume shows a block device in a container: it can be read and written there, and no other device can.
func TestBlockVolume(t *testing.T) {
	h := newHost(t)
	h.load()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, append([]byte("begin"), make([]byte, 1<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("losetup: %v: %s", err, out)
		}
	})
	block := corev1.PersistentVolumeBlock
	h.claim("disk", corev1.PersistentVolumeSpec{VolumeMode: &block,
		PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: device}}})
	h.create("writer", withScript(`{CONTAINER: {volumeDevices: [{name: d, devicePath: /dev/xvda}]}, volumes: [{name: d, persistentVolumeClaim: {claimName: disk}}]}`,
		`head -c 5 /dev/xvda; echo; printf hello | dd of=/dev/xvda conv=notrunc,fsync 2>/dev/null; mknod /tmp/other b 1 0 && head -c 1 /tmp/other 2>&1 | cat`))
	p := h.await("writer", "its end", ended)
	if got := h.log(p, "app", "0"); got != "begin\nhead: /tmp/other: Operation not permitted\n" {
		t.Errorf("printed %q", got)
	}
	data, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(data), "hello") {
		t.Errorf("the disk begins with %.5q, %v", data, err)
	}
}

package main

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
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

// TestImageVolumeOutlivesKubelet shows that a kubelet that starts again knows the images of volumes in use: they stay mounted, in the store,
// too, which would else give their layers up.
func TestImageVolumeOutlivesKubelet(t *testing.T) {
	h := newHost(t)
	h.load()
	h.create("reader", `{containers: [{name: app, volumeMounts: [{name: v, mountPath: /image}]}], volumes: [{name: v, image: {reference: "busybox:1", pullPolicy: Never}}]}`)
	p := h.await("reader", "Running", running)
	before := h.mountedImages()
	h.stop()
	h.start()
	h.create("second", `containers: [{name: app}]`)
	h.await("second", "Running", running)
	h.remove("second", 0)
	h.awaitGone("second")
	if now := h.mountedImages(); now != before || before == "" {
		t.Errorf("mounted were %s and are %s", before, now)
	}
	h.remove("reader", 0)
	h.awaitGone("reader")
	h.awaitNoTraces(p)
}

// mountedImages lists what the image store has mounted for volumes.
func (h *host) mountedImages() string {
	h.t.Helper()
	ids, err := h.k.images.Mounts()
	if err != nil {
		h.t.Fatal(err)
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return !strings.HasPrefix(id, "volume-") })
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

// TestEnvFiles shows variables that an init container writes for the others, who do not see its volume; and a container that waits for one
// that is not there.
func TestEnvFiles(t *testing.T) {
	h := newHost(t)
	h.load()
	const init = `initContainers: [{name: writer, command: [sh, -c, "echo \"NAME='of a file'\" > /out/app.env"], volumeMounts: [{name: v, mountPath: /out}]}], volumes: [{name: v, emptyDir: {}}]`
	h.create("reads", `{restartPolicy: Never, containers: [{name: app, command: [sh, -c, "echo $NAME; test -e /out || echo unseen"],
		env: [{name: NAME, valueFrom: {fileKeyRef: {volumeName: v, path: app.env, key: NAME}}}]}], `+init+`}`)
	h.create("waits", `{containers: [{name: app, env: [{name: NAME, valueFrom: {fileKeyRef: {volumeName: v, path: app.env, key: OTHER}}}]}], `+init+`}`)
	if got := h.log(h.await("reads", "its end", ended), "app", "0"); got != "of a file\nunseen\n" {
		t.Errorf("printed %q", got)
	}
	p := h.await("waits", "CreateContainerConfigError", func(p *corev1.Pod) bool {
		s := p.Status.ContainerStatuses
		return len(s) == 1 && s[0].State.Waiting != nil && s[0].State.Waiting.Reason == "CreateContainerConfigError"
	})
	if m := p.Status.ContainerStatuses[0].State.Waiting.Message; m != `environment variable key "OTHER" not found in file "app.env" of volume "v"` {
		t.Errorf("it says %q", m)
	}
}

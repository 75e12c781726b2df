package main

import (
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

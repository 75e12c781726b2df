package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// writeManifest writes a static pod's manifest as a careful program does: whole, under its name at once.
func (h *host) writeManifest(name, script string) {
	h.t.Helper()
	text := fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: {terminationGracePeriodSeconds: 2, containers: [{name: app, image: 'busybox:1', command: [sh, -c, %q]}]}}", name, script)
	tmp := filepath.Join(h.c.StaticPodPath, ".tmp")
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(h.c.StaticPodPath, name+".yaml")); err != nil {
		h.t.Fatal(err)
	}
}

// TestStaticPods shows a static pod's life: it starts while there is no API server, is shown there by a mirror pod whose
// deletion does not touch it, outlives the kubelet, is replaced when its file changes and ends when that is removed.
func TestStaticPods(t *testing.T) {
	h := newHost(t)
	h.load()
	h.stop()
	h.c.StaticPodPath = t.TempDir()
	h.api.Fail(func(string, *apiv1.ResourceRef) error { return status.Error(codes.Unavailable, "away") })
	h.writeManifest("web", "echo one; sleep 1000")
	if err := os.MkdirAll(h.c.LinkDir, 0o755); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.awaitOn(h.c.LinkDir, "a container while the API is away", func() bool {
		links, _ := os.ReadDir(h.c.LinkDir)
		return len(links) == 1 && strings.HasPrefix(links[0].Name(), "web-node1_default_app-")
	})
	h.api.Fail(nil)
	p := h.await("web-node1", "shown as running", running)
	hash := p.Annotations["kubernetes.io/config.hash"]
	if hash == "" || p.Annotations["kubernetes.io/config.mirror"] != hash || p.Annotations["kubernetes.io/config.source"] != "file" ||
		len(p.OwnerReferences) != 1 || p.OwnerReferences[0].Kind != "Node" || p.UID == types.UID(hash) {
		t.Errorf("the mirror pod is %+v", p.ObjectMeta)
	}
	pid := h.staticPID(hash)

	h.remove("web-node1", 30)
	again := h.await("web-node1", "shown again", func(q *corev1.Pod) bool { return q.UID != p.UID && running(q) })
	if h.staticPID(hash) != pid || again.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("the deletion of its mirror touched the pod: %s", statusText(again))
	}
	h.stop()
	h.start()
	h.await("web-node1", "still running", running)
	if h.staticPID(hash) != pid {
		t.Error("a restart of the kubelet touched the pod")
	}

	h.writeManifest("web", "echo two; sleep 1000")
	changed := h.await("web-node1", "the new manifest's pod", func(q *corev1.Pod) bool {
		return q.Annotations["kubernetes.io/config.hash"] != hash && running(q)
	})
	changed.UID = types.UID(changed.Annotations["kubernetes.io/config.hash"])
	h.awaitLog(changed, "app", "0", "two\n")
	if err := os.WriteFile(filepath.Join(h.c.StaticPodPath, "bad.yaml"), []byte("{apiVersion: v1, kind: Pod, spec: {nonsense: 1}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.awaitEvent("node1", "FailedValidation", `bad.yaml: invalid manifest: unknown field "spec.nonsense"`)
	if err := os.Remove(filepath.Join(h.c.StaticPodPath, "web.yaml")); err != nil {
		t.Fatal(err)
	}
	h.awaitGone("web-node1")
	h.awaitNoTraces(changed)
}

// staticPID is the process of a static pod's container.
func (h *host) staticPID(hash string) int {
	h.t.Helper()
	p := &corev1.Pod{}
	p.UID, p.Name = types.UID(hash), "static"
	return h.pid(p)
}

// TestRemovedWhileAway shows that a static pod whose file is removed while no kubelet runs is ended by the next one.
func TestRemovedWhileAway(t *testing.T) {
	h := newHost(t)
	h.load()
	h.stop()
	h.c.StaticPodPath = t.TempDir()
	h.writeManifest("web", "sleep 1000")
	h.start()
	p := h.await("web-node1", "running", running)
	h.stop()
	h.c.StaticPodPath = ""
	h.start()
	h.awaitGone("web-node1")
	p.UID = types.UID(p.Annotations["kubernetes.io/config.hash"])
	h.awaitNoTraces(p)
}

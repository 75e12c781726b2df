package main

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"bareboat.dev/daemon"
)

// TestCleanup shows a whole node's teardown: who listens to SIGTERM has the time to end well, nobody waits for who does not, and
// nothing of a pod is left.
func TestCleanup(t *testing.T) {
	h := newHost(t)
	h.load()
	h.c.CleanupGracePeriod.Duration = time.Hour
	h.create("deaf", `{volumes: [{name: v, hostPath: {path: `+t.TempDir()+`}}], containers: [{name: app, volumeMounts: [{name: v, mountPath: /v}], command: [sh, -c, "touch /v/up; exec sleep 1000"]}]}`)
	h.create("polite", `{volumes: [{name: v, hostPath: {path: `+t.TempDir()+`}}], containers: [{name: app, volumeMounts: [{name: v, mountPath: /v}], command: [sh, -c, "trap 'sleep 0.3; echo ended well > /v/said; exit 0' TERM; touch /v/said; while true; do sleep 0.1; done"]}]}`)
	deaf, polite := h.await("deaf", "Running", running), h.await("polite", "Running", running)
	// A container's process is the runtime's own, which listens, until it becomes the command.
	up := deaf.Spec.Volumes[0].HostPath.Path
	h.awaitOn(up, "the command", func() bool {
		_, err := os.Stat(up + "/up")
		return err == nil
	})
	if listens(h.pid(deaf)) {
		t.Error("sleep listens to SIGTERM")
	}
	said := polite.Spec.Volumes[0].HostPath.Path
	h.awaitOn(said, "the handler", func() bool {
		_, err := os.Stat(said + "/said")
		return err == nil
	})
	if !listens(h.pid(polite)) {
		t.Error("a shell with a handler does not listen to SIGTERM")
	}
	h.stop()
	var out strings.Builder
	if err := cleanup(context.Background(), daemon.NewEnv("kubelet", slog.New(slog.NewTextHandler(&out, nil))), h.c); err != nil {
		t.Fatal(err, out.String())
	}
	h.awaitFile(said+"/said", "ended well\n")
}

//go:build realimages

package realimages

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bareboat.dev/integration/host"
)

// images are the packages of each.
func images() map[string][]string {
	return map[string][]string{
		"python:1": {"python3-minimal", "libpython3-stdlib"}, "nginx:1": {"nginx-light"}, "redis:1": {"redis-server"},
		"postgres:1": {"postgresql-15"}, "mariadb:1": {"mariadb-server"}, "java:1": {"openjdk-17-jdk-headless"},
	}
}

// TestRealImages shows servers and databases of Debian's packages that start, answer and end on a one-machine cluster.
func TestRealImages(t *testing.T) {
	build := filepath.Join(host.Root(), "build", "realimages")
	if err := os.MkdirAll(build, 0o755); err != nil {
		t.Fatal(err)
	}
	var archives []string
	for tag, packages := range images() {
		archive := filepath.Join(build, strings.ReplaceAll(tag, ":", "_")+".tar")
		if err := Build(archive, tag, filepath.Join(build, "packages"), packages...); err != nil {
			t.Fatal(err)
		}
		archives = append(archives, archive)
	}
	h := host.New(t, "images")
	h.Must("kctl", "up")
	t.Cleanup(func() { _, _ = h.Run("kctl", "down") })
	h.Eventually("the service account", func() error { _, err := h.Run("kctl", "get", "serviceaccount", "default"); return err })
	h.Must("kctl", append([]string{"image", "load"}, archives...)...)
	h.Must("kctl", "apply", "-f", filepath.Join(host.Root(), "integration/realimages/testdata/pods.yaml"))
	for _, p := range []string{"python", "nginx", "nginx-unprivileged", "redis", "postgres", "mariadb", "java"} {
		t.Run(p, func(t *testing.T) {
			if _, err := h.Run("kctl", "wait", "pod/"+p, "--for=condition=Ready", "--timeout=180s"); err != nil {
				logs, _ := h.Run("kctl", "logs", p, "--tail=30")
				about, _ := h.Run("kctl", "describe", "pod", p)
				t.Fatalf("%v\n%s\n%s", err, logs, about)
			}
		})
	}
	if got := h.Must("kctl", "logs", "java"); !strings.Contains(got, "heap 1") || !strings.Contains(got, "MiB, processors 1") {
		t.Errorf("a JVM in 400 MiB and one CPU says %q", got)
	}
	if restarts := h.Must("kctl", "get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}"); strings.Trim(restarts, "0 \n") != "" {
		t.Errorf("restarts: %s", restarts)
	}
	h.Must("kctl", "delete", "pods", "--all", "--timeout=120s")
}

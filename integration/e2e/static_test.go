package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"bareboat.dev/integration/host"
)

const staticManifest = `
apiVersion: v1
kind: Pod
metadata: {name: static, namespace: kube-system, labels: {app: static}}
spec:
  priorityClassName: system-node-critical
  containers:
    - name: main
      image: docker.io/bareboat/guestbook-redis:v1
      imagePullPolicy: IfNotPresent
      command: [/bin/busybox, sh, -c, ": static; echo up; trap exit TERM; /bin/busybox sleep 3600 & wait"]
`

// TestStaticPods shows a node that runs a pod because a file says so: it is shown in the API under the node's name, its log is read
// there, deleting it there changes nothing, and it ends with its file.
func TestStaticPods(t *testing.T) {
	h := up(t, "static")
	h.Must("kctl", "image", "load", filepath.Join(host.Root(), "build/images/redis.tar"))
	h.WriteFile("/etc/bareboat/manifests/static.yaml", staticManifest)
	const uid = "-o=jsonpath={.metadata.uid} {.metadata.ownerReferences[0].kind} {.status.phase} {.status.containerStatuses[0].restartCount}"
	node := strings.TrimSpace(h.Must("kctl", "get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"))
	name, shown := "static-"+node, ""
	running := func(but string) {
		t.Helper()
		h.Eventually("the mirror pod", func() error {
			out, err := h.Run("kctl", "-n", "kube-system", "get", "pod", name, uid)
			if shown = strings.TrimSpace(out); err == nil && (!strings.HasSuffix(shown, " Node Running 0") || shown == but) {
				err = fmt.Errorf("it is %q", shown)
			}
			return err
		})
	}
	running("")
	pid := containerPIDs(h, ": static")
	h.Eventually("its log", func() error {
		out, err := h.Run("kctl", "-n", "kube-system", "logs", name)
		if err == nil && out != "up\n" {
			err = fmt.Errorf("it is %q", out)
		}
		return err
	})
	h.Must("kctl", "-n", "kube-system", "delete", "pod", name, "--wait=false")
	running(shown)
	if now := containerPIDs(h, ": static"); now != pid || strings.TrimSpace(pid) == "" {
		t.Errorf("the process was %q and is %q", pid, now)
	}
	h.Must("rm", "/etc/bareboat/manifests/static.yaml")
	h.Eventually("its end", func() error {
		if out, err := h.Run("kctl", "-n", "kube-system", "get", "pod", name); err == nil {
			return fmt.Errorf("it is there: %s", out)
		}
		return nil
	})
	if left := containerPIDs(h, ": static"); left != "" {
		t.Errorf("its process is left: %s", left)
	}
}

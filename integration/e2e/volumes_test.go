package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"bareboat.dev/integration/host"
)

// stateful is a database as charts deploy it: a volume for each member, claimed from the default class.
const stateful = `
apiVersion: v1
kind: Service
metadata: {name: redis, namespace: default}
spec: {clusterIP: None, selector: {app: redis}, ports: [{name: redis, port: 6379}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: redis, namespace: default}
spec:
  serviceName: redis
  replicas: 2
  selector: {matchLabels: {app: redis}}
  template:
    metadata: {labels: {app: redis}}
    spec:
      securityContext: {runAsUser: 999, runAsGroup: 999, fsGroup: 999}
      terminationGracePeriodSeconds: 5
      containers:
        - name: redis
          image: docker.io/bareboat/guestbook-redis:v1
          imagePullPolicy: IfNotPresent
          args: [--dir, /data, --appendonly, "yes", --protected-mode, "no"]
          readinessProbe: {exec: {command: [/usr/bin/redis-cli, ping]}, periodSeconds: 1}
          volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
    - metadata: {name: data}
      spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 64Mi}}}
`

// TestStatefulSetKeepsItsData shows that claims get volumes on the node from the class in the box, that what a member writes
// outlives its pod and the set, and that deleting the claims removes the directories and nothing else.
func TestStatefulSetKeepsItsData(t *testing.T) {
	h := up(t, "volumes")
	h.Must("kctl", "image", "load", filepath.Join(host.Root(), "build", "images", "redis.tar"))
	accounts(h, "default")
	const manifest = "/tmp/redis.yaml"
	h.WriteFile(manifest, stateful)
	h.Must("kctl", "apply", "-f", manifest)
	h.Must("kctl", "rollout", "status", "statefulset/redis", "--timeout=120s")
	if got := h.Must("kctl", "get", "pvc", "-o", "jsonpath={.items[*].status.phase}"); strings.TrimSpace(got) != "Bound Bound" {
		t.Errorf("claims are %s", got)
	}
	directories := func() []string {
		out, err := h.Run("ls", "/var/lib/bareboat/volumes")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(out)
	}
	if n := len(directories()); n != 2 {
		t.Errorf("%d directories for two members", n)
	}

	h.Must("kctl", "exec", "redis-1", "--", "redis-cli", "set", "word", "kept")
	h.Must("kctl", "delete", "pod", "redis-1")
	h.Must("kctl", "rollout", "status", "statefulset/redis", "--timeout=120s")
	read := func() {
		t.Helper()
		h.Eventually("the word in redis-1", func() error {
			out, err := h.Run("kctl", "exec", "redis-1", "--", "redis-cli", "get", "word")
			if err == nil && strings.TrimSpace(out) != "kept" {
				err = fmt.Errorf("it is %q", out)
			}
			return err
		})
	}
	read()

	h.Must("kctl", "delete", "statefulset", "redis")
	h.Eventually("the end of the pods", func() error {
		if out := h.Must("kctl", "get", "pods", "-o", "name"); strings.TrimSpace(out) != "" {
			return fmt.Errorf("there are %s", out)
		}
		return nil
	})
	h.Must("kctl", "apply", "-f", manifest)
	h.Must("kctl", "rollout", "status", "statefulset/redis", "--timeout=120s")
	read()

	h.Must("kctl", "delete", "statefulset", "redis")
	h.Must("kctl", "delete", "pvc", "--all", "--wait=false")
	h.Eventually("the end of volumes and directories", func() error {
		if out := h.Must("kctl", "get", "pv,pvc", "-o", "name"); strings.TrimSpace(out) != "" {
			return fmt.Errorf("there are %s", out)
		}
		if left := directories(); len(left) > 0 {
			return fmt.Errorf("there are %v", left)
		}
		return nil
	})
}

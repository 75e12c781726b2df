package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"bareboat.dev/integration/host"
)

// scaled is a Deployment whose pods use more memory than its autoscaler wants.
const scaled = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: redis, namespace: default}
spec:
  selector: {matchLabels: {app: redis}}
  template:
    metadata: {labels: {app: redis}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: redis
          image: docker.io/bareboat/guestbook-redis:v1
          imagePullPolicy: IfNotPresent
          resources: {requests: {cpu: 10m, memory: 1Mi}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: redis, namespace: default}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: redis}
  minReplicas: 1
  maxReplicas: 3
  metrics:
    - {type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 100Ki}}}
`

// TestAutoscalerScales shows that an autoscaler learns what pods use, without anything installed, and scales by it.
func TestAutoscalerScales(t *testing.T) {
	h := up(t, "autoscale")
	h.Must("kctl", "image", "load", filepath.Join(host.Root(), "build", "images", "redis.tar"))
	accounts(h, "default")
	h.WriteFile("/tmp/scaled.yaml", scaled)
	h.Must("kctl", "apply", "-f", "/tmp/scaled.yaml")
	h.Eventually("three replicas", func() error {
		out := h.Must("kctl", "get", "deployment", "redis", "-o", "jsonpath={.status.readyReplicas}")
		if strings.TrimSpace(out) != "3" {
			return fmt.Errorf("%s are ready; %s", out, h.Must("kctl", "get", "hpa", "redis", "-o", "jsonpath={.status.conditions[*].message}"))
		}
		return nil
	})
	h.Eventually("the status that tells of it", func() error {
		if out := h.Must("kctl", "get", "hpa", "redis", "-o", "jsonpath={.status.desiredReplicas} {.status.currentMetrics[*].type}"); strings.TrimSpace(out) != "3 Resource" {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

package main

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestRestartRules shows, on real containers, an exit that its container's own rule starts again though its pod's policy would not, and
// one that starts all of the pod anew, init container first, in the same sandbox.
func TestRestartRules(t *testing.T) {
	h := newHost(t)
	h.load()
	h.create("one", `{restartPolicy: Never, containers: [{name: app, command: [sh, -c, "test -e /v/been && sleep 1000; touch /v/been; exit 42"], volumeMounts: [{name: v, mountPath: /v}],
  restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]}], volumes: [{name: v, emptyDir: {}}]}`)
	h.create("all", `{restartPolicy: Never, volumes: [{name: v, emptyDir: {}}],
  initContainers: [{name: init, command: [sh, -c, "echo init >> /v/log"], volumeMounts: [{name: v, mountPath: /v}]}],
  containers: [
  {name: app, command: [sh, -c, "echo app >> /v/log; cat /v/log; test $(grep -c app /v/log) = 2 && sleep 1000; exit 88"], volumeMounts: [{name: v, mountPath: /v}],
   restartPolicy: Never, restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [88]}}]},
  {name: helper}]}`)
	again := func(p *corev1.Pod) bool {
		for _, s := range p.Status.ContainerStatuses {
			if s.RestartCount != 1 {
				return false
			}
		}
		return running(p)
	}
	h.await("one", "restarted by its rule", again)
	p := h.await("all", "restarted as a whole", again)
	if p.Status.InitContainerStatuses[0].RestartCount != 1 {
		t.Errorf("the init container: %s", statusText(p))
	}
	h.awaitLog(p, "app", "1", "init\napp\ninit\napp\n")
}

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
)

// healthServer is a program's own gRPC server, at the address of pods in the host's network.
func healthServer(t *testing.T) (*health.Server, int) {
	t.Helper()
	l, err := net.Listen("tcp", "192.0.2.10:0")
	if err != nil {
		t.Fatal(err)
	}
	s, h := grpc.NewServer(), health.NewServer()
	healthv1.RegisterHealthServer(s, h)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return h, l.Addr().(*net.TCPAddr).Port
}

// TestGRPCProbes shows probes against a gRPC server: a container is ready while its service serves, is restarted when it does not live,
// and a service that the server does not know keeps it from starting.
func TestGRPCProbes(t *testing.T) {
	h := newHost(t)
	h.load()
	server, port := healthServer(t)
	server.SetServingStatus("live", healthv1.HealthCheckResponse_SERVING)
	server.SetServingStatus("ready", healthv1.HealthCheckResponse_NOT_SERVING)
	h.create("web", fmt.Sprintf(`{hostNetwork: true, containers: [{name: app,
  livenessProbe: {grpc: {port: %[1]d, service: live}, periodSeconds: 1, failureThreshold: 1, terminationGracePeriodSeconds: 1},
  readinessProbe: {grpc: {port: %[1]d, service: ready}, periodSeconds: 1, failureThreshold: 1}}]}`, port))
	h.create("lost", fmt.Sprintf(`{hostNetwork: true, containers: [{name: app, startupProbe: {grpc: {port: %d, service: unheard}, periodSeconds: 1, failureThreshold: 1}}]}`, port))
	h.await("web", "Running and not ready", func(p *corev1.Pod) bool {
		s := p.Status.ContainerStatuses
		return p.Status.Phase == corev1.PodRunning && len(s) == 1 && s[0].Started != nil && *s[0].Started && !isReady(p)
	})
	h.awaitEvent("web", "Unhealthy", `Readiness probe failed: service unhealthy (responded with "NOT_SERVING")`)
	server.SetServingStatus("ready", healthv1.HealthCheckResponse_SERVING)
	h.await("web", "ready", isReady)
	server.SetServingStatus("live", healthv1.HealthCheckResponse_NOT_SERVING)
	h.awaitEvent("web", "Killing", "Container app failed liveness probe, will be restarted")
	server.SetServingStatus("live", healthv1.HealthCheckResponse_SERVING)
	h.await("web", "restarted and ready", func(p *corev1.Pod) bool { return isReady(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	h.awaitEvent("lost", "Unhealthy", "Startup probe failed: ")
	h.awaitEvent("lost", "Killing", "Container app failed startup probe, will be restarted")
}

// TestHooks shows lifecycle hooks of each kind: what they do, and what follows when they fail.
func TestHooks(t *testing.T) {
	h := newHost(t)
	h.load()
	asked := make(chan string, 10)
	l, err := net.Listen("tcp", "192.0.2.10:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.Path + " " + r.Header.Get("X-Hook") })}
	go func() { _ = web.Serve(l) }()
	t.Cleanup(func() { _ = web.Close() })
	port := l.Addr().(*net.TCPAddr).Port
	h.create("http", fmt.Sprintf(`{containers: [{name: app, lifecycle: {postStart: {httpGet: {host: 192.0.2.10, port: %[1]d, path: /begun, httpHeaders: [{name: X-Hook, value: a}]}}, preStop: {httpGet: {host: 192.0.2.10, port: %[1]d, path: /ends}}}}]}`, port))
	h.create("sleep", `{terminationGracePeriodSeconds: 600, containers: [{name: app, command: [sh, -c, "trap 'echo told; exit 0' TERM; echo up; while true; do sleep 0.1; done"], lifecycle: {preStop: {sleep: {seconds: 1}}}}]}`)
	h.create("fails", `{restartPolicy: Never, containers: [{name: app, lifecycle: {postStart: {exec: {command: ["false"]}}}}]}`)
	h.create("tcp", `{restartPolicy: Never, containers: [{name: app, lifecycle: {postStart: {tcpSocket: {port: 80}}}}]}`)
	h.await("http", "Running", running)
	s := h.await("sleep", "Running", running)
	if got := <-asked; got != "/begun a" {
		t.Errorf("postStart asked for %s", got)
	}
	h.remove("http", 5)
	if got := <-asked; got != "/ends " {
		t.Errorf("preStop asked for %s", got)
	}
	h.awaitGone("http")
	h.awaitLogHas(s, "app", "0", "up\n")
	h.remove("sleep", 600)
	h.awaitGone("sleep")
	for _, name := range []string{"fails", "tcp"} {
		p := h.await(name, "its end", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
		h.awaitEvent(name, "FailedPostStartHook", "")
		if end := p.Status.ContainerStatuses[0].State.Terminated; end == nil || end.ExitCode == 0 {
			t.Errorf("%s: %s", name, statusText(p))
		}
	}
}

// TestLastWords shows what is kept of what a container says at its end: its message, the end of its log if it has none and failed, and
// no more than there is room for.
func TestLastWords(t *testing.T) {
	h := newHost(t)
	h.load()
	for name, c := range map[string]struct{ fields, script, want string }{
		"file":     {``, `echo said > /dev/termination-log; echo log; exit 1`, "said\n"},
		"log":      {`terminationMessagePolicy: FallbackToLogsOnError, `, `echo one; echo two; exit 1`, "one\ntwo\n"},
		"well":     {`terminationMessagePolicy: FallbackToLogsOnError, `, `echo one; exit 0`, ""},
		"nothing":  {``, `echo log; exit 1`, ""},
		"else":     {`terminationMessagePath: /tmp/words, `, `echo there > /tmp/words`, "there\n"},
		"long":     {``, `head -c 9999 /dev/zero > /dev/termination-log`, strings.Repeat("\x00", 4096)},
		"long-log": {`terminationMessagePolicy: FallbackToLogsOnError, `, `seq 1 2000; exit 1`, ""},
	} {
		h.create(name, fmt.Sprintf(`{restartPolicy: Never, containers: [{name: app, %scommand: [sh, -c, %q]}]}`, c.fields, c.script))
		p := h.await(name, "its end", func(p *corev1.Pod) bool {
			return p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded
		})
		got := p.Status.ContainerStatuses[0].State.Terminated.Message
		if name == "long-log" {
			if !strings.HasSuffix(got, "\n1999\n2000\n") || strings.Count(got, "\n") > 80 || len(got) > 2048 {
				t.Errorf("%s: %q", name, got)
			}
		} else if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestReadinessGates shows that a pod is ready only when others say so, too.
func TestReadinessGates(t *testing.T) {
	h := newHost(t)
	h.load()
	h.create("web", `{readinessGates: [{conditionType: example.com/balanced}], containers: [{name: app}]}`)
	h.await("web", "containers ready, itself not", func(p *corev1.Pod) bool {
		ready, containers := conditionOf(p, corev1.PodReady), conditionOf(p, corev1.ContainersReady)
		return containers.Status == corev1.ConditionTrue && ready.Status == corev1.ConditionFalse && ready.Reason == "ReadinessGatesNotReady" &&
			ready.Message == `corresponding condition of pod readiness gate "example.com/balanced" does not exist.`
	})
	h.updateStatus(context.Background(), "web", func(p *corev1.Pod) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: "example.com/balanced", Status: corev1.ConditionTrue})
	})
	h.await("web", "ready", isReady)
}

func conditionOf(p *corev1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

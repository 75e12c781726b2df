package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// TestAPIOutage shows that pods live on while the API server is away, even through a restart of the kubelet: containers
// that crash are started again, nothing is killed, and all is told once the server is back.
func TestAPIOutage(t *testing.T) {
	h := newHost(t)
	h.load()
	h.create("stays", `containers: [{name: app}]`)
	h.create("crash", `{containers: [{name: app, command: [sh, -c, "while test ! -e /v/go; do sleep 0.1; done; rm /v/go; exit 4"], volumeMounts: [{name: v, mountPath: /v}]}], volumes: [{name: v, emptyDir: {}}]}`)
	stays, crash := h.await("stays", "Running", running), h.await("crash", "Running", running)
	pid := h.pid(stays)

	h.api.Fail(func(string, *apiv1.ResourceRef) error { return status.Error(codes.Unavailable, "away") })
	h.api.Disconnect()
	h.stop()
	h.start()
	touch(t, filepath.Join(h.c.RootDir, "pods", string(crash.UID), "volumes/kubernetes.io~empty-dir/v/go"))
	logs := filepath.Join(h.c.LogDir, "default_crash_"+string(crash.UID), "app")
	h.awaitOn(logs, "a second instance while the API is away", func() bool {
		_, err := os.Stat(filepath.Join(logs, "1.log"))
		return err == nil
	})
	if h.pid(stays) != pid {
		t.Error("a pod was touched while the API was away")
	}
	h.api.Fail(nil)
	p := h.await("crash", "one restart told", func(p *corev1.Pod) bool { return running(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	if s := p.Status.ContainerStatuses[0].LastTerminationState.Terminated; s == nil || s.ExitCode != 4 {
		t.Errorf("last state: %s", statusText(p))
	}
	if h.pid(stays) != pid {
		t.Error("a pod was touched when the API came back")
	}
}

// TestManyRestarts shows that a kubelet that starts again and again over running pods changes none of them, and that exec works
// after each start.
func TestManyRestarts(t *testing.T) {
	h := newHost(t)
	h.load()
	pids := map[string]int{}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		h.create(name, `containers: [{name: app, readinessProbe: {exec: {command: ["true"]}}}]`)
	}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		pids[name] = h.pid(h.await(name, "Running", running))
	}
	unready := h.watchUnready()
	for range 5 {
		h.stop()
		h.start()
		for name, pid := range pids {
			p := h.await(name, "still Running and ready", running)
			if got := h.pid(p); got != pid || p.Status.ContainerStatuses[0].RestartCount != 0 {
				t.Fatalf("%s has process %d, had %d: %s", name, got, pid, statusText(p))
			}
		}
		out, _, code := execute(t, h.dialNode(), &nodev1.ExecRequest_Start{Ref: &nodev1.ContainerRef{Namespace: "default", Pod: "a"}, Command: []string{"echo", "hi"}}, "")
		if out != "hi\n" || code != 0 {
			t.Fatalf("exec gave %q, %d", out, code)
		}
	}
	if name := unready(); name != "" {
		t.Errorf("%s was said to be unready because its kubelet restarted", name)
	}
}

// TestSilentShim shows that a podshim that does not answer when the kubelet starts holds up its own pod and nothing else: others are found
// and made, and when it answers its pod is as it was.
func TestSilentShim(t *testing.T) {
	h := newHost(t)
	h.load()
	h.create("silent", `containers: [{name: app}]`)
	h.create("other", `containers: [{name: app}]`)
	silent := h.await("silent", "Running", running)
	h.await("other", "Running", running)
	pid, shimPID := h.pid(silent), h.attach(silent).PID()
	h.stop()
	if err := syscall.Kill(shimPID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(shimPID, syscall.SIGCONT) })
	h.start()
	h.create("new", `containers: [{name: app}]`)
	h.await("new", "Running", running)
	h.remove("other", 0)
	h.awaitGone("other")
	if err := syscall.Kill(shimPID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	h.remove("new", 0)
	h.awaitGone("new")
	if got := h.pid(silent); got != pid {
		t.Errorf("the process was %d and is %d", pid, got)
	}
	h.remove("silent", 0)
	h.awaitGone("silent")
	h.awaitNoTraces(silent)
}

// watchUnready begins to watch pods, and returns a function that names one that was told to be unready since; empty if none was.
func (h *host) watchUnready() func() string {
	ctx, cancel := context.WithCancel(context.Background())
	from, found := h.api.Revision(), make(chan string, 1)
	go func() {
		defer close(found)
		for e, err := range client.Of(h.api.Client(), client.Pods()).Watch(ctx, "default", client.WatchOptions{From: from}) {
			if err != nil {
				return
			}
			if e.Object != nil && !isReady(e.Object) {
				found <- e.Object.Name
				return
			}
		}
	}()
	return func() string {
		cancel()
		return <-found
	}
}

// TestHalfMountedVolumes shows that a kubelet that is killed while it mounts a pod's volumes mounts them all when it starts again.
func TestHalfMountedVolumes(t *testing.T) {
	h := newHost(t)
	h.load()
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "late"}, Data: map[string]string{"k": "v"}}
	h.create("web", `{containers: [{name: app, command: [sh, -c, "cat /b/k; echo; sleep 1000"], volumeMounts: [{name: a, mountPath: /a}, {name: b, mountPath: /b}]}], volumes: [{name: a, emptyDir: {}}, {name: b, configMap: {name: late}}]}`)
	p := h.await("web", "a sandbox", func(p *corev1.Pod) bool { return p.Status.PodIP != "" })
	h.stop() // one volume is there, the other waits for its ConfigMap
	if _, err := client.Of(h.api.Client(), client.ConfigMaps()).Create(context.Background(), cm); err != nil {
		t.Fatal(err)
	}
	h.start()
	p = h.await("web", "Running", running)
	if p.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("a container was started without its volume: %s", statusText(p))
	}
	h.awaitLog(p, "app", "0", "v\n")
}

// TestLiveChanges shows what can change of a running pod: an image restarts its container, resources are resized in place, and
// an ephemeral container joins.
func TestLiveChanges(t *testing.T) {
	h := newHost(t)
	h.load()
	h.create("web", `containers: [{name: app, resources: {limits: {memory: 64Mi}}, stdin: true}]`)
	p := h.await("web", "Running", running)
	pid := h.pid(p)
	h.update("web", func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Limits[corev1.ResourceMemory] = resource.MustParse("48Mi")
	})
	p = h.await("web", "resized", func(p *corev1.Pod) bool {
		r := p.Status.ContainerStatuses[0].Resources
		return r != nil && r.Limits.Memory().Value() == 48<<20 && p.Status.ObservedGeneration == p.Generation
	})
	if h.pid(p) != pid {
		t.Error("the container was restarted")
	}
	if got := h.memoryLimit(p); got != "50331648" {
		t.Errorf("the kernel limits memory to %s", got)
	}
	h.update("web", func(p *corev1.Pod) {
		p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: "debug", Image: "busybox:1", ImagePullPolicy: corev1.PullIfNotPresent,
			// It sees the processes of its target, and its target's first is not itself.
			Command: []string{"sh", "-c", "test $$ != 1 && echo seen; exit 2"},
		}, TargetContainerName: "app"}}
	})
	p = h.await("web", "the ephemeral container's end", func(p *corev1.Pod) bool {
		s := p.Status.EphemeralContainerStatuses
		return len(s) == 1 && s[0].State.Terminated != nil
	})
	if s := p.Status.EphemeralContainerStatuses[0].State.Terminated; s.ExitCode != 2 || !running(p) {
		t.Errorf("after the ephemeral container: %s", statusText(p))
	}
	h.awaitLog(p, "debug", "0", "seen\n")
	h.update("web", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "docker.io/library/busybox:1" })
	h.await("web", "restarted with the other image", func(p *corev1.Pod) bool {
		return running(p) && p.Status.ContainerStatuses[0].RestartCount == 1 && strings.HasPrefix(p.Status.ContainerStatuses[0].Image, "docker.io")
	})
}

// update changes a pod's specification.
func (h *host) update(name string, change func(*corev1.Pod)) {
	h.t.Helper()
	pods := client.Of(h.api.Client(), client.Pods())
	h.retryOnConflict(name, change, func(p *corev1.Pod) error {
		_, err := pods.Update(context.Background(), p)
		return err
	})
}

// updateStatus changes a pod's status, as somebody other than its kubelet.
func (h *host) updateStatus(ctx context.Context, name string, change func(*corev1.Pod)) {
	h.t.Helper()
	pods := client.Of(h.api.Client(), client.Pods())
	h.retryOnConflict(name, change, func(p *corev1.Pod) error {
		_, err := pods.UpdateStatus(ctx, p)
		return err
	})
}

func (h *host) retryOnConflict(name string, change func(*corev1.Pod), write func(*corev1.Pod) error) {
	h.t.Helper()
	for {
		p, err := client.Of(h.api.Client(), client.Pods()).Get(context.Background(), "default", name)
		if err != nil {
			h.t.Fatal(err)
		}
		change(p)
		if err = write(p); err == nil {
			return
		}
		if !apierrors.IsConflict(err) {
			h.t.Fatal(err)
		}
	}
}

// memoryLimit reads a container's limit from the kernel.
func (h *host) memoryLimit(p *corev1.Pod) string {
	h.t.Helper()
	id := strings.TrimPrefix(p.Status.ContainerStatuses[0].ContainerID, "bareboat://")
	for _, pattern := range []string{"/sys/fs/cgroup/memory/%s/burstable/pod%s/%s/memory.limit_in_bytes", "/sys/fs/cgroup/%s/burstable/pod%s/%s/memory.max"} {
		path := strings.Replace(strings.Replace(strings.Replace(pattern, "%s", h.c.CgroupRoot, 1), "%s", string(p.UID), 1), "%s", id, 1)
		if data, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(data))
		}
	}
	h.t.Fatal("the container's memory limit cannot be read")
	return ""
}

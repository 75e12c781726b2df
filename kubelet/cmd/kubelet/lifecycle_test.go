package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
)

// TestPodRuns shows that a pod bound to the node runs, is reported, and leaves nothing behind when it is deleted.
func TestPodRuns(t *testing.T) {
	h := newHost(t)
	h.load()
	h.create("web", `containers: [{name: app}]`)
	p := h.await("web", "Running and ready", running)
	if p.Status.PodIP == "" || p.Status.HostIP == "" || p.Status.QOSClass != corev1.PodQOSBestEffort {
		t.Errorf("status is not whole: %s", statusText(p))
	}
	h.awaitLog(p, "app", "0", "from the image\n")
	h.remove("web", 1)
	h.awaitGone("web")
	h.awaitNoTraces(p)
}

// TestWholeLife shows one pod through init container, sidecar, environment, volumes, hooks, probes and graceful end.
func TestWholeLife(t *testing.T) {
	h := newHost(t)
	h.load()
	ctx := context.Background()
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "settings"}, Data: map[string]string{"color": "blue"}}
	sec := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "key"}, Data: map[string][]byte{"pass": []byte("s3cret")}}
	if _, err := client.Of(h.api.Client(), client.ConfigMaps()).Create(ctx, cm); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Of(h.api.Client(), client.Secrets()).Create(ctx, sec); err != nil {
		t.Fatal(err)
	}
	h.create("web", `
terminationGracePeriodSeconds: 20
securityContext: {fsGroup: 3000}
hostAliases: [{ip: 10.1.2.3, hostnames: [alias]}]
volumes:
- {name: scratch, emptyDir: {}}
- {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
- {name: settings, configMap: {name: settings}}
- {name: key, secret: {secretName: key, defaultMode: 0400}}
- {name: about, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
initContainers:
- {name: init, command: [sh, -c, "echo made by init > /scratch/file; mkdir /scratch/sub"], volumeMounts: [{name: scratch, mountPath: /scratch}]}
- {name: side, restartPolicy: Always, command: [sh, -c, "trap 'echo side ends; exit 0' TERM; while true; do sleep 0.1; done"], volumeMounts: [{name: scratch, mountPath: /scratch}],
   startupProbe: {exec: {command: ["true"]}, periodSeconds: 1}}
containers:
- name: app
  command: [sh, -c]
  args:
  - |
    cat /scratch/file; echo $COLOR $PASS $ME $(ME) $FROM_IMAGE; cat /settings/color; echo; cat /key/pass; echo; cat /about/labels; echo
    grep alias /etc/hosts; hostname; stat -c %g:%a /scratch /memory; id; ls /parts
    trap 'echo ending; echo last words > /dev/termination-log; exit 3' TERM
    httpd -p 8080 -h /; while true; do sleep 0.1; done
  env:
  - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
  - {name: PASS, valueFrom: {secretKeyRef: {name: key, key: pass}}}
  - {name: ME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  resources: {requests: {cpu: 50m, memory: 32Mi}, limits: {memory: 64Mi}}
  volumeMounts:
  - {name: scratch, mountPath: /scratch}
  - {name: memory, mountPath: /memory}
  - {name: settings, mountPath: /settings}
  - {name: key, mountPath: /key}
  - {name: about, mountPath: /about}
  - {name: scratch, mountPath: /parts, subPath: sub}
  readinessProbe: {httpGet: {port: 8080, path: /etc/passwd}, periodSeconds: 1}
  livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
  lifecycle:
    postStart: {exec: {command: [sh, -c, "echo hook > /scratch/hook"]}}
    preStop: {exec: {command: [sh, -c, "cat /scratch/hook >> /proc/1/fd/1"]}}
`)
	p := h.await("web", "Running and ready", running)
	want := `made by init
blue s3cret web web yes
blue
s3cret
app="web"
10.1.2.3	alias
web
3000:2777
3000:2777
uid=0(root) gid=0(root) groups=0(root),3000
`
	h.awaitLog(p, "app", "0", want)
	h.updateConfigMap(p, cm)
	h.remove("web", 20)
	p = h.await("web", "all containers ended", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Terminated != nil && p.Status.InitContainerStatuses[1].State.Terminated != nil
	})
	if s := p.Status.ContainerStatuses[0].State.Terminated; s.ExitCode != 3 || s.Message != "last words\n" || s.Reason != "Error" {
		t.Errorf("app ended as %+v", s)
	}
	if s := p.Status.InitContainerStatuses[1].State.Terminated; s.ExitCode != 0 || s.FinishedAt.Before(&p.Status.ContainerStatuses[0].State.Terminated.FinishedAt) {
		t.Errorf("the sidecar ended as %+v, before or without the app", s)
	}
	h.awaitGone("web")
	h.awaitNoTraces(p)
}

// updateConfigMap changes a ConfigMap and waits until the pod's volume shows it.
func (h *host) updateConfigMap(p *corev1.Pod, cm *corev1.ConfigMap) {
	h.t.Helper()
	cm = cm.DeepCopy()
	cm.Data["color"] = "green"
	if _, err := client.Of(h.api.Client(), client.ConfigMaps()).Update(context.Background(), cm); err != nil {
		h.t.Fatal(err)
	}
	h.awaitFile(filepath.Join(h.c.RootDir, "pods", string(p.UID), "volumes/kubernetes.io~configmap/settings/color"), "green")
}

// TestCrashesAndBadPods shows the states of containers that cannot be made, cannot start, crash, or eat too much memory.
func TestCrashesAndBadPods(t *testing.T) {
	h := newHost(t)
	h.load()
	waiting := func(reason string) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool {
			s := p.Status.ContainerStatuses
			return len(s) == 1 && s[0].State.Waiting != nil && s[0].State.Waiting.Reason == reason
		}
	}
	h.create("crash", `containers: [{name: app, command: [sh, -c, "echo run; exit 7"]}]`)
	h.create("nocommand", `{restartPolicy: Never, containers: [{name: app, command: [no-such-program]}]}`)
	h.create("noimage", `containers: [{name: app, image: "nowhere:1", imagePullPolicy: Never}]`)
	h.create("badname", `containers: [{name: app, image: "UPPER::case"}]`)
	h.create("noconfig", `containers: [{name: app, env: [{name: A, valueFrom: {configMapKeyRef: {name: absent, key: k}}}]}]`)
	h.create("rootless", `containers: [{name: app, securityContext: {runAsNonRoot: true}}]`)
	h.create("oom", `{restartPolicy: Never, containers: [{name: app, command: [sh, -c, "dd if=/dev/zero of=/dev/null bs=100M count=1"], resources: {limits: {memory: 16Mi}}}]}`)
	h.create("done", `{restartPolicy: OnFailure, containers: [{name: app, command: [sh, -c, "echo bye > /dev/termination-log"]}]}`)

	p := h.await("crash", "CrashLoopBackOff", waiting("CrashLoopBackOff"))
	if s := p.Status.ContainerStatuses[0]; s.RestartCount != 1 || s.LastTerminationState.Terminated.ExitCode != 7 {
		t.Errorf("crash: %s", statusText(p))
	}
	h.await("noimage", "ErrImageNeverPull", waiting("ErrImageNeverPull"))
	h.await("badname", "InvalidImageName", waiting("InvalidImageName"))
	p = h.await("noconfig", "CreateContainerConfigError", waiting("CreateContainerConfigError"))
	if m := p.Status.ContainerStatuses[0].State.Waiting.Message; m != `configmap "absent" not found` {
		t.Errorf("noconfig says %q", m)
	}
	p = h.await("rootless", "CreateContainerConfigError", waiting("CreateContainerConfigError"))
	if m := p.Status.ContainerStatuses[0].State.Waiting.Message; !strings.HasPrefix(m, "container has runAsNonRoot and image will run as root") {
		t.Errorf("rootless says %q", m)
	}
	p = h.await("nocommand", "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if s := p.Status.ContainerStatuses[0].State.Terminated; s.ExitCode != 128 || s.Reason != "StartError" || !strings.Contains(s.Message, "no-such-program") {
		t.Errorf("nocommand: %s", statusText(p))
	}
	p = h.await("oom", "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if s := p.Status.ContainerStatuses[0].State.Terminated; s.Reason != "OOMKilled" || s.ExitCode != 137 {
		t.Errorf("oom: %s", statusText(p))
	}
	p = h.await("done", "Succeeded", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	if s := p.Status.ContainerStatuses[0].State.Terminated; s.Reason != "Completed" || s.Message != "bye\n" {
		t.Errorf("done: %s", statusText(p))
	}
	// The object that was missing appears: no need to wait for the next try.
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "absent"}, Data: map[string]string{"k": "v"}}
	if _, err := client.Of(h.api.Client(), client.ConfigMaps()).Create(context.Background(), cm); err != nil {
		t.Fatal(err)
	}
	h.await("noconfig", "Running", running)
}

// TestKubeletRestarts shows that a kubelet that stops leaves containers running, and that the next one goes on with them:
// nothing is restarted, exits that happened meanwhile are told with their codes, and pods deleted meanwhile are ended.
func TestKubeletRestarts(t *testing.T) {
	h := newHost(t)
	h.load()
	h.create("stays", `containers: [{name: app}]`)
	h.create("exits", `{restartPolicy: Never, containers: [{name: app, command: [sh, -c, "while test ! -e /tmp/go; do sleep 0.1; done; exit 9"], volumeMounts: [{name: v, mountPath: /tmp}]}], volumes: [{name: v, emptyDir: {}}]}`)
	h.create("deleted", `containers: [{name: app}]`)
	before := h.await("stays", "Running", running)
	exits := h.await("exits", "Running", running)
	deleted := h.await("deleted", "Running", running)
	pid := h.pid(before)

	h.stop()
	touch(t, filepath.Join(h.c.RootDir, "pods", string(exits.UID), "volumes/kubernetes.io~empty-dir/v/go"))
	h.awaitDead(exits)
	h.remove("deleted", 0)
	h.awaitGone("deleted")
	h.start()

	p := h.await("exits", "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if s := p.Status.ContainerStatuses[0].State.Terminated; s.ExitCode != 9 || s.Reason != "Error" {
		t.Errorf("exit during the outage: %+v", s)
	}
	h.awaitNoTraces(deleted)
	after := h.await("stays", "Running", running)
	if h.pid(before) != pid || after.Status.ContainerStatuses[0].ContainerID != before.Status.ContainerStatuses[0].ContainerID ||
		after.Status.PodIP != before.Status.PodIP || after.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("the pod was not left alone: %s", statusText(after))
	}
}

// TestShimDies shows that a pod whose podshim is killed is started again by its policy, or fails if it has none.
func TestShimDies(t *testing.T) {
	h := newHost(t)
	h.load()
	h.create("again", `containers: [{name: app}]`)
	h.create("never", `{restartPolicy: Never, containers: [{name: app}]}`)
	again, never := h.await("again", "Running", running), h.await("never", "Running", running)
	h.killShim(again)
	h.killShim(never)
	h.await("never", "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	p := h.await("again", "Running again", func(p *corev1.Pod) bool {
		return running(p) && p.Status.ContainerStatuses[0].RestartCount == 1
	})
	if s := p.Status.ContainerStatuses[0].LastTerminationState.Terminated; s == nil || s.ExitCode != 137 {
		t.Errorf("last state: %s", statusText(p))
	}
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestRejectedPods shows pods that the node does not take: they fail at once, with the reason, and leave nothing.
func TestRejectedPods(t *testing.T) {
	h := newHost(t)
	h.load()
	h.create("big", `containers: [{name: app, resources: {requests: {cpu: "1000"}}}]`)
	h.create("sysctl", `{securityContext: {sysctls: [{name: kernel.msgmax, value: "1"}]}, containers: [{name: app}]}`)
	for name, reason := range map[string]string{"big": "OutOfcpu", "sysctl": "SysctlForbidden"} {
		p := h.await(name, "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
		if p.Status.Reason != reason || !strings.HasPrefix(p.Status.Message, "Pod was rejected: ") {
			t.Errorf("%s: %s", name, statusText(p))
		}
	}
}

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
)

// kindOfPod is many pods of one behaviour, and how each ends.
type kindOfPod struct {
	count int
	spec  string
	// phase is where the pod ends by itself, with an exit code and a reason; Running if it does not.
	phase  corev1.PodPhase
	code   int32
	reason string
}

// crowd is more than a hundred pods, most of them badly behaved.
func crowd() map[string]kindOfPod {
	limited := `resources: {limits: {memory: 16Mi}}`
	volume := `volumeMounts: [{name: v, mountPath: /v}]}], volumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]`
	return map[string]kindOfPod{
		"ends":    {40, `{restartPolicy: Never, containers: [{name: app, command: ["true"]}]}`, corev1.PodSucceeded, 0, "Completed"},
		"crashes": {40, `{restartPolicy: Never, containers: [{name: app, command: [sh, -c, "exit 7"]}]}`, corev1.PodFailed, 7, "Error"},
		"aborts":  {5, `{restartPolicy: Never, containers: [{name: app, command: [sh, -c, "sh -c 'kill -6 $PPID'; sleep 1000"]}], shareProcessNamespace: true}`, corev1.PodFailed, 134, "Error"},
		"hangs":   {40, `{containers: [{name: app, command: [sleep, "1000"]}]}`, corev1.PodRunning, 0, ""},
		"deaf":    {15, `{containers: [{name: app, command: [sh, -c, "trap '' TERM; while true; do sleep 1000; done"]}]}`, corev1.PodRunning, 0, ""},
		"eats":    {5, `{restartPolicy: Never, containers: [{name: app, command: [dd, if=/dev/zero, of=/dev/null, bs=64M, count=1], ` + limited + `}]}`, corev1.PodFailed, 137, "OOMKilled"},
		"fills":   {5, `{restartPolicy: Never, containers: [{name: app, command: [dd, if=/dev/zero, of=/v/f, bs=64k, count=100], ` + volume + `}`, corev1.PodFailed, 1, "Error"},
		"forks":   {2, `{containers: [{name: app, command: [sh, -c, "bomb() { bomb | bomb & }; bomb; while true; do wait; done"]}]}`, corev1.PodRunning, 0, ""},
		"talks":   {3, `{restartPolicy: Never, containers: [{name: app, command: [dd, if=/dev/zero, bs=1M, count=20]}]}`, corev1.PodSucceeded, 0, "Completed"},
	}
}

// TestCrowd shows a node with more than a hundred pods that end, crash, hang, ignore SIGTERM, eat their memory, fill their disk, make processes
// without end and write as fast as they can, all at once: each comes to its own end with its own exit code, none is started twice, and when
// they are deleted nothing is left of any.
func TestCrowd(t *testing.T) {
	h := newHost(t)
	h.load()
	h.stop()
	h.c.PodPidsLimit, h.c.MaxPods = 30, 250
	h.start()
	ended := map[string]func(*corev1.Pod) string{}
	uids := map[string]*corev1.Pod{}
	for kind, k := range crowd() {
		for i := range k.count {
			name := fmt.Sprint(kind, i)
			uids[name] = h.create(name, k.spec)
			ended[name] = k.wrong
		}
	}
	h.awaitAll(ended)
	for i := range crowd()["talks"].count {
		p := uids[fmt.Sprint("talks", i)]
		if info, err := os.Stat(filepath.Join(h.c.LogDir, "default_"+p.Name+"_"+string(p.UID), "app", "0.log")); err != nil || info.Size() < 20<<20 {
			t.Errorf("the log of %s: %v, %v", p.Name, info, err)
		}
	}
	for name := range ended {
		h.remove(name, 1)
	}
	for name, p := range uids {
		h.awaitGone(name)
		h.awaitNoTraces(p)
	}
}

// wrong says what is not yet, or no longer, as it should be with such a pod; empty if all is well.
func (k kindOfPod) wrong(p *corev1.Pod) string {
	if p.Status.Phase != k.phase || len(p.Status.ContainerStatuses) != 1 {
		return "phase " + string(p.Status.Phase)
	}
	s := p.Status.ContainerStatuses[0]
	switch end := s.State.Terminated; {
	case s.RestartCount != 0:
		return "restarted"
	case k.phase == corev1.PodRunning:
		return ""
	case end == nil || end.ExitCode != k.code || end.Reason != k.reason:
		return fmt.Sprintf("ended %+v", end)
	}
	return ""
}

// awaitAll waits until nothing is wrong with any of the pods.
func (h *host) awaitAll(wrong map[string]func(*corev1.Pod) string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*limit)
	defer cancel()
	left := map[string]string{}
	for name := range wrong {
		left[name] = "not seen"
	}
	for e, err := range client.Of(h.api.Client(), client.Pods()).Watch(ctx, "default", client.WatchOptions{}) {
		if err != nil {
			break
		}
		if e.Object == nil || wrong[e.Object.Name] == nil {
			continue
		}
		if left[e.Object.Name] = wrong[e.Object.Name](e.Object); left[e.Object.Name] == "" {
			delete(left, e.Object.Name)
		}
		if len(left) == 0 {
			return
		}
	}
	var b strings.Builder
	for name, why := range left {
		fmt.Fprintln(&b, name, why)
	}
	h.t.Fatalf("%d pods are not as they should be:\n%s", len(left), b.String())
}

// TestImageIsRemoved shows that a container whose image is removed after it was found says so, and looks for it anew.
func TestImageIsRemoved(t *testing.T) {
	h := newHost(t)
	h.load()
	h.create("late", `containers: [{name: app, imagePullPolicy: Never, env: [{name: A, valueFrom: {configMapKeyRef: {name: absent, key: k}}}]}]`)
	reason := func(want string) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool {
			s := p.Status.ContainerStatuses
			return len(s) == 1 && s[0].State.Waiting != nil && s[0].State.Waiting.Reason == want
		}
	}
	h.await("late", "CreateContainerConfigError", reason("CreateContainerConfigError"))
	if err := h.k.images.Remove(t.Context(), "busybox:1"); err != nil {
		t.Fatal(err)
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "absent"}, Data: map[string]string{"k": "v"}}
	if _, err := client.Of(h.api.Client(), client.ConfigMaps()).Create(t.Context(), cm); err != nil {
		t.Fatal(err)
	}
	h.await("late", "ErrImageNeverPull", reason("ErrImageNeverPull"))
}

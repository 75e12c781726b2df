package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/agent"
	"bareboat.dev/kubelet/network"
	"bareboat.dev/kubelet/shim"
)

// attach speaks to a pod's podshim behind the kubelet's back.
func (h *host) attach(p *corev1.Pod) agent.Sandbox {
	h.t.Helper()
	s, err := agent.PodShims{}.Attach(context.Background(), filepath.Join(h.c.StateDir, string(p.UID)))
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// pid is the process id of a pod's only container.
func (h *host) pid(p *corev1.Pod) int {
	h.t.Helper()
	state, err := h.attach(p).State(context.Background())
	if err != nil || len(state.Containers) != 1 {
		h.t.Fatalf("state of %s: %+v, %v", p.Name, state, err)
	}
	return state.Containers[0].PID
}

// awaitDead waits until podshim has seen the pod's container exit.
func (h *host) awaitDead(p *corev1.Pod) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for e, err := range h.attach(p).Events(ctx) {
		if err != nil {
			h.t.Fatal(err)
		}
		if e.Phase == shim.Exited {
			return
		}
	}
}

func (h *host) killShim(p *corev1.Pod) {
	h.t.Helper()
	if err := syscall.Kill(h.attach(p).PID(), syscall.SIGKILL); err != nil {
		h.t.Fatal(err)
	}
}

// awaitFile waits until a file that is replaced by rename has the given content.
func (h *host) awaitFile(path, want string) {
	h.t.Helper()
	h.awaitOn(filepath.Dir(path), "file "+path, func() bool {
		data, _ := os.ReadFile(path)
		return string(data) == want
	})
}

// awaitOn waits until ok, looking again whenever something in dir changes.
func (h *host) awaitOn(dir, what string, ok func() bool) {
	h.t.Helper()
	w, err := fsnotify.NewWatcher()
	if err != nil {
		h.t.Fatal(err)
	}
	defer w.Close()
	if err := w.Add(dir); err != nil {
		h.t.Fatal(err)
	}
	deadline := time.After(limit)
	for !ok() {
		select {
		case <-w.Events:
		case <-deadline:
			h.t.Fatalf("%s: did not come to be", what)
		}
	}
}

// awaitNoTraces waits until a pod has left neither directory nor log, and checks the rest of the host.
func (h *host) awaitNoTraces(p *corev1.Pod) {
	h.t.Helper()
	h.awaitOn(h.c.LogDir, "removal of the logs of "+p.Name, func() bool {
		_, err := os.Stat(filepath.Join(h.c.LogDir, p.Namespace+"_"+p.Name+"_"+string(p.UID)))
		return os.IsNotExist(err)
	})
	for _, path := range []string{filepath.Join(h.c.RootDir, "pods", string(p.UID)), filepath.Join(h.c.StateDir, string(p.UID))} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			h.t.Errorf("%s is left: %v", path, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), string(p.UID)) {
		h.t.Errorf("a mount of %s is left: %v", p.UID, err)
	}
	for _, at := range h.k.network.Get().(interface{ List() []network.Attached }).List() {
		if at.PodUID == string(p.UID) {
			h.t.Errorf("network of %s is left", p.UID)
		}
	}
	if links, _ := os.ReadDir(h.c.LinkDir); len(links) > 0 {
		for _, l := range links {
			if strings.HasPrefix(l.Name(), p.Name+"_") {
				h.t.Errorf("log link %s is left", l.Name())
			}
		}
	}
}

// awaitLog waits until a container's log is as wanted.
func (h *host) awaitLog(p *corev1.Pod, container, attempt, want string) {
	h.t.Helper()
	dir := filepath.Join(h.c.LogDir, p.Namespace+"_"+p.Name+"_"+string(p.UID), container)
	got := ""
	defer func() {
		if h.t.Failed() {
			h.t.Logf("log is\n%s\nwant\n%s", got, want)
		}
	}()
	h.awaitOn(dir, "log of "+container, func() bool {
		got = h.log(p, container, attempt)
		return got == want
	})
}

// awaitLogHas waits until a container's log ends as wanted.
func (h *host) awaitLogHas(p *corev1.Pod, container, attempt, end string) {
	h.t.Helper()
	dir := filepath.Join(h.c.LogDir, p.Namespace+"_"+p.Name+"_"+string(p.UID), container)
	h.awaitOn(dir, "end of the log of "+container, func() bool { return strings.HasSuffix(h.log(p, container, attempt), end) })
}

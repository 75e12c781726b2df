package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"bareboat.dev/integration/host"
)

const (
	survivors    = 100
	kubeletKills = 20
)

// survivorsManifest is a hundred pods that count aloud until they are told to stop, one that exits with code 7 when told to, and pods that get
// into trouble: each is told by a file in a folder of the host.
const survivorsManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: counters}
spec:
  replicas: 100
  selector: {matchLabels: {app: counter}}
  template:
    metadata: {labels: {app: counter}}
    spec:
      terminationGracePeriodSeconds: 0
      volumes: [{name: signs, hostPath: {path: /tmp/signs, type: Directory}}]
      containers:
        - name: counter
          image: docker.io/bareboat/guestbook-redis:v1
          command: [/bin/busybox, sh, -c]
          args: ["trap exit TERM; i=0; while [ ! -e /signs/stop ]; do i=$((i+1)); echo line $i; /bin/busybox sleep 1; done; echo end; /bin/busybox sleep 3600 & wait"]
          volumeMounts: [{name: signs, mountPath: /signs}]
---
apiVersion: v1
kind: Pod
metadata: {name: exiter}
spec:
  restartPolicy: Never
  volumes: [{name: signs, hostPath: {path: /tmp/signs, type: Directory}}]
  containers:
    - name: exiter
      image: docker.io/bareboat/guestbook-redis:v1
      command: [/bin/busybox, sh, -c, "while [ ! -e /signs/exit ]; do /bin/busybox sleep 0.1; done; exit 7"]
      volumeMounts: [{name: signs, mountPath: /signs}]
`

// TestPodsSurviveKubeletKills shows that a kubelet which is killed again and again costs no process, no line of a log and no exit code, and
// that exec works as soon as it is back.
func TestPodsSurviveKubeletKills(t *testing.T) {
	h := startPods(t, "survive", survivorsManifest)
	h.Must("kctl", "rollout", "status", "deploy/counters", "--timeout=120s")
	h.Must("kctl", "wait", "pod/exiter", "--for=condition=Ready", "--timeout=120s")
	pids, statuses := "", counterStatuses(h)
	h.Eventually("the containers' own processes", func() error { // a started container becomes its command a moment later
		pids = containerPIDs(h, "signs/stop")
		if n := len(strings.Fields(pids)); n != survivors {
			return fmt.Errorf("there are %d containers, want %d", n, survivors)
		}
		return nil
	})
	kubelet := takeKubelet(t, h)
	for i := range kubeletKills {
		kubelet.start()
		kubelet.kill()
		if i == kubeletKills/2 {
			h.WriteFile("/tmp/signs/exit", "")
			h.Eventually("the exit without a kubelet", func() error {
				if out, err := h.Run("pgrep", "-f", "signs/exit"); err == nil {
					return fmt.Errorf("it runs as %s", strings.TrimSpace(out))
				}
				return nil
			})
		}
	}
	kubelet.giveBack()

	pods := strings.Fields(h.Must("kctl", "get", "pods", "-l", "app=counter", "-o", "jsonpath={.items[*].metadata.name}"))
	h.Eventually("exec", func() error { _, err := h.Run("kctl", "exec", pods[0], "--", "/bin/busybox", "true"); return err })
	if now := containerPIDs(h, "signs/stop"); now != pids {
		t.Errorf("the containers' processes were\n%s\nand are\n%s", pids, now)
	}
	if now := counterStatuses(h); now != statuses {
		t.Errorf("the containers were\n%s\nand are\n%s", statuses, now)
	}
	terminated(h, "exiter", "Failed", "7 Error")
	h.WriteFile("/tmp/signs/stop", "")
	for _, pod := range pods {
		wholeLog(h, pod)
	}
}

// TestPodsInTrouble shows a shim that is killed and its container started again, a container that ignores SIGTERM and is gone after its grace,
// and one that takes more memory than its limit and is killed for it.
func TestPodsInTrouble(t *testing.T) {
	h := startPods(t, "trouble", troubleManifest)
	t.Run("ShimKilled", func(t *testing.T) {
		h.Must("kctl", "wait", "pod/shimmed", "--for=condition=Ready", "--timeout=120s")
		old := ""
		h.Eventually("the container's own process", func() error { // a started container becomes its command a moment later
			if old = containerPIDs(h, "shimmed"); old == "" {
				return errors.New("there is none")
			}
			return nil
		})
		h.Must("sh", "-c", "kill -9 $(ps -o ppid= -p "+strings.TrimSpace(old)+")")
		h.Eventually("the container's restart", func() error {
			out, err := h.Run("kctl", "get", "pod", "shimmed", "-o", "jsonpath={.status.phase} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}")
			if err != nil {
				return err
			}
			if out = strings.TrimSpace(out); out != "Running 1 true" {
				return fmt.Errorf("the pod is %s", out)
			}
			return nil
		})
		h.Eventually("one process in place of the old one", func() error {
			if now := containerPIDs(h, "shimmed"); now == old || len(strings.Fields(now)) != 1 {
				return fmt.Errorf("the process was %q and is %q", old, now)
			}
			return nil
		})
		h.Must("kctl", "exec", "shimmed", "--", "/bin/busybox", "true")
	})
	t.Run("SIGTERMIgnored", func(t *testing.T) {
		h.Must("kctl", "wait", "pod/stubborn", "--for=condition=Ready", "--timeout=120s")
		h.Must("kctl", "delete", "pod", "stubborn")
		if left, err := h.Run("pgrep", "-a", "-f", "stubborn"); err == nil {
			t.Errorf("left: %s", left)
		}
		if out, err := h.Run("kctl", "get", "pod", "stubborn"); err == nil {
			t.Errorf("the pod is there: %s", out)
		}
	})
	t.Run("OutOfMemory", func(t *testing.T) {
		terminated(h, "hog", "Failed", "137 OOMKilled")
	})
}

const troubleManifest = `
apiVersion: v1
kind: Pod
metadata: {name: shimmed}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: shimmed
      image: docker.io/bareboat/guestbook-redis:v1
      command: [/bin/busybox, sh, -c, ": shimmed; trap exit TERM; /bin/busybox sleep 3600 & wait"]
---
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: stubborn
      image: docker.io/bareboat/guestbook-redis:v1
      command: [/bin/busybox, sh, -c, ": stubborn; trap '' TERM; while :; do /bin/busybox sleep 3600; done"]
---
apiVersion: v1
kind: Pod
metadata: {name: hog}
spec:
  restartPolicy: Never
  containers:
    - name: hog
      image: docker.io/bareboat/guestbook-redis:v1
      command: [/bin/busybox, sh, -c, "x=0123456789; while :; do x=$x$x; done"]
      resources: {limits: {memory: 32Mi}}
`

// startPods starts a cluster and the pods of a manifest.
func startPods(t *testing.T, name, manifest string) *host.Host {
	t.Helper()
	h := up(t, name)
	h.Must("kctl", "image", "load", filepath.Join(host.Root(), "build/images/redis.tar"))
	h.Must("mkdir", "-p", "/tmp/signs")
	h.WriteFile("/tmp/pods.yaml", manifest)
	accounts(h, "default")
	h.Must("kctl", "apply", "-f", "/tmp/pods.yaml")
	return h
}

// containerPIDs lists the first processes of containers, which are children of shims, by a word of their command line.
func containerPIDs(h *host.Host, word string) string {
	return h.Must("sh", "-c", `for s in $(pgrep -x podshim); do pgrep -P $s -f "$1"; done | sort -n`, "sh", word)
}

// counterStatuses is what a restart of any counter would change.
func counterStatuses(h *host.Host) string {
	return h.Must("kctl", "get", "pods", "-l", "app=counter", "-o",
		`jsonpath={range .items[*]}{.metadata.uid} {.status.podIP} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{"\n"}{end}`)
}

// terminated waits until a pod has ended, in a phase, and its container with an exit code and a reason.
func terminated(h *host.Host, pod, phase, want string) {
	h.Eventually("the end of "+pod, func() error {
		out, err := h.Run("kctl", "get", "pod", pod, "-o",
			"jsonpath={.status.phase} {.status.containerStatuses[0].state.terminated.exitCode} {.status.containerStatuses[0].state.terminated.reason}")
		if err != nil {
			return err
		}
		if out = strings.TrimSpace(out); out != phase+" "+want {
			return fmt.Errorf("it is %q, want %q", out, phase+" "+want)
		}
		return nil
	})
}

// wholeLog waits for the last line of a counter's log and requires every line before it once and in order.
func wholeLog(h *host.Host, pod string) {
	h.Eventually("the whole log of "+pod, func() error {
		out, err := h.Run("kctl", "logs", pod)
		if err != nil {
			return err
		}
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		if last := lines[len(lines)-1]; last != "end" {
			return fmt.Errorf("the last line is %q", last)
		}
		for i, line := range lines[:len(lines)-1] {
			if line != "line "+strconv.Itoa(i+1) {
				return fmt.Errorf("line %d of %d is %q", i+1, len(lines), line)
			}
		}
		if len(lines) < 2 {
			return fmt.Errorf("the log has %d lines", len(lines))
		}
		return nil
	})
}

// ownKubelet is a host's kubelet in the hands of the test: the supervisor would wait ever longer before it starts it again.
type ownKubelet struct {
	t       *testing.T
	h       *host.Host
	command []string
	wait    func() error
}

// takeKubelet stops the supervisor in its tracks and kills the kubelet.
func takeKubelet(t *testing.T, h *host.Host) *ownKubelet {
	t.Helper()
	k := &ownKubelet{t: t, h: h}
	running := h.Processes("kubelet")
	if len(running) != 1 {
		t.Fatalf("%d kubelets run", len(running))
	}
	k.command = strings.Split(strings.TrimSuffix(h.Must("sh", "-c", "tr '\\0' '\\n' < /proc/$(pgrep -x kubelet)/cmdline"), "\n"), "\n")
	k.supervisor(syscall.SIGSTOP)
	t.Cleanup(func() { k.supervisor(syscall.SIGCONT) })
	k.kill()
	return k
}

func (k *ownKubelet) supervisor(s syscall.Signal) {
	for _, pid := range k.h.Processes("kctl") {
		_ = syscall.Kill(pid, s)
	}
}

// start starts a kubelet and waits until it is healthy.
func (k *ownKubelet) start() {
	k.t.Helper()
	logged := `exec "$@" >> /var/log/bareboat/kubelet.log 2>&1` // as the supervisor does, so that a failure shows it
	cmd := k.h.Command(context.Background(), "sh", append([]string{"-c", logged, "sh"}, k.command...)...)
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.wait = cmd.Wait
	k.h.Eventually("a healthy kubelet", func() error { _, err := k.h.Run("curl", "-sS", "--fail", "http://127.0.0.1:10248/healthz"); return err })
}

// kill ends the kubelet as a crash would, and returns when it is gone.
func (k *ownKubelet) kill() {
	k.t.Helper()
	for _, pid := range k.h.Processes("kubelet") {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		k.h.Eventually("the kubelet's end", func() error { return ended(pid) })
	}
	if k.wait != nil {
		_ = k.wait()
		k.wait = nil
	}
}

// ended is nil when a process is gone or waits for its parent, which may be stopped, to collect it. Its first thread waits so even while
// others still hold its files and with them its ports.
func ended(pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if _, after, _ := strings.Cut(string(stat), ") "); !strings.HasPrefix(after, "Z") || len(threads) > 1 {
		return fmt.Errorf("process %d has %d threads: %s", pid, len(threads), stat)
	}
	return nil
}

// giveBack lets the supervisor go on, which finds its kubelet gone and starts another.
func (k *ownKubelet) giveBack() {
	k.t.Helper()
	k.supervisor(syscall.SIGCONT)
	k.h.Eventually("the kubelet's return", func() error { _, err := k.h.Run("curl", "-sS", "--fail", "http://127.0.0.1:10248/healthz"); return err })
}

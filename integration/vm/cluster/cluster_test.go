//go:build vm

// Package cluster is run inside package vm's machine: it starts a cluster there as a user would and looks at the machine's control groups.
package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	groups = "/sys/fs/cgroup"
	// patience bounds every wait; the machine is emulated and slow.
	patience = 3 * time.Minute
	image    = "docker.io/bareboat/guestbook-redis:v1"
)

// run runs a program of the machine.
func run(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := run(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func apply(t *testing.T, manifest string) {
	t.Helper()
	cmd := exec.Command("kctl", "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(manifest)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kctl apply: %v: %s", err, out)
	}
}

// file reads a control file, of a group relative to the hierarchy's root.
func file(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(groups, path))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func pod(t *testing.T, name, path string) string {
	t.Helper()
	return must(t, "kctl", "get", "pod", name, "-o", "jsonpath={"+path+"}")
}

// TestCluster shows that limits, kills, resizes, figures and the end of a cluster are as documented where cgroups are v2 alone.
func TestCluster(t *testing.T) {
	uplink(t)
	before := children(t, groups)
	down := false
	t.Cleanup(func() {
		if t.Failed() {
			dump(t)
		}
		if !down {
			_, _ = run("kctl", "down")
		}
	})
	must(t, "kctl", "up", "--timeout=6m")
	for _, i := range []string{"redis", "api", "web"} {
		must(t, "kctl", "image", "load", "/images/"+i+".tar")
	}
	eventually(t, "service account", func() error { _, err := run("kctl", "get", "serviceaccount", "default"); return err })

	t.Run("Limits", checkLimits)
	t.Run("Tree", checkTree)
	t.Run("OutOfMemory", checkOOM)
	t.Run("ForkBomb", checkForkBomb)
	t.Run("Resize", checkResize)
	t.Run("Figures", checkFigures)
	t.Run("BlockVolume", checkBlockVolume)
	t.Run("AppArmor", checkAppArmor)
	t.Run("Guestbook", checkGuestbook)
	t.Run("Down", func(t *testing.T) {
		must(t, "kctl", "down", "--purge")
		down = true
		if after := children(t, groups); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("groups were %v and are %v", before, after)
		}
	})
}

// uplink gives the machine an address and a default route: its network ends there. And it sets huge pages aside.
func uplink(t *testing.T) {
	t.Helper()
	must(t, "ip", "link", "add", "uplink", "type", "dummy")
	must(t, "ip", "address", "add", "192.0.2.1/24", "dev", "uplink")
	must(t, "ip", "link", "set", "uplink", "up")
	must(t, "ip", "route", "add", "default", "dev", "uplink")
	for path, content := range map[string]string{"/etc/resolv.conf": "nameserver 192.0.2.53\n", "/proc/sys/vm/nr_hugepages": "16"} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func children(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

func dump(t *testing.T) {
	for _, args := range [][]string{{"get", "pods", "-A", "-o", "wide"}, {"events", "-A"}} {
		out, _ := run("kctl", args...)
		t.Logf("--- kctl %s\n%s", strings.Join(args, " "), out)
	}
	for _, d := range []string{"kubelet", "apiserver"} {
		out, _ := run("tail", "-n", "60", "/var/log/bareboat/"+d+".log")
		t.Logf("--- %s\n%s", d, out)
	}
}

// checkTree shows that every group with pods in it passes the controllers on, that BestEffort weighs least, and that the daemons are outside of the pods' tree.
func checkTree(t *testing.T) {
	for _, g := range []string{"kubepods", "kubepods/burstable"} {
		have := strings.Fields(file(t, g+"/cgroup.subtree_control"))
		for _, c := range []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids"} {
			if !bytes.Contains([]byte(strings.Join(have, " ")), []byte(c)) {
				t.Errorf("%s passes on %v, not %s", g, have, c)
			}
		}
	}
	if w := file(t, "kubepods/besteffort/cpu.weight"); w != "1" {
		t.Errorf("BestEffort weighs %s", w)
	}
	if limit := file(t, "kubepods/memory.max"); limit == "max" {
		t.Error("the pods' tree has no memory limit")
	}
}

const limitsPod = `
apiVersion: v1
kind: Pod
metadata: {name: limits}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: ` + image + `
    command: [/bin/sh, -c, "exec sleep 100000"]
    resources:
      requests: {cpu: 250m, memory: 32Mi, hugepages-2Mi: 4Mi}
      limits: {cpu: 500m, memory: 64Mi, hugepages-2Mi: 4Mi}
`

func running(t *testing.T, name string) (uid, id string) {
	t.Helper()
	eventually(t, name+" runs", func() error {
		phase, err := run("kctl", "get", "pod", name, "-o", "jsonpath={.status.phase}")
		if err == nil && phase != "Running" {
			err = fmt.Errorf("it is %s", phase)
		}
		return err
	})
	_, id, _ = strings.Cut(pod(t, name, ".status.containerStatuses[0].containerID"), "://")
	return pod(t, name, ".metadata.uid"), id
}

func expect(t *testing.T, want map[string]string) {
	t.Helper()
	for path, value := range want {
		if got := file(t, path); got != value {
			t.Errorf("%s is %q, want %q", path, got, value)
		}
	}
}

// checkLimits shows each limit in the files of the pod's and the container's groups, and what the container sees of them.
func checkLimits(t *testing.T) {
	apply(t, limitsPod)
	uid, id := running(t, "limits")
	podGroup := "kubepods/burstable/pod" + uid
	ctr := podGroup + "/" + id
	expect(t, map[string]string{
		podGroup + "/cpu.max": "50000 100000", podGroup + "/memory.max": "67108864", podGroup + "/hugetlb.2MB.max": "4194304",
		ctr + "/cpu.max": "50000 100000", ctr + "/memory.max": "67108864", ctr + "/hugetlb.2MB.max": "4194304",
		ctr + "/memory.swap.max": "0", ctr + "/memory.oom.group": "1", ctr + "/cpu.weight": file(t, podGroup+"/cpu.weight"),
	})
	if seen := must(t, "kctl", "exec", "limits", "--", "busybox", "cat", "/sys/fs/cgroup/memory.max"); seen != "67108864" {
		t.Errorf("the container sees %s", seen)
	}
	// A group namespace of its own, read-only: the container can neither see nor change what is above.
	if out, err := run("kctl", "exec", "limits", "--", "sh", "-c", "busybox cat /proc/1/cgroup; echo 1 > /sys/fs/cgroup/pids.max"); err == nil || !strings.Contains(out, "0::/\n") && !strings.HasPrefix(out, "0::/") {
		t.Errorf("the container's group: %s, %v", out, err)
	}
	// The device filter is a BPF program here.
	if out, err := run("kctl", "exec", "limits", "--", "sh", "-c", "busybox head -c1 /dev/zero >/dev/null && busybox mknod /tmp/disk b 254 0 2>&1; busybox head -c1 /tmp/disk"); err == nil {
		t.Errorf("the container can read a disk: %s", out)
	}
}

const oomPod = `
apiVersion: v1
kind: Pod
metadata: {name: hungry}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: ` + image + `
    command: [/bin/sh, -c, "sleep 100000 & tail /dev/zero"]
    resources: {limits: {memory: 32Mi, cpu: "1"}}
`

// checkOOM shows that a container that eats its memory is killed as a whole, and that its status says so.
func checkOOM(t *testing.T) {
	apply(t, oomPod)
	eventually(t, "the kill", func() error {
		state := pod(t, "hungry", ".status.containerStatuses[0].state.terminated.reason")
		if state != "OOMKilled" {
			return fmt.Errorf("reason %q", state)
		}
		return nil
	})
	if code := pod(t, "hungry", ".status.containerStatuses[0].state.terminated.exitCode"); code != "137" {
		t.Errorf("exit code %s", code)
	}
	if phase := pod(t, "hungry", ".status.phase"); phase != "Failed" {
		t.Errorf("phase %s", phase)
	}
}

const bombPod = `
apiVersion: v1
kind: Pod
metadata: {name: bomb}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: ` + image + `
    command: [/bin/sh, -c, "f() { f | f & }; f; sleep 100000"]
    resources: {limits: {memory: 256Mi, cpu: "1"}}
`

// checkForkBomb shows that a pod's end takes everything in its groups with it.
func checkForkBomb(t *testing.T) {
	apply(t, bombPod)
	uid, _ := running(t, "bomb")
	must(t, "kctl", "delete", "pod", "bomb", "--timeout=120s")
	eventually(t, "the group's end", func() error {
		if _, err := os.Stat(filepath.Join(groups, "kubepods/pod"+uid)); !os.IsNotExist(err) {
			return fmt.Errorf("it is there: %w", err)
		}
		return nil
	})
}

// checkResize shows that limits change in place, without a restart.
func checkResize(t *testing.T) {
	uid, id := running(t, "limits")
	must(t, "kctl", "patch", "pod", "limits", "--subresource=resize", "--type=strategic", "-p",
		`{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":"500m","memory":"48Mi"},"limits":{"cpu":"1","memory":"96Mi"}}}]}}`)
	ctr := "kubepods/burstable/pod" + uid + "/" + id
	eventually(t, "the resize", func() error {
		for path, want := range map[string]string{ctr + "/cpu.max": "100000 100000", ctr + "/memory.max": "100663296", filepath.Dir(ctr) + "/memory.max": "100663296"} {
			if got := file(t, path); got != want {
				return fmt.Errorf("%s is %s", path, got)
			}
		}
		if got := pod(t, "limits", ".status.containerStatuses[0].resources.limits.memory"); got != "96Mi" {
			return fmt.Errorf("the status says %q", got)
		}
		return nil
	})
	if n := pod(t, "limits", ".status.containerStatuses[0].restartCount"); n != "0" {
		t.Errorf("restarted %s times", n)
	}
}

// checkFigures shows that what is used is measured: CPU, memory and processes of the pod that runs.
func checkFigures(t *testing.T) {
	must(t, "kctl", "exec", "limits", "--", "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
	const pki = "/etc/bareboat/pki/"
	node := must(t, "kctl", "get", "nodes", "-o", "jsonpath={.items[0].status.addresses[0].address}")
	raw := must(t, "curl", "-sS", "--fail", "--cacert", pki+"ca.crt", "--cert", pki+"admin.crt", "--key", pki+"admin.key", "https://"+node+":10250/stats/summary")
	var summary struct {
		Pods []struct {
			PodRef struct{ Name string }
			CPU    struct{ UsageCoreNanoSeconds uint64 }
			Memory struct{ WorkingSetBytes, RSSBytes uint64 }
		}
	}
	if err := json.Unmarshal([]byte(raw), &summary); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	for _, p := range summary.Pods {
		if p.PodRef.Name == "limits" {
			if p.CPU.UsageCoreNanoSeconds == 0 || p.Memory.WorkingSetBytes == 0 {
				t.Errorf("figures %+v", p)
			}
			return
		}
	}
	t.Errorf("no figures of the pod in %s", raw)
}

// checkGuestbook shows the example application: services, DNS, and three tiers of pods.
func checkGuestbook(t *testing.T) {
	must(t, "kctl", "apply", "-f", "/images/guestbook.yaml")
	for _, d := range []string{"redis", "api", "web"} {
		must(t, "kctl", "-n", "guestbook", "rollout", "status", "deploy/"+d, "--timeout=180s")
	}
	eventually(t, "an entry", func() error {
		_, err := run("curl", "-sS", "--fail", "--max-time", "20", "-d", "hello", "http://192.0.2.1:30080/api/entries")
		return err
	})
	if out := must(t, "curl", "-sS", "--fail", "--max-time", "20", "http://192.0.2.1:30080/api/entries"); !strings.Contains(out, "hello") {
		t.Errorf("the guestbook holds %s", out)
	}
}

const blockPod = `
apiVersion: v1
kind: PersistentVolume
metadata: {name: disk}
spec:
  capacity: {storage: 1Mi}
  accessModes: [ReadWriteOnce]
  volumeMode: Block
  storageClassName: by-hand
  local: {path: DEVICE}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [unified]}]}]}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: disk}
spec: {accessModes: [ReadWriteOnce], volumeMode: Block, storageClassName: by-hand, volumeName: disk, resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: ` + image + `
    command: [/bin/sh, -c, "busybox head -c 5 /dev/xvda; echo; printf hello | busybox dd of=/dev/xvda conv=notrunc,fsync; busybox mknod /tmp/other b 7 7; busybox head -c 1 /tmp/other 2>&1"]
    securityContext: {runAsUser: 0}
    volumeDevices: [{name: d, devicePath: /dev/xvda}]
  volumes: [{name: d, persistentVolumeClaim: {claimName: disk}}]
`

// checkBlockVolume shows that a container reads and writes the block device that it has as a volume, and no other.
func checkBlockVolume(t *testing.T) {
	const file = "/disk.img"
	if err := os.WriteFile(file, append([]byte("begin"), make([]byte, 1<<20-5)...), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "modprobe", "loop")
	device := must(t, "losetup", "--find", "--show", file)
	apply(t, strings.ReplaceAll(blockPod, "DEVICE", device))
	eventually(t, "the pod's end", func() error {
		if phase := pod(t, "writer", ".status.phase"); phase != "Succeeded" && phase != "Failed" {
			return fmt.Errorf("it is %s", phase)
		}
		return nil
	})
	if got := must(t, "kctl", "logs", "writer"); !strings.HasPrefix(got, "begin\n") || !strings.Contains(got, "/tmp/other: Operation not permitted") {
		t.Errorf("printed %q", got)
	}
	must(t, "sync")
	if data, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(data), "hello") {
		t.Errorf("the disk begins with %.5q, %v", data, err)
	}
	must(t, "kctl", "delete", "pod", "writer", "--timeout=60s")
	must(t, "losetup", "--detach", device)
}

const confinedPod = `
apiVersion: v1
kind: Pod
metadata: {name: confined}
spec:
  restartPolicy: Never
  securityContext: {appArmorProfile: {type: RuntimeDefault}}
  containers:
  - name: main
    image: ` + image + `
    command: [/bin/sh, -c, "busybox cat /proc/1/attr/current; busybox mount -t tmpfs x /tmp 2>&1; echo x > /tmp/file && busybox cat /tmp/file"]
    securityContext: {runAsUser: 0, capabilities: {add: [SYS_ADMIN]}}
`

// checkAppArmor shows that the kernel enforces the default profile: even a container with the capability to mount cannot.
func checkAppArmor(t *testing.T) {
	apply(t, confinedPod)
	eventually(t, "the pod's end", func() error {
		if phase := pod(t, "confined", ".status.phase"); phase != "Succeeded" && phase != "Failed" {
			return fmt.Errorf("it is %s", phase)
		}
		return nil
	})
	if got := must(t, "kctl", "logs", "confined"); got != "bareboat-default (enforce)\nmount: mounting x on /tmp failed: Permission denied\nx" {
		t.Errorf("printed %q", got)
	}
}

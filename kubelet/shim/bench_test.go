package shim_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bareboat.dev/kubelet/shim"
	"bareboat.dev/kubelet/shim/shimtest"
)

// BenchmarkPodStart measures a pod of one container from nothing to its program having run, and, alternating with it, the yardstick: a new
// network namespace and `runc run` of the same program in the same root file system. Reported: the median of each, and their ratio.
func BenchmarkPodStart(b *testing.B) {
	binary, rootfs := shimtest.Binary(b), shimtest.Rootfs(b)
	bundle := runcBundle(b, rootfs)
	var ours, theirs []time.Duration
	for b.Loop() {
		ours = append(ours, startPod(b, binary, rootfs))
		theirs = append(theirs, runRunc(b, bundle))
	}
	report(b, "pod", ours, theirs)
}

// startPod returns the time until the container's program runs. What comes after is not counted on either side.
func startPod(b *testing.B, binary, rootfs string) time.Duration {
	config := shim.PodConfig{}
	shimtest.Fill(b, &config)
	c := shimtest.ContainerIn(b, rootfs, "")
	c.Spec.Process.Args = []string{"/bin/true"}
	begin := time.Now()
	pod, err := shim.Launch(b.Context(), binary, config)
	if err != nil {
		b.Fatal(err)
	}
	if err := pod.Create(b.Context(), c); err != nil {
		b.Fatal(err)
	}
	if _, err := pod.Start(b.Context(), c.ID); err != nil {
		b.Fatal(err)
	}
	took := time.Since(begin)
	if status := shimtest.AwaitExit(b, pod, c.ID); status.ExitCode != 0 {
		b.Fatalf("status %+v", status)
	}
	if err := pod.Shutdown(b.Context()); err != nil {
		b.Fatal(err)
	}
	return took
}

// runcBundle writes what runc wants to run the same.
func runcBundle(b *testing.B, rootfs string) string {
	b.Helper()
	if _, err := exec.LookPath("runc"); err != nil {
		b.Fatal("the yardstick is missing (Debian: apt-get install runc iproute2)")
	}
	dir := b.TempDir()
	if out, err := exec.Command("runc", "spec", "--bundle", dir).CombinedOutput(); err != nil {
		b.Fatalf("runc spec: %v: %s", err, out)
	}
	path := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		b.Fatal(err)
	}
	spec["root"] = map[string]any{"path": rootfs}
	process := spec["process"].(map[string]any)
	process["args"], process["terminal"] = []string{"/bin/true"}, false
	delete(process, "rlimits")
	if data, err = json.Marshal(spec); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.Fatal(err)
	}
	return dir
}

// runRunc returns the time of `ip netns add` and `runc run` until the program has run.
func runRunc(b *testing.B, bundle string) time.Duration {
	id := shimtest.NewID()
	begin := time.Now()
	if out, err := exec.Command("ip", "netns", "add", "bench-"+id).CombinedOutput(); err != nil {
		b.Fatalf("ip netns add: %v: %s", err, out)
	}
	out, err := exec.Command("runc", "--root", filepath.Join(bundle, "state"), "run", "--bundle", bundle, id).CombinedOutput()
	took := time.Since(begin)
	if err != nil {
		b.Errorf("runc run: %v: %s", err, out)
	}
	if out, err := exec.Command("ip", "netns", "delete", "bench-"+id).CombinedOutput(); err != nil {
		b.Errorf("ip netns delete: %v: %s", err, out)
	}
	return took
}

// BenchmarkExec measures a process run in a running container, as an exec probe does, against `runc exec`.
func BenchmarkExec(b *testing.B) {
	rootfs := shimtest.Rootfs(b)
	pod := shimtest.Launch(b, shim.PodConfig{})
	c := shimtest.ContainerIn(b, rootfs, "sleep 1000")
	if err := pod.Create(b.Context(), c); err != nil {
		b.Fatal(err)
	}
	if _, err := pod.Start(b.Context(), c.ID); err != nil {
		b.Fatal(err)
	}
	stop := runcSleeper(b, rootfs)
	var ours, theirs []time.Duration
	for b.Loop() {
		begin := time.Now()
		var out bytes.Buffer
		exit, err := pod.Exec(b.Context(), c.ID, shim.ExecConfig{Args: []string{"/bin/true"}}, shim.Stdio{Stdout: &out}, nil)
		if err != nil || exit.Code != 0 {
			b.Fatal(exit, err)
		}
		ours = append(ours, time.Since(begin))
		theirs = append(theirs, stop.exec(b))
	}
	report(b, "exec", ours, theirs)
}

type sleeper struct{ state, id string }

func runcSleeper(b *testing.B, rootfs string) sleeper {
	bundle := runcBundle(b, rootfs)
	data, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		b.Fatal(err)
	}
	data = bytes.Replace(data, []byte(`["/bin/true"]`), []byte(`["/bin/sleep","1000"]`), 1)
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), data, 0o600); err != nil {
		b.Fatal(err)
	}
	s := sleeper{state: filepath.Join(bundle, "state"), id: shimtest.NewID()}
	cmd := exec.Command("runc", "--root", s.state, "run", "--detach", "--bundle", bundle, s.id)
	if err := cmd.Run(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if out, err := exec.Command("runc", "--root", s.state, "delete", "--force", s.id).CombinedOutput(); err != nil {
			b.Errorf("runc delete: %v: %s", err, out)
		}
	})
	return s
}

func (s sleeper) exec(b *testing.B) time.Duration {
	begin := time.Now()
	if out, err := exec.Command("runc", "--root", s.state, "exec", s.id, "/bin/true").CombinedOutput(); err != nil {
		b.Fatalf("runc exec: %v: %s", err, out)
	}
	return time.Since(begin)
}

func report(b *testing.B, what string, ours, theirs []time.Duration) {
	b.Helper()
	mine, yardstick := median(ours), median(theirs)
	b.ReportMetric(0, "ns/op") // the sum of both says nothing
	b.ReportMetric(float64(mine.Microseconds())/1000, what+"-ms")
	b.ReportMetric(float64(yardstick.Microseconds())/1000, "yardstick-ms")
	b.ReportMetric(float64(mine)/float64(yardstick), "ratio")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkMemory measures the memory of a podshim when there are a hundred, each with a running container, and all have come to rest:
// proportional set size, so that the program's own pages, which all share, count once in all.
func BenchmarkMemory(b *testing.B) {
	const pods = 100
	binary, rootfs := shimtest.Binary(b), shimtest.Rootfs(b)
	for b.Loop() {
		var pids []int
		for range pods {
			pod := shimtest.LaunchBinary(b, binary, shim.PodConfig{})
			c := shimtest.ContainerIn(b, rootfs, "while :; do sleep 1000; done")
			if err := pod.Create(b.Context(), c); err != nil {
				b.Fatal(err)
			}
			if _, err := pod.Start(b.Context(), c.ID); err != nil {
				b.Fatal(err)
			}
			pids = append(pids, pod.PID())
		}
		time.Sleep(4 * time.Second) // a benchmark may: memory is given back some time after work
		var pss, private, threads int
		for _, pid := range pids {
			p, d, n := memory(b, pid)
			pss, private, threads = pss+p, private+d, threads+n
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(pss)/pods, "PSS-KiB/pod")
		b.ReportMetric(float64(private)/pods, "private-KiB/pod")
		b.ReportMetric(float64(threads)/pods, "threads/pod")
	}
}

func memory(b *testing.B, pid int) (pss, private, threads int) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.Atoi(f[1])
		switch f[0] {
		case "Pss:":
			pss = n
		case "Private_Dirty:", "Private_Clean:":
			private += n
		}
	}
	return pss, private, len(tasks)
}

// BenchmarkLog measures how fast a container's output gets into its log, against the same output into a file through a pipe and cat. The
// output is read from a file, so that making it costs next to nothing.
func BenchmarkLog(b *testing.B) {
	const size = 128 << 20
	const line = "a line of output such as a server writes when it has answered a request, some hundred bytes long......\n"
	rootfs := shimtest.Rootfs(b)
	text := bytes.Repeat([]byte(line), size/len(line))
	if err := os.WriteFile(filepath.Join(rootfs, "output"), text, 0o644); err != nil {
		b.Fatal(err)
	}
	pod := shimtest.Launch(b, shim.PodConfig{})
	var ours, theirs, spent []time.Duration
	for b.Loop() {
		c := shimtest.ContainerIn(b, rootfs, "exec cat /output")
		if err := pod.Create(b.Context(), c); err != nil {
			b.Fatal(err)
		}
		used := cpuTime(b, pod.PID())
		begin := time.Now()
		if _, err := pod.Start(b.Context(), c.ID); err != nil {
			b.Fatal(err)
		}
		shimtest.AwaitExit(b, pod, c.ID)
		ours = append(ours, time.Since(begin))
		spent = append(spent, cpuTime(b, pod.PID())-used)
		if err := pod.Delete(b.Context(), c.ID); err != nil {
			b.Fatal(err)
		}
		begin = time.Now()
		copied := filepath.Join(b.TempDir(), "copy")
		if out, err := exec.Command("busybox", "sh", "-c", "cat "+rootfs+"/output | cat > "+copied).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		theirs = append(theirs, time.Since(begin))
		if err := errors.Join(os.Remove(c.LogPath), os.Remove(copied)); err != nil {
			b.Fatal(err)
		}
	}
	report(b, "log", ours, theirs)
	b.ReportMetric(size/1e6/median(ours).Seconds(), "MB/s")
	b.ReportMetric(float64(median(spent).Milliseconds())/(size/1e9), "podshim-cpu-ms/GB")
}

// cpuTime is what a process has used (proc_pid_stat(5), fields 14 and 15, in hundredths of a second).
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	var ticks int
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
	"bareboat.dev/integration/host"
)

const (
	// singles is how many pods are started one by one, burst how many at once, and many how many there are in the end.
	singles, burst, many = 20, 100, 500
	node                 = "bench"
)

// cluster is a running cluster on a host of its own.
type cluster struct {
	*host.Host
	c *client.Client
	// up is how long kctl up took.
	up time.Duration
}

func startCluster(e *Env) *cluster {
	h := host.New(e, node)
	start := time.Now()
	h.Must("kctl", "up")
	up := time.Since(start)
	e.Cleanup(func() { _, _ = h.Run("kctl", "down") })
	h.Must("kctl", "image", "load", filepath.Join(host.Root(), "build/images/redis.tar"))
	return &cluster{Host: h, c: dialHost(e, h), up: up}
}

// dialHost connects to a host's API server from this process, through a socket that is opened in the host's network namespace.
func dialHost(e *Env, h *host.Host) *client.Client {
	text, err := h.ReadFile("/etc/bareboat/admin.conf")
	if err != nil {
		e.Fatal(err)
	}
	file := filepath.Join(os.TempDir(), fmt.Sprintf("bench-%d.conf", os.Getpid()))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { os.Remove(file) })
	cfg, err := client.LoadConfig(file, "")
	if err != nil {
		e.Fatal(err)
	}
	cfg.Dialer = h.Dial
	c, err := client.Dial(cfg)
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { c.Close() })
	return c
}

// podStart measures pods against what the same machine needs for a network namespace and `runc run`.
func podStart(e *Env) ([]Row, error) {
	cl := startCluster(e)
	waiter := newPodWaiter(cl.c)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = waiter.mirror.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	if err := waiter.mirror.WaitSynced(ctx); err != nil {
		return nil, err
	}
	bundle := runcBundle(e)
	var ours, theirs []time.Duration
	for i := range singles {
		d, err := waiter.start(cl.c, fmt.Sprintf("single-%d", i))
		if err != nil {
			return nil, err
		}
		ours = append(ours, d)
		theirs = append(theirs, runcOnce(e, bundle, i))
	}
	last, err := waiter.burst(cl.c)
	if err != nil {
		return nil, err
	}
	exit, err := waiter.exits(cl.c)
	if err != nil {
		return nil, err
	}
	shims := shimMemory(cl.Host)
	crowd, err := waiter.crowd(cl)
	if err != nil {
		return nil, err
	}
	p50, floor := percentile(ours, 0.5), percentile(theirs, 0.5)
	return []Row{
		{"pod start, image present, bound in the API to Running in the API, p50", ms(p50), "ip netns add + runc run " + ms(floor), fmt.Sprintf("%.2f", float64(p50)/float64(floor)), "≤ 1.5 ×, ≤ 120 ms"},
		{"100 pods created at once, the last Running", fmt.Sprintf("%.2f s", last.Seconds()), "", "", "≤ 4 s"},
		{"container killed to its exit in the API, p99", ms(percentile(exit, 0.99)), "", "", "≤ 50 ms"},
		{"memory per pod beyond its containers, 100 pods (shim, PSS)", fmt.Sprintf("%.2f MiB", shims), "", "", "≤ 2 MiB"},
		crowd,
	}, nil
}

// podWaiter tells when pods get into a state, by watching.
type podWaiter struct {
	mirror *client.Mirror[*corev1.Pod]
	mu     sync.Mutex
	wanted map[string]chan time.Time
	test   func(*corev1.Pod) bool
}

func newPodWaiter(c *client.Client) *podWaiter {
	w := &podWaiter{mirror: client.NewMirror(c, client.Pods(), client.MirrorOptions[*corev1.Pod]{Namespace: "default"}), wanted: map[string]chan time.Time{}}
	w.mirror.OnChange(func(ch client.Change[*corev1.Pod]) {
		now := time.Now()
		w.mu.Lock()
		defer w.mu.Unlock()
		if ch.New != nil && w.wanted[ch.New.Name] != nil && w.test(ch.New) {
			w.wanted[ch.New.Name] <- now
			delete(w.wanted, ch.New.Name)
		}
	})
	return w
}

func (w *podWaiter) expect(test func(*corev1.Pod) bool, names ...string) map[string]chan time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.test = test
	out := map[string]chan time.Time{}
	for _, n := range names {
		out[n] = make(chan time.Time, 1)
		w.wanted[n] = out[n]
	}
	return out
}

func running(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning }

func receive(ch chan time.Time) (time.Time, error) {
	select {
	case at := <-ch:
		return at, nil
	case <-time.After(startTimeout):
		return time.Time{}, fmt.Errorf("a pod did not get there within %s", startTimeout)
	}
}

// start creates a pod that is bound already and returns how long after the acknowledgement it was Running.
func (w *podWaiter) start(c *client.Client, name string) (time.Duration, error) {
	ch := w.expect(running, name)[name]
	if _, err := client.Of(c, client.Pods()).Create(context.Background(), benchPod(name, node)); err != nil {
		return 0, err
	}
	acknowledged := time.Now()
	at, err := receive(ch)
	if err != nil {
		return 0, err
	}
	zero := int64(0)
	return at.Sub(acknowledged), client.Of(c, client.Pods()).Delete(context.Background(), "default", name, client.DeleteOptions{GracePeriodSeconds: &zero})
}

// burst creates many pods at once and returns how long after that the last was Running.
func (w *podWaiter) burst(c *client.Client) (time.Duration, error) {
	var pods []*corev1.Pod
	for i := range burst {
		pods = append(pods, benchPod(fmt.Sprintf("burst-%d", i), ""))
	}
	return w.together(c, pods)
}

// crowd adds pods up to many, and measures what they cost the kubelet when nothing happens. A node's range of addresses has 254: those that
// are added are on its own network.
func (w *podWaiter) crowd(cl *cluster) (Row, error) {
	config, err := cl.ReadFile("/etc/bareboat/kubelet.yaml")
	if err != nil {
		return Row{}, err
	}
	cl.WriteFile("/etc/bareboat/kubelet.yaml", fmt.Sprintf("%s\nmaxPods: %d\n", config, many))
	for _, pid := range cl.Processes("kubelet") {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	cl.Eventually("a kubelet for more pods", func() error {
		got, err := cl.Run("kctl", "get", "node", node, "-o", "jsonpath={.status.capacity.pods}")
		if err == nil && strings.TrimSpace(got) != strconv.Itoa(many) {
			err = fmt.Errorf("it takes %s", got)
		}
		return err
	})
	var pods []*corev1.Pod
	for i := range many - burst {
		p := benchPod(fmt.Sprintf("crowd-%d", i), node)
		p.Spec.HostNetwork = true
		pods = append(pods, p)
	}
	for batch := range slices.Chunk(pods, burst/2) {
		if _, err := w.together(cl.c, batch); err != nil {
			return Row{}, err
		}
	}
	time.Sleep(startTime)
	pids := cl.Processes("kubelet")
	before := cpuTime(pids)
	time.Sleep(idleTime)
	used, memory := cpuTime(pids)-before, int64(0)
	for _, pid := range pids {
		memory += pss(pid)
	}
	measured := fmt.Sprintf("%.2f %% of one core, %.1f MiB", 100*used.Seconds()/idleTime.Seconds(), float64(memory)/(1<<20))
	return Row{"kubelet with 500 idle pods, CPU and PSS", measured, "", "", "≤ 3 %"}, nil
}

// together creates pods in one batch and returns how long after that the last was Running.
func (w *podWaiter) together(c *client.Client, pods []*corev1.Pod) (time.Duration, error) {
	var names []string
	var ops []client.Op
	for _, p := range pods {
		names = append(names, p.Name)
		ops = append(ops, client.CreateOp(client.Pods(), p))
	}
	chans := w.expect(running, names...)
	start := time.Now()
	if _, err := c.BatchOmit(context.Background(), ops...); err != nil {
		return 0, err
	}
	var last time.Time
	for _, ch := range chans {
		at, err := receive(ch)
		if err != nil {
			return 0, err
		}
		if at.After(last) {
			last = at
		}
	}
	return last.Sub(start), nil
}

// exits kills containers of the burst and returns how long after each kill the API said so.
func (w *podWaiter) exits(c *client.Client) ([]time.Duration, error) {
	var out []time.Duration
	for i := range singles {
		name := fmt.Sprintf("burst-%d", i)
		ch := w.expect(func(p *corev1.Pod) bool {
			for _, st := range p.Status.ContainerStatuses {
				if st.RestartCount > 0 || st.State.Terminated != nil || st.LastTerminationState.Terminated != nil {
					return true
				}
			}
			return false
		}, name)[name]
		pod, ok := w.mirror.Get("default", name)
		if !ok || len(pod.Status.ContainerStatuses) == 0 {
			return nil, fmt.Errorf("pod %s has no container", name)
		}
		pid, err := containerPID(string(pod.UID))
		if err != nil {
			return nil, err
		}
		if err := exec.Command("kill", "-9", strconv.Itoa(pid)).Run(); err != nil {
			return nil, err
		}
		killed := time.Now()
		at, err := receive(ch)
		if err != nil {
			return nil, err
		}
		out = append(out, at.Sub(killed))
	}
	return out, nil
}

// containerPID finds the process that runs in a pod's cgroup.
func containerPID(uid string) (int, error) {
	procs, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return 0, err
	}
	for _, p := range procs {
		data, err := os.ReadFile(p)
		comm, _ := os.ReadFile(filepath.Join(filepath.Dir(p), "comm"))
		if err == nil && strings.Contains(string(data), uid) && strings.TrimSpace(string(comm)) == "busybox" {
			return strconv.Atoi(filepath.Base(filepath.Dir(p)))
		}
	}
	return 0, fmt.Errorf("no process in the cgroup of pod %s", uid)
}

// shimMemory is the mean PSS of a host's shims in MiB.
func shimMemory(h *host.Host) float64 {
	var sum int64
	pids := h.Processes("podshim")
	for _, pid := range pids {
		sum += pss(pid)
	}
	return float64(sum) / float64(max(1, len(pids))) / (1 << 20)
}

// pss is a process's proportional set size in bytes (proc(5), smaps_rollup).
func pss(pid int) int64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

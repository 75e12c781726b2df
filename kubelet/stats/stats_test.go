package stats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"bareboat.dev/kubelet/agent"
	"bareboat.dev/kubelet/cgroup"
	"bareboat.dev/kubelet/image"
	"bareboat.dev/kubelet/shim"
	"bareboat.dev/kubelet/volume"
)

// sandbox is a pod whose containers have used what it says.
type sandbox struct {
	agent.Sandbox // what is not asked for
	group         string
	host          bool
	used          map[string]cgroup.Stats
}

func (s sandbox) Config() shim.PodConfig {
	return shim.PodConfig{CgroupParent: s.group, HostNetwork: s.host}
}
func (s sandbox) PID() int { return os.Getpid() }
func (s sandbox) Stats(_ context.Context, id string) (cgroup.Stats, error) {
	if u, ok := s.used[id]; ok {
		return u, nil
	}
	return cgroup.Stats{}, errors.New("gone")
}

// node is a source of two pods, one of which has a container that ends while it is measured.
type node []agent.Running

func (n node) RunningContainers(string, string) []agent.Running { return n }

// VolumeUses: the pod u1 has a disk, which is mounted in its folder.
func (n node) VolumeUses(_ context.Context, uid string) []agent.VolumeUse {
	if uid != "u1" {
		return nil
	}
	return []agent.VolumeUse{{Name: "data", Claim: "web-data", Dir: filepath.Join(n[0].PodDir, "volumes/kubernetes.io~csi/pv1"),
		Figures: volume.Figures{Capacity: 100, Used: 30, Available: 70, Inodes: 10, InodesUsed: 1, InodesFree: 9}}}
}

type groups map[string]cgroup.Stats

func (g groups) Stats(path string) (cgroup.Stats, error) {
	if s, ok := g[path]; ok {
		return s, nil
	}
	return cgroup.Stats{}, cgroup.ErrNotFound
}

type images struct {
	dir   string
	asked *int
}

func (i images) Usage() (image.FSUsage, error) {
	return image.FSUsage{Path: i.dir, ImagesBytes: 12345}, nil
}
func (i images) WritableUsage(id string) (bytes, inodes int64, err error) {
	*i.asked++
	return 4096, 2, nil
}

func at(second int) time.Time { return time.Unix(1700000000+int64(second), 0) }

func measuredNode(t *testing.T) (*Collector, *int) {
	t.Helper()
	dir := t.TempDir()
	podDir, logDir := filepath.Join(dir, "pod"), filepath.Join(dir, "log")
	for path, size := range map[string]int{"pod/volumes/kubernetes.io~empty-dir/cache/file": 10000, "pod/volumes/kubernetes.io~csi/pv1/mount/file": 10, "log/0.log": 5000} {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	web := sandbox{group: "kubepods/burstable/podu1", used: map[string]cgroup.Stats{
		"c1": {Time: at(100), CPUUsage: 3 * time.Second, CPUUser: 2 * time.Second, CPUSystem: time.Second, CPUPeriods: 10, CPUThrottled: 4,
			CPUThrottledTime: 500 * time.Millisecond, MemoryUsage: 3 << 20, MemoryWorkingSet: 2 << 20, MemoryRSS: 1 << 20, MemoryLimit: 8 << 20, Pids: 3,
			OOMKills: 1, ReadBytes: 11, WriteBytes: 22},
		"c2": {Time: at(100), CPUUsage: time.Second, MemoryWorkingSet: 1 << 20},
	}}
	other := sandbox{group: "kubepods/podu2", host: true, used: map[string]cgroup.Stats{"c3": {Time: at(100)}}}
	common := agent.Running{Namespace: "default", Pod: "web", UID: "u1", PodStarted: at(1), PodDir: podDir, Sandbox: web, Claims: map[string]string{"cache": "web-cache"}}
	ctr := func(r agent.Running, name, id string) agent.Running {
		r.Container, r.ID, r.Image, r.Started = name, id, "busybox:1", at(2)
		if id == "c1" {
			r.LogDir = logDir
		}
		return r
	}
	asked := 0
	source := node{ctr(common, "b", "c2"), ctr(common, "a", "c1"), ctr(common, "gone", "c9"),
		ctr(agent.Running{Namespace: "a", Pod: "host", UID: "u2", Sandbox: other}, "x", "c3")}
	of := groups{"kubepods/burstable/podu1": {Time: at(100), CPUUsage: 5 * time.Second, MemoryWorkingSet: 4 << 20, Pids: 7}}
	return New("node1", source, of, images{dir, &asked}), &asked
}

// TestSummary shows the summary's shape and figures: the pod's own from its group, the containers' from theirs, files walked once a minute.
func TestSummary(t *testing.T) {
	c, asked := measuredNode(t)
	s := c.Summary(t.Context())
	if len(s.Pods) != 2 || s.Pods[0].PodRef.Name != "host" || len(s.Pods[1].Containers) != 2 {
		t.Fatalf("pods %+v", s.Pods)
	}
	web := s.Pods[1]
	if web.CPU.UsageCoreNanoSeconds != 5e9 || web.Memory.WorkingSetBytes != 4<<20 || web.Processes.Count != 7 || !web.StartTime.Equal(at(1)) {
		t.Errorf("pod %+v", web)
	}
	a := web.Containers[0]
	if a.Name != "a" || a.CPU.UsageCoreNanoSeconds != 3e9 || *a.Memory.AvailableBytes != 6<<20 || a.RootFS.UsedBytes != 4096 || a.Logs.UsedBytes < 5000 {
		t.Errorf("container %+v", a)
	}
	if len(web.Volumes) != 2 || web.Volumes[1].Name != "cache" || web.Volumes[1].UsedBytes < 10000 || web.Volumes[1].PVCRef.Name != "web-cache" {
		t.Fatalf("volumes %+v", web.Volumes)
	}
	if v := web.Volumes[0]; v.Name != "data" || v.PVCRef.Name != "web-data" || v.CapacityBytes != 100 || v.UsedBytes != 30 || v.AvailableBytes != 70 || v.InodesFree != 9 {
		t.Errorf("the claimed volume is %+v", v)
	}
	if want := web.Volumes[1].UsedBytes + a.Logs.UsedBytes + 2*4096; web.EphemeralStorage.UsedBytes != want {
		t.Errorf("ephemeral storage %d, want %d", web.EphemeralStorage.UsedBytes, want)
	}
	if s.Pods[0].Network != nil {
		t.Error("a pod in the host's network has a network of its own")
	}
	if s.Node.Runtime.ImageFS.UsedBytes != 12345 || s.Node.Rlimit.MaxPID == nil || s.Node.Rlimit.Current == nil || s.Node.Memory.WorkingSetBytes == 0 {
		t.Errorf("node %+v", s.Node)
	}
	before := *asked
	c.Summary(t.Context())
	if *asked != before {
		t.Error("the files were walked again within a minute")
	}
	data, err := json.Marshal(web)
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(data, &keys); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"podRef", "startTime", "containers", "cpu", "memory", "volume", "ephemeral-storage", "process_stats", "swap"} {
		if _, ok := keys[key]; !ok {
			t.Errorf("no %q in %s", key, data)
		}
	}
}

// TestVolumes shows the metrics of a claim's volume, once however many pods have it, and that those of pods that are gone are forgotten.
func TestVolumes(t *testing.T) {
	c, _ := measuredNode(t)
	c.claim["gone"] = claimUse{at: time.Now()}
	got := scrape(t, c.Volumes())
	for _, want := range []string{
		`kubelet_volume_stats_capacity_bytes{namespace="default",persistentvolumeclaim="web-data"} 100`,
		`kubelet_volume_stats_available_bytes{namespace="default",persistentvolumeclaim="web-data"} 70`,
		`kubelet_volume_stats_used_bytes{namespace="default",persistentvolumeclaim="web-data"} 30`,
		`kubelet_volume_stats_inodes{namespace="default",persistentvolumeclaim="web-data"} 10`,
		`kubelet_volume_stats_inodes_free{namespace="default",persistentvolumeclaim="web-data"} 9`,
		`kubelet_volume_stats_inodes_used{namespace="default",persistentvolumeclaim="web-data"} 1`,
	} {
		mustHave(t, got, want)
	}
	if len(c.claim) != 1 {
		t.Errorf("%d pods are remembered", len(c.claim))
	}
}

// TestRate shows that a rate needs two samples a second apart, and that what is gone is forgotten.
func TestRate(t *testing.T) {
	c := New("n", node{}, groups{}, nil)
	if r := c.rate("x", at(0), time.Second); r != nil {
		t.Errorf("first rate %d", *r)
	}
	if r := c.rate("x", at(2), 2*time.Second); r == nil || *r != 5e8 {
		t.Errorf("rate %v", r)
	}
	if r := c.rate("x", at(2).Add(time.Millisecond), 9*time.Second); r == nil || *r != 5e8 {
		t.Errorf("rate of a short time %v", r)
	}
	c.forget(map[string]bool{})
	if r := c.rate("x", at(9), 10*time.Second); r != nil {
		t.Errorf("rate after a gap %d", *r)
	}
}

// scrape renders a collector's metrics as a scraper gets them.
func scrape(t *testing.T, m prometheus.Collector) []string {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if _, ok := m.(*cadvisorMetrics); ok {
		r = prometheus.NewRegistry() // describes itself by what it collects
	}
	r.MustRegister(m)
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return strings.Split(w.Body.String(), "\n")
}

func mustHave(t *testing.T, have []string, want string) {
	t.Helper()
	for line := range strings.Lines(strings.TrimSpace(want)) {
		if line = strings.TrimSpace(line); !slices.Contains(have, line) {
			t.Errorf("no %s", line)
		}
	}
}

// TestResource shows the metrics that metrics-server reads, with their times.
func TestResource(t *testing.T) {
	c, _ := measuredNode(t)
	have := scrape(t, c.Resource(t.Context()))
	mustHave(t, have, `
		container_cpu_usage_seconds_total{container="a",namespace="default",pod="web"} 3 1700000100000
		container_memory_working_set_bytes{container="b",namespace="default",pod="web"} 1.048576e+06 1700000100000
		container_start_time_seconds{container="a",namespace="default",pod="web"} 1.700000002e+09 1700000100000
		container_swap_usage_bytes{container="a",namespace="default",pod="web"} 0 1700000100000
		pod_cpu_usage_seconds_total{namespace="default",pod="web"} 5 1700000100000
		pod_memory_working_set_bytes{namespace="default",pod="web"} 4.194304e+06 1700000100000
		resource_scrape_error 0`)
	for _, name := range []string{"node_cpu_usage_seconds_total ", "node_memory_working_set_bytes "} {
		if !slices.ContainsFunc(have, func(line string) bool { return strings.HasPrefix(line, name) }) {
			t.Errorf("no %s", name)
		}
	}
}

// TestCAdvisor shows the series of containers, pods and the node under the names and labels that dashboards select.
func TestCAdvisor(t *testing.T) {
	c, _ := measuredNode(t)
	have := scrape(t, c.CAdvisor(t.Context()))
	a := `container="a",%sid="/kubepods/burstable/podu1/c1",image="busybox:1",%sname="c1",namespace="default",pod="web"`
	plain := fmt.Sprintf(a, "", "")
	mustHave(t, have, `
		container_cpu_usage_seconds_total{`+fmt.Sprintf(a, `cpu="total",`, "")+`} 3 1700000100000
		container_cpu_cfs_throttled_periods_total{`+plain+`} 4 1700000100000
		container_cpu_cfs_throttled_seconds_total{`+plain+`} 0.5 1700000100000
		container_memory_working_set_bytes{`+plain+`} 2.097152e+06 1700000100000
		container_memory_rss{`+plain+`} 1.048576e+06 1700000100000
		container_spec_memory_limit_bytes{`+plain+`} 8.388608e+06 1700000100000
		container_oom_events_total{`+plain+`} 1 1700000100000
		container_fs_writes_bytes_total{`+fmt.Sprintf(a, `device="",`, "")+`} 22 1700000100000
		container_fs_usage_bytes{`+fmt.Sprintf(a, `device="",`, "")+`} 4096 1700000100000
		container_start_time_seconds{`+plain+`} 1.700000002e+09 1700000100000
		container_cpu_usage_seconds_total{container="",cpu="total",id="/kubepods/burstable/podu1",image="",name="",namespace="default",pod="web"} 5 1700000100000
		container_scrape_error 0`)
	if !slices.ContainsFunc(have, func(line string) bool {
		return strings.HasPrefix(line, `container_cpu_usage_seconds_total{container="",cpu="total",id="/",`)
	}) {
		t.Error("no series of the node")
	}
}

// TestParseLinks shows how the kernel's table of interfaces is read.
func TestParseLinks(t *testing.T) {
	const table = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0
`
	want := []link{{"eth0", 1000, 10, 1, 2, 2000, 20, 3, 4}}
	if got := parseLinks(strings.NewReader(table)); !slices.Equal(got, want) {
		t.Errorf("links %+v", got)
	}
}

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// newTree makes a QoS tree that is gone after the test.
func newTree(t *testing.T) *Tree {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes cgroups: it needs root")
	}
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	tree := h.Tree(fmt.Sprintf("bareboat-test-%d-%s", os.Getpid(), strings.ToLower(t.Name())))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := tree.Remove(ctx); err != nil {
			t.Error(err)
		}
		if h.Exists(tree.root) {
			t.Error("the tree is still there")
		}
	})
	if err := tree.Ensure(Resources{CPUShares: 2048, MemoryLimit: 1 << 30, PidsLimit: 1000}); err != nil {
		t.Fatal(err)
	}
	return tree
}

// sleeper starts a process in a group.
func sleeper(t *testing.T, h *Hierarchy, path string, command string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "read x; "+command)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if err := h.Join(path, cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	_, _ = in.Write([]byte("go\n"))
	return cmd
}

// Shows that pods are made where their class says, with their limits, can be changed, listed, and are removed with all that runs in them.
func TestPodGroups(t *testing.T) {
	tree := newTree(t)
	h := tree.Hierarchy()
	for qos, uid := range map[QoS]string{Guaranteed: "a-1", Burstable: "b-2", BestEffort: "c-3"} {
		path, err := tree.CreatePod(qos, uid, Resources{CPUShares: 512, CPUQuota: 50_000, MemoryLimit: 64 << 20, PidsLimit: 100})
		if err != nil {
			t.Fatal(err)
		}
		stats, err := h.Stats(path)
		if err != nil || stats.MemoryLimit != 64<<20 || stats.PidsLimit != 100 {
			t.Errorf("%s: %+v, %v", path, stats, err)
		}
	}
	if err := tree.UpdatePod("b-2", Resources{MemoryLimit: 128 << 20, PidsLimit: -1}); err != nil {
		t.Fatal(err)
	}
	if stats, err := h.Stats(tree.PodPath(Burstable, "b-2")); err != nil || stats.MemoryLimit != 128<<20 || stats.PidsLimit != 0 {
		t.Errorf("after the update: %+v, %v", stats, err)
	}
	if err := tree.UpdatePod("none", Resources{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("update of no pod: %v", err)
	}
	pods, err := tree.Pods()
	if err != nil || len(pods) != 3 || pods["a-1"] != Guaranteed || pods["b-2"] != Burstable || pods["c-3"] != BestEffort {
		t.Errorf("pods %v, %v", pods, err)
	}
	container := filepath.Join(tree.PodPath(Burstable, "b-2"), "container")
	sleeper(t, h, container, "sleep 1000 & sleep 1000")
	for range 2 {
		if err := tree.RemovePod(t.Context(), "b-2"); err != nil {
			t.Fatal(err)
		}
	}
	if pods, _ := tree.Pods(); len(pods) != 2 {
		t.Errorf("pods %v", pods)
	}
}

// Shows that a group of processes that fork as fast as they can is killed to the last.
func TestKillForkBomb(t *testing.T) {
	tree := newTree(t)
	path, err := tree.CreatePod(Burstable, "bomb", Resources{PidsLimit: 60})
	if err != nil {
		t.Fatal(err)
	}
	sleeper(t, tree.Hierarchy(), path, "bomb() { while :; do (bomb) & done; }; bomb 2>/dev/null")
	if err := tree.Hierarchy().Kill(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if pids, err := tree.Hierarchy().Procs(path); err != nil || len(pids) != 0 {
		t.Errorf("left: %v, %v", pids, err)
	}
}

// Shows that usage is counted, and is not found for a group that is not there.
func TestStats(t *testing.T) {
	tree := newTree(t)
	path, err := tree.CreatePod(Burstable, "busy", Resources{})
	if err != nil {
		t.Fatal(err)
	}
	cmd := sleeper(t, tree.Hierarchy(), path, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	stats, err := tree.Hierarchy().Stats(path)
	if err != nil || stats.CPUUsage == 0 || stats.Time.IsZero() {
		t.Errorf("%+v, %v", stats, err)
	}
	if _, err := tree.Hierarchy().Stats(path + "-none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no group: %v", err)
	}
}

// Shows that paths that would reach other groups are refused, whatever is asked of them.
func TestPathsStayInside(t *testing.T) {
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", "/", ".", "..", "a/../..", "../../etc"} {
		for name, err := range map[string]error{
			"create": h.Create(path), "join": h.Join(path, os.Getpid()), "kill": h.Kill(t.Context(), path), "remove": h.Remove(path),
			"children": h.RemoveChildren(path), "set": h.Set(path, Resources{PidsLimit: 1}),
		} {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%s %q: %v", name, path, err)
			}
		}
	}
	for _, uid := range []string{"", "a/b", "..", "."} {
		if _, err := h.Tree("x").CreatePod(Burstable, uid, Resources{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("pod %q: %v", uid, err)
		}
	}
}

// Shows what limits become in the files of either version.
func TestSettings(t *testing.T) {
	r := Resources{CPUShares: 1024, CPUQuota: 50_000, MemoryLimit: 1 << 20, MemoryMin: 4096, MemoryHigh: -1, PidsLimit: -1, CPUSet: "0-1",
		HugepageLimits: map[string]uint64{"2MB": 0}, OOMGroup: true}
	print := func(list []setting) []string {
		var lines []string
		for _, s := range list {
			lines = append(lines, s.file+"="+s.value)
		}
		return lines
	}
	v1 := []string{"cpu.shares=1024", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000", "memory.limit_in_bytes=1048576", "pids.max=max",
		"hugetlb.2MB.limit_in_bytes=0", "cpuset.cpus=0-1"}
	v2 := []string{"cpu.weight=100", "cpu.max=50000 100000", "memory.min=4096", "memory.high=max", "memory.max=1048576", "memory.oom.group=1",
		"pids.max=max", "hugetlb.2MB.max=0", "cpuset.cpus=0-1"}
	if got := print(settingsV1(r)); !slices.Equal(got, v1) {
		t.Errorf("v1: %q", got)
	}
	if got := print(settingsV2(r)); !slices.Equal(got, v2) {
		t.Errorf("v2: %q", got)
	}
	for shares, weight := range map[uint64]uint64{0: 1, 2: 1, 1024: 100, 512: 59, 102: 17, 262144: 10000, 1 << 40: 10000} {
		if got := Weight(shares); got != weight {
			t.Errorf("weight of %d shares: %d, want %d", shares, got, weight)
		}
	}
}

// Shows that the files of the unified hierarchy are read as the kernel documents them.
func TestStatsV2(t *testing.T) {
	root := t.TempDir()
	group := filepath.Join(root, "pod")
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"cpu.stat":       "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nnr_periods 4\nnr_throttled 3\nthrottled_usec 7\n",
		"memory.current": "1000\n", "memory.max": "max\n", "memory.peak": "2000\n",
		"memory.stat":   "anon 10\nfile 20\nfile_mapped 30\ninactive_file 400\npgfault 5\npgmajfault 6\n",
		"memory.events": "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\n",
		"pids.current":  "8\n", "pids.max": "max\n",
		"io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n8:16 rbytes=10 wbytes=20 rios=30 wios=40 dbytes=0 dios=0\n",
	} {
		if err := os.WriteFile(filepath.Join(group, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h := &Hierarchy{version: V2, roots: map[string]string{"": root}, distinct: []string{root}}
	got, err := h.Stats("pod")
	if err != nil {
		t.Fatal(err)
	}
	got.Time = time.Time{}
	want := Stats{
		CPUUsage: 3 * time.Millisecond, CPUUser: 2 * time.Millisecond, CPUSystem: time.Millisecond, CPUPeriods: 4, CPUThrottled: 3,
		CPUThrottledTime: 7 * time.Microsecond, MemoryUsage: 1000, MemoryWorkingSet: 600, MemoryRSS: 10, MemoryCache: 20, MemoryMappedFile: 30,
		MemoryMaxUsage: 2000, PageFaults: 5, MajorPageFaults: 6, OOMKills: 1, Pids: 8, ReadBytes: 11, WriteBytes: 22, ReadOps: 33, WriteOps: 44,
	}
	if got != want {
		t.Errorf("have %+v\nwant %+v", got, want)
	}
}

// Shows how the kernel's names of huge pages become those of control files.
func TestHugepageSize(t *testing.T) {
	for name, want := range map[string]string{"hugepages-2048kB": "2MB", "hugepages-1048576kB": "1GB", "hugepages-64kB": "64KB", "other": "", "hugepages-kB": ""} {
		if got, _ := hugepageSize(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

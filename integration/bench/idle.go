package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// idleTime is how long an idle cluster's CPU time is counted.
const idleTime = 20 * time.Second

// startTime is how long what a start needs may last: snapshots, first writes, and the release of what only they used.
const startTime = 10 * time.Second

func daemons() []string {
	return []string{"apiserver", "scheduler", "controllermanager", "kubelet", "proxy", "dns"}
}

// idle measures what a cluster without pods costs: memory, CPU, and how fast it comes up.
func idle(e *Env) ([]Row, error) {
	if err := coldCache(); err != nil {
		return nil, err
	}
	cl := startCluster(e)
	var pids []int
	for _, d := range daemons() {
		pids = append(pids, cl.Processes(d)...)
	}
	time.Sleep(startTime)
	before := cpuTime(pids)
	time.Sleep(idleTime)
	used := cpuTime(pids) - before
	var memory int64
	var parts []string
	for _, d := range daemons() {
		for _, pid := range cl.Processes(d) {
			m := pss(pid)
			memory += m
			parts = append(parts, fmt.Sprintf("%s %.1f", d, float64(m)/(1<<20)))
		}
	}
	return []Row{
		{"kctl up to node Ready, binaries not in the page cache", fmt.Sprintf("%.2f s", cl.up.Seconds()), "", "", "≤ 3 s"},
		{"all daemons, idle, PSS", fmt.Sprintf("%.0f MiB (%s)", float64(memory)/(1<<20), strings.Join(parts, ", ")), "", "", "≤ 150 MiB"},
		{"all daemons, idle, CPU", fmt.Sprintf("%.2f %% of one core", 100*used.Seconds()/idleTime.Seconds()), "", "", "≤ 2 %"},
	}, nil
}

// coldCache makes the daemons' binaries be read from the disk, as after a boot. What the linker has just written lies in the page cache in
// large folios, which are mapped whole: twice the pages that a daemon touches would count as its memory.
func coldCache() error {
	syscall.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0)
}

// clockTick is the unit of the times in /proc/<pid>/stat: USER_HZ, which is 100 on Linux (proc(5)).
const clockTick = 10 * time.Millisecond

// cpuTime is what the processes have used so far, in user and kernel mode.
func cpuTime(pids []int) time.Duration {
	var ticks int64
	for _, pid := range pids {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		// The second field is the name in parentheses, which may hold spaces.
		_, rest, _ := strings.Cut(string(data), ") ")
		f := strings.Fields(rest)
		if len(f) > 12 {
			user, _ := strconv.ParseInt(f[11], 10, 64)
			system, _ := strconv.ParseInt(f[12], 10, 64)
			ticks += user + system
		}
	}
	return time.Duration(ticks) * clockTick
}

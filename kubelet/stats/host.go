package stats

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"time"
)

// host is what the whole node uses.
type host struct {
	at                                time.Time
	cpu                               time.Duration
	memoryTotal, memoryAvailable, rss uint64
	swapTotal, swapFree               uint64
}

// clockTick is the unit of /proc/stat on Linux, whatever the kernel's own (proc_stat(5): USER_HZ).
const clockTick = 10 * time.Millisecond

// readHost reads /proc/stat and /proc/meminfo.
func readHost() host {
	h := host{at: time.Now()}
	each("/proc/stat", func(f []string) {
		if f[0] != "cpu" || len(f) < 9 {
			return
		}
		for i, v := range f[1:9] {
			const idle, iowait = 3, 4
			if n, err := strconv.ParseInt(v, 10, 64); err == nil && i != idle && i != iowait {
				h.cpu += time.Duration(n) * clockTick
			}
		}
	})
	each("/proc/meminfo", func(f []string) {
		n, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			return
		}
		switch f[0] {
		case "MemTotal:":
			h.memoryTotal = n << 10
		case "MemAvailable:":
			h.memoryAvailable = n << 10
		case "AnonPages:":
			h.rss = n << 10
		case "SwapTotal:":
			h.swapTotal = n << 10
		case "SwapFree:":
			h.swapFree = n << 10
		}
	})
	return h
}

// workingSet is what cannot be given back.
func (h host) workingSet() uint64 {
	if h.memoryAvailable > h.memoryTotal {
		return 0
	}
	return h.memoryTotal - h.memoryAvailable
}

// each calls f with the fields of every line that has at least two.
func each(path string, f func([]string)) {
	file, err := os.Open(path)
	if err != nil {
		return
	}
	defer file.Close()
	for s := bufio.NewScanner(file); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) >= 2 {
			f(fields)
		}
	}
}

// bootTime is when the host was started.
func bootTime() (t time.Time) {
	each("/proc/stat", func(f []string) {
		if n, err := strconv.ParseInt(f[1], 10, 64); err == nil && f[0] == "btime" {
			t = time.Unix(n, 0)
		}
	})
	return t
}

// rlimit reads how many processes and threads the kernel allows and has; the second stands in /proc/loadavg as "running/all".
func rlimit(at time.Time) *Rlimit {
	r := &Rlimit{Time: at}
	for _, file := range []string{"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"} {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && (r.MaxPID == nil || n < *r.MaxPID) {
			r.MaxPID = &n
		}
	}
	each("/proc/loadavg", func(f []string) {
		const counts = 3
		if len(f) <= counts {
			return
		}
		_, all, _ := strings.Cut(f[counts], "/")
		if n, err := strconv.ParseInt(all, 10, 64); err == nil {
			r.Current = &n
		}
	})
	return r
}

package cgroup

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// noLimit is what v1 shows for an unlimited group, rounded down to pages (2^63 - 4096).
const noLimit = 1 << 62

// Stats reads what the group has used. [ErrNotFound] if there is none.
func (h *Hierarchy) Stats(path string) (Stats, error) {
	rel, err := clean(path)
	if err != nil {
		return Stats{}, err
	}
	if !h.Exists(rel) {
		return Stats{}, fmt.Errorf("%s: %w", rel, ErrNotFound)
	}
	s := Stats{Time: time.Now()}
	if h.version == V2 {
		h.statsV2(rel, &s)
	} else {
		h.statsV1(rel, &s)
	}
	if s.MemoryLimit >= noLimit {
		s.MemoryLimit = 0
	}
	return s, nil
}

// OOMKills reads how many processes of the group the kernel has killed for lack of memory.
func (h *Hierarchy) OOMKills(path string) (uint64, error) {
	rel, err := clean(path)
	if err != nil {
		return 0, err
	}
	file := h.file("memory", rel, "memory.oom_control")
	if h.version == V2 {
		file = h.file("memory", rel, "memory.events")
	}
	if file == "" {
		return 0, nil
	}
	return readKeys(file)["oom_kill"], nil
}

func (h *Hierarchy) statsV1(rel string, s *Stats) {
	s.CPUUsage = time.Duration(readNumber(h.file("cpuacct", rel, "cpuacct.usage")))
	s.CPUUser = time.Duration(readNumber(h.file("cpuacct", rel, "cpuacct.usage_user")))
	s.CPUSystem = time.Duration(readNumber(h.file("cpuacct", rel, "cpuacct.usage_sys")))
	cpu := readKeys(h.file("cpu", rel, "cpu.stat"))
	s.CPUPeriods, s.CPUThrottled, s.CPUThrottledTime = cpu["nr_periods"], cpu["nr_throttled"], time.Duration(cpu["throttled_time"])

	s.MemoryUsage = readNumber(h.file("memory", rel, "memory.usage_in_bytes"))
	s.MemoryMaxUsage = readNumber(h.file("memory", rel, "memory.max_usage_in_bytes"))
	s.MemoryLimit = readNumber(h.file("memory", rel, "memory.limit_in_bytes"))
	m := readKeys(h.file("memory", rel, "memory.stat"))
	s.MemoryWorkingSet = sub(s.MemoryUsage, m["total_inactive_file"])
	s.MemoryRSS, s.MemoryCache, s.MemorySwap = m["total_rss"], m["total_cache"], m["total_swap"]
	s.MemoryMappedFile, s.PageFaults, s.MajorPageFaults = m["total_mapped_file"], m["total_pgfault"], m["total_pgmajfault"]
	s.OOMKills = readKeys(h.file("memory", rel, "memory.oom_control"))["oom_kill"]

	s.Pids = readNumber(h.file("pids", rel, "pids.current"))
	s.PidsLimit = readNumber(h.file("pids", rel, "pids.max"))
	s.ReadBytes, s.WriteBytes = readBlkio(h.file("blkio", rel, "blkio.throttle.io_service_bytes_recursive"))
	s.ReadOps, s.WriteOps = readBlkio(h.file("blkio", rel, "blkio.throttle.io_serviced_recursive"))
}

func (h *Hierarchy) statsV2(rel string, s *Stats) {
	cpu := readKeys(h.file("", rel, "cpu.stat"))
	micro := func(key string) time.Duration { return time.Duration(cpu[key]) * time.Microsecond }
	s.CPUUsage, s.CPUUser, s.CPUSystem = micro("usage_usec"), micro("user_usec"), micro("system_usec")
	s.CPUPeriods, s.CPUThrottled, s.CPUThrottledTime = cpu["nr_periods"], cpu["nr_throttled"], micro("throttled_usec")

	s.MemoryUsage = readNumber(h.file("", rel, "memory.current"))
	s.MemoryMaxUsage = readNumber(h.file("", rel, "memory.peak"))
	s.MemoryLimit = readNumber(h.file("", rel, "memory.max"))
	s.MemorySwap = readNumber(h.file("", rel, "memory.swap.current"))
	m := readKeys(h.file("", rel, "memory.stat"))
	s.MemoryWorkingSet = sub(s.MemoryUsage, m["inactive_file"])
	s.MemoryRSS, s.MemoryCache, s.MemoryMappedFile = m["anon"], m["file"], m["file_mapped"]
	s.PageFaults, s.MajorPageFaults = m["pgfault"], m["pgmajfault"]
	s.OOMKills = readKeys(h.file("", rel, "memory.events"))["oom_kill"]

	s.Pids = readNumber(h.file("", rel, "pids.current"))
	s.PidsLimit = readNumber(h.file("", rel, "pids.max"))
	h.ioV2(rel, s)
}

// ioV2 adds up io.stat: "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0" per device.
func (h *Hierarchy) ioV2(rel string, s *Stats) {
	data, err := os.ReadFile(h.file("", rel, "io.stat"))
	if err != nil {
		return
	}
	sums := map[string]*uint64{"rbytes": &s.ReadBytes, "wbytes": &s.WriteBytes, "rios": &s.ReadOps, "wios": &s.WriteOps}
	for _, field := range strings.Fields(string(data)) {
		if key, value, ok := strings.Cut(field, "="); ok && sums[key] != nil {
			n, _ := strconv.ParseUint(value, 10, 64)
			*sums[key] += n
		}
	}
}

// readBlkio adds up a v1 file of lines "8:0 Read 4096".
func readBlkio(file string) (read, written uint64) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		n, _ := strconv.ParseUint(f[2], 10, 64)
		switch f[1] {
		case "Read":
			read += n
		case "Write":
			written += n
		}
	}
	return read, written
}

// readNumber reads a file of one number; "max" and whatever cannot be read are 0.
func readNumber(file string) uint64 {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	return n
}

// readKeys reads a file of lines "key number".
func readKeys(file string) map[string]uint64 {
	keys := map[string]uint64{}
	data, err := os.ReadFile(file)
	if err != nil {
		return keys
	}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			keys[key] = n
		}
	}
	return keys
}

func sub(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
)

// defaultPeriod is the kernel's and Kubernetes' CPU enforcement period, in microseconds.
const defaultPeriod = 100_000

// setting is one value for one control file.
type setting struct{ controller, file, value string }

// Set applies limits to an existing group. See [Resources] for what zero and -1 mean.
func (h *Hierarchy) Set(path string, r Resources) error {
	rel, err := clean(path)
	if err != nil {
		return err
	}
	settings := settingsV1(r)
	if h.version == V2 {
		settings = settingsV2(r)
	}
	for _, s := range settings {
		dir := h.dir(s.controller, rel)
		if dir == "" {
			continue
		}
		err := write(dir, s.file, s.value)
		if errors.Is(err, fs.ErrNotExist) {
			if _, statErr := os.Stat(dir); statErr != nil {
				return fmt.Errorf("%s: %w", rel, ErrNotFound)
			}
			if s.optional() {
				continue
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// optional settings are those that some kernels are built without.
func (s setting) optional() bool {
	return s.controller == "hugetlb" || s.controller == "cpuset" || s.controller == "cpu"
}

// settingsV1 is pure: limits in the files of cgroup v1.
func settingsV1(r Resources) []setting {
	var s []setting
	if r.CPUShares > 0 {
		s = append(s, setting{"cpu", "cpu.shares", utoa(r.CPUShares)})
	}
	if r.CPUQuota != 0 {
		s = append(s, setting{"cpu", "cpu.cfs_period_us", utoa(period(r))}, setting{"cpu", "cpu.cfs_quota_us", itoa(r.CPUQuota)})
	}
	if r.MemoryLimit != 0 {
		s = append(s, setting{"memory", "memory.limit_in_bytes", itoa(r.MemoryLimit)})
	}
	if r.PidsLimit != 0 {
		s = append(s, setting{"pids", "pids.max", orMax(r.PidsLimit)})
	}
	for size, limit := range r.HugepageLimits {
		s = append(s, setting{"hugetlb", "hugetlb." + size + ".limit_in_bytes", utoa(limit)})
	}
	if r.CPUSet != "" {
		s = append(s, setting{"cpuset", "cpuset.cpus", r.CPUSet})
	}
	if r.MemSet != "" {
		s = append(s, setting{"cpuset", "cpuset.mems", r.MemSet})
	}
	return s
}

// settingsV2 is pure: limits in the files of cgroup v2.
func settingsV2(r Resources) []setting {
	var s []setting
	if r.CPUShares > 0 {
		s = append(s, setting{"cpu", "cpu.weight", utoa(Weight(r.CPUShares))})
	}
	if r.CPUQuota != 0 {
		s = append(s, setting{"cpu", "cpu.max", orMax(r.CPUQuota) + " " + utoa(period(r))})
	}
	for _, m := range []struct {
		file  string
		bytes int64
	}{{"memory.min", r.MemoryMin}, {"memory.high", r.MemoryHigh}, {"memory.max", r.MemoryLimit}} {
		if m.bytes != 0 {
			s = append(s, setting{"memory", m.file, orMax(m.bytes)})
		}
	}
	if r.OOMGroup {
		s = append(s, setting{"memory", "memory.oom.group", "1"})
	}
	if r.PidsLimit != 0 {
		s = append(s, setting{"pids", "pids.max", orMax(r.PidsLimit)})
	}
	for size, limit := range r.HugepageLimits {
		s = append(s, setting{"hugetlb", "hugetlb." + size + ".max", utoa(limit)})
	}
	if r.CPUSet != "" {
		s = append(s, setting{"cpuset", "cpuset.cpus", r.CPUSet})
	}
	if r.MemSet != "" {
		s = append(s, setting{"cpuset", "cpuset.mems", r.MemSet})
	}
	return s
}

// Weight converts v1 shares to a v2 weight as OCI runtimes do since runc 1.3.2, so that pods' groups, which we limit, and containers', which
// libcontainer limits, are weighed by one measure: 2 → 1, 1024 → 100 and 262144 → 10000, the ends and the defaults of both scales, and a
// curve through these three points between.
func Weight(shares uint64) uint64 {
	const minShares, maxShares, maxWeight = 2, 262144, 10000
	if shares <= minShares {
		return 1
	}
	if shares >= maxShares {
		return maxWeight
	}
	l := math.Log2(float64(shares))
	exponent := (l*l+125*l)/612.0 - 7.0/34.0
	return uint64(math.Ceil(math.Pow(10, exponent)))
}

func period(r Resources) uint64 {
	if r.CPUPeriod == 0 {
		return defaultPeriod
	}
	return r.CPUPeriod
}

// orMax writes -1 as what the newer files call it.
func orMax(n int64) string {
	if n < 0 {
		return "max"
	}
	return itoa(n)
}

func itoa(n int64) string  { return strconv.FormatInt(n, 10) }
func utoa(n uint64) string { return strconv.FormatUint(n, 10) }

// file is the path of a control file, for readers.
func (h *Hierarchy) file(controller, rel, name string) string {
	dir := h.dir(controller, rel)
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, name)
}

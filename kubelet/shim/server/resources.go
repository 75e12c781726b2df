package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"bareboat.dev/kubelet/cgroup"
)

// mergeResources overwrites in dst what src sets.
func mergeResources(dst *cgroups.Resources, src *specs.LinuxResources) {
	if c := src.CPU; c != nil {
		if c.Shares != nil {
			dst.CpuShares = *c.Shares
			dst.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(*c.Shares)
		}
		if c.Quota != nil {
			dst.CpuQuota = *c.Quota
		}
		if c.Period != nil {
			dst.CpuPeriod = *c.Period
		}
		if c.Cpus != "" {
			dst.CpusetCpus = c.Cpus
		}
		if c.Mems != "" {
			dst.CpusetMems = c.Mems
		}
	}
	if m := src.Memory; m != nil {
		if m.Limit != nil {
			dst.Memory = *m.Limit
		}
		if m.Swap != nil {
			dst.MemorySwap = *m.Swap
		}
		if m.Reservation != nil {
			dst.MemoryReservation = *m.Reservation
		}
	}
	if p := src.Pids; p != nil && p.Limit != nil {
		dst.PidsLimit = p.Limit
	}
	for _, h := range src.HugepageLimits {
		dst.HugetlbLimit = append(dst.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: h.Pagesize, Limit: h.Limit})
	}
	if len(src.Unified) > 0 {
		unified := map[string]string{}
		for _, m := range []map[string]string{dst.Unified, src.Unified} {
			for k, v := range m {
				unified[k] = v
			}
		}
		dst.Unified = unified
	}
}

// oomGroup is the control file with which a container that is out of memory ends as a whole rather than one process at a time, as
// Kubernetes has it on cgroup v2; v1 knows no such thing.
const oomGroup = "memory.oom.group"

// limitAsPod sets the limits that every container has, whatever its specification says.
func (s *Server) limitAsPod(l *specs.Linux) {
	if l.Resources == nil {
		l.Resources = &specs.LinuxResources{}
	}
	r := l.Resources
	if s.cgroups.Version() == cgroup.V2 && slices.Contains(s.cgroups.Controllers(), "memory") {
		if r.Unified == nil {
			r.Unified = map[string]string{}
		}
		if _, set := r.Unified[oomGroup]; !set {
			r.Unified[oomGroup] = "1"
		}
	}
	for _, size := range s.cgroups.HugepageSizes() {
		named := func(h specs.LinuxHugepageLimit) bool { return h.Pagesize == size }
		if !slices.ContainsFunc(r.HugepageLimits, named) {
			r.HugepageLimits = append(r.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: size})
		}
	}
}

// cgroupPath is the container's group, as the pod's configuration places it.
func (s *Server) cgroupPath(id string) string { return filepath.Join("/", s.config.CgroupParent, id) }

// oomKilled says whether the kernel killed a process of the container for lack of memory.
func (s *Server) oomKilled(ctr *container) bool {
	n, err := s.cgroups.OOMKills(s.cgroupPath(ctr.config.ID))
	if err != nil {
		s.log.Warn("cannot read the out-of-memory count", "container", ctr.config.ID, "error", err)
	}
	return n > 0
}

// killPatience is how long killed processes may take to die. Longer takes only what waits in the kernel for a device or a file server:
// then the caller is told, and may try again.
const killPatience = 30 * time.Second

// killAll ends every process in the container's group, and waits for that.
func (s *Server) killAll(ctr *container) error { return s.killGroup(s.cgroupPath(ctr.config.ID)) }

func (s *Server) killGroup(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), killPatience)
	defer cancel()
	if err := s.cgroups.Kill(ctx, path); err != nil {
		return fmt.Errorf("kill all in %s: %w", path, err)
	}
	return nil
}

// lowestOOMScore limits how far an oom_score_adj may be lowered: without CAP_SYS_RESOURCE the kernel refuses less than the
// process's own, and a container that is killed a little too early is better than one that does not start.
func lowestOOMScore(wanted int) int {
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return wanted
	}
	current, err := strconv.Atoi(strings.TrimSpace(string(own)))
	if err != nil || wanted >= current || hasSysResource() {
		return wanted
	}
	return current
}

func hasSysResource() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

package main

import (
	"bufio"
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"bareboat.dev/kubelet/eviction"
	"bareboat.dev/kubelet/image"
)

// watchEvery is how often the node's resources are looked at (upstream's housekeeping interval is the same).
const watchEvery = 10 * time.Second

// pressure is the node's last finding about its resources.
type pressure struct {
	mu   sync.Mutex
	last eviction.Decision
}

func (p *pressure) get() eviction.Decision {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// set notes a finding and says whether a condition has changed.
func (p *pressure) set(d eviction.Decision) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := d.MemoryPressure != p.last.MemoryPressure || d.DiskPressure != p.last.DiskPressure || d.PIDPressure != p.last.PIDPressure
	p.last = d
	return changed
}

// watchResources ends pods when the node runs short, until ctx ends.
func (k *kubelet) watchResources(ctx context.Context) error {
	c, err := k.c.Eviction()
	if err != nil {
		return err
	}
	var memory eviction.Memory
	timer := time.NewTimer(watchEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-timer.C:
			memory = k.relieve(ctx, eviction.Input{Config: c, Levels: k.levels(), Memory: memory, Now: now})
		}
		timer.Reset(watchEvery)
	}
}

// relieve looks at the node once and does what is to be done: what nobody uses goes first, then a pod.
func (k *kubelet) relieve(ctx context.Context, in eviction.Input) eviction.Memory {
	d := eviction.Decide(in)
	if d.Reclaim && k.reclaim(ctx, in.Now) {
		in.Levels = k.levels()
		d = eviction.Decide(in)
	}
	if in.Pods = k.agent.Usage(ctx, d.Acting); len(in.Pods) > 0 {
		d = eviction.Decide(in)
	}
	if k.pressure.set(d) {
		k.node.Nudge()
	}
	for _, v := range d.Victims {
		k.agent.Evict(v.UID, v.Message, v.Grace)
	}
	return d.Memory
}

// reclaim removes dead containers and every image that no pod uses, and says whether that may have freed anything.
func (k *kubelet) reclaim(ctx context.Context, now time.Time) bool {
	dead := k.agent.CollectContainers()
	result, err := k.images.GC(ctx, now, image.GCPolicy{HighPercent: 0, LowPercent: 0, InUse: k.agent.UsesImage})
	if err != nil && ctx.Err() == nil {
		k.env.Log.Warn("images were not reclaimed", "error", err)
	}
	return dead > 0 || result.FreedBytes > 0
}

// levels are what is left on the node. What cannot be read is left out.
func (k *kubelet) levels() map[eviction.Signal]eviction.Level {
	levels := map[eviction.Signal]eviction.Level{}
	if total, available, ok := memoryLevels(); ok {
		levels[eviction.MemoryAvailable] = eviction.Level{Capacity: total, Available: available}
	}
	if used, err := k.groups.Stats(k.c.CgroupRoot); err == nil {
		most := k.podMemory
		levels[eviction.AllocatableMemory] = eviction.Level{Capacity: most, Available: most - int64(used.MemoryWorkingSet)}
	}
	if fs, ok := statfs(k.c.RootDir); ok {
		note(levels, fs, eviction.NodeFSAvailable, eviction.NodeFSInodesFree)
	}
	if fs, ok := statfs(k.c.ImageStore); ok {
		note(levels, fs, eviction.ImageFSAvailable, eviction.ImageFSInodesFree)
	}
	if max, used, ok := pidLevels(); ok {
		levels[eviction.PIDAvailable] = eviction.Level{Capacity: max, Available: max - used}
	}
	return levels
}

// note notes a file system's levels. One without a fixed number of inodes, as btrfs, cannot run short of them.
func note(levels map[eviction.Signal]eviction.Level, fs [2]eviction.Level, space, inodes eviction.Signal) {
	levels[space] = fs[0]
	if fs[1].Capacity > 0 {
		levels[inodes] = fs[1]
	}
}

// statfs is a file system's space in bytes and its inodes.
func statfs(path string) (levels [2]eviction.Level, ok bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return levels, false
	}
	levels[0] = eviction.Level{Capacity: int64(st.Blocks) * st.Bsize, Available: int64(st.Bavail) * st.Bsize}
	levels[1] = eviction.Level{Capacity: int64(st.Files), Available: int64(st.Ffree)}
	return levels, true
}

func memoryLevels() (total, available int64, ok bool) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, 0, false
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 2 {
			continue
		}
		n, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "MemTotal:":
			total = n << 10
		case "MemAvailable:":
			available = n << 10
		}
	}
	return total, available, total > 0
}

// pidLevels are the most processes and threads that the kernel allows, by number and in all, and how many there are (proc_loadavg(5), field 4).
func pidLevels() (most, used int64, ok bool) {
	for _, file := range []string{"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"} {
		data, err := os.ReadFile(file)
		if err != nil {
			return 0, 0, false
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && (most == 0 || n < most) {
			most = n
		}
	}
	load, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(load))
	if err != nil || len(fields) < 4 {
		return 0, 0, false
	}
	_, count, _ := strings.Cut(fields[3], "/")
	used, _ = strconv.ParseInt(count, 10, 64)
	return most, used, most > 0
}

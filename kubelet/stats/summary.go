package stats

import (
	"context"
	"path/filepath"
	"time"

	"bareboat.dev/kubelet/cgroup"
)

// Summary measures everything.
func (c *Collector) Summary(ctx context.Context) Summary {
	s := Summary{Node: c.nodePart(), Pods: []Pod{}}
	live := map[string]bool{"node": true}
	pods := c.pods(ctx)
	ctx, cancel := context.WithTimeout(ctx, claimLimit)
	defer cancel()
	for _, p := range pods {
		s.Pods = append(s.Pods, c.podPart(ctx, p, live))
	}
	c.forget(live)
	return s
}

// podPart is a pod's part of the summary; what it samples under a name is noted in live.
func (c *Collector) podPart(ctx context.Context, p podSample, live map[string]bool) Pod {
	uid := p.first.UID
	live[uid] = true
	part := Pod{
		PodRef: PodRef{Name: p.first.Pod, Namespace: p.first.Namespace, UID: uid}, StartTime: p.first.PodStarted,
		CPU: c.cpu(uid, p.used), Memory: memory(p.used), Swap: swap(p.used), Network: network(p.used.Time, p.net),
		Processes: &Processes{Count: p.used.Pids},
	}
	ephemeral := diskUse{at: p.used.Time}
	for _, m := range p.containers {
		live[m.ID], live[m.ID+"/log"] = true, true
		ctr := Container{Name: m.Container, StartTime: m.Started, CPU: c.cpu(m.ID, m.used), Memory: memory(m.used), Swap: swap(m.used)}
		if u, ok := c.rootfs(m.ID); ok {
			ctr.RootFS = c.imageFS(u)
			ephemeral.bytes, ephemeral.inodes = ephemeral.bytes+u.bytes, ephemeral.inodes+u.inodes
		}
		if u, ok := c.measured(m.ID+"/log", func() (uint64, uint64, bool) { return tree(m.LogDir) }); ok {
			ctr.Logs = ofTree(m.LogDir, u)
			ephemeral.bytes, ephemeral.inodes = ephemeral.bytes+u.bytes, ephemeral.inodes+u.inodes
		}
		part.Containers = append(part.Containers, ctr)
	}
	c.volumes(ctx, p, &part, &ephemeral, live)
	part.EphemeralStorage = ofTree(p.first.PodDir, ephemeral)
	return part
}

// volumes adds what the pod's volumes use: those with a claim as their drivers say, those on the node's disk by their files, other
// mounted ones by their file systems.
func (c *Collector) volumes(ctx context.Context, p podSample, part *Pod, ephemeral *diskUse, live map[string]bool) {
	measured := map[string]bool{}
	if len(p.first.Claims) > 0 {
		claimed := c.claimed(ctx, p.first.UID)
		for _, u := range claimed.uses {
			measured[u.Dir] = true
			part.Volumes = append(part.Volumes, Volume{
				FS: ofFigures(claimed.at, u.Figures), Name: u.Name, PVCRef: &PVCRef{Name: u.Claim, Namespace: p.first.Namespace},
			})
		}
	}
	base := filepath.Join(p.first.PodDir, "volumes")
	for _, plugin := range names(base) {
		for _, name := range names(filepath.Join(base, plugin)) {
			dir := filepath.Join(base, plugin, name)
			if measured[dir] {
				continue
			}
			if plugin == "kubernetes.io~csi" {
				dir = filepath.Join(dir, "mount")
			}
			v := Volume{Name: name}
			if claim, ok := p.first.Claims[name]; ok {
				v.PVCRef = &PVCRef{Name: claim, Namespace: p.first.Namespace}
			}
			key := p.first.UID + "/" + plugin + "/" + name
			live[key] = true
			if isMount(dir) {
				if f := fileSystem(dir); f != nil {
					v.FS = *f
					part.Volumes = append(part.Volumes, v)
				}
				continue
			}
			u, ok := c.measured(key, func() (uint64, uint64, bool) { return tree(dir) })
			f := ofTree(dir, u)
			if !ok || f == nil {
				continue
			}
			v.FS = *f
			part.Volumes = append(part.Volumes, v)
			ephemeral.bytes, ephemeral.inodes = ephemeral.bytes+u.bytes, ephemeral.inodes+u.inodes
		}
	}
}

// rootfs is what a container has written to its root file system.
func (c *Collector) rootfs(id string) (diskUse, bool) {
	if c.images == nil {
		return diskUse{}, false
	}
	return c.measured(id, func() (uint64, uint64, bool) {
		bytes, inodes, err := c.images.WritableUsage(id)
		return uint64(bytes), uint64(inodes), err == nil || inodes > 0
	})
}

// imageFS is the image store's file system, with what u says is used of it.
func (c *Collector) imageFS(u diskUse) *FS {
	if c.images == nil {
		return nil
	}
	all, err := c.images.Usage()
	if err != nil {
		return nil
	}
	return ofTree(all.Path, u)
}

func (c *Collector) cpu(name string, s cgroup.Stats) *CPU {
	return &CPU{Time: s.Time, UsageNanoCores: c.rate(name, s.Time, s.CPUUsage), UsageCoreNanoSeconds: uint64(s.CPUUsage.Nanoseconds())}
}

func memory(s cgroup.Stats) *Memory {
	m := &Memory{Time: s.Time, UsageBytes: s.MemoryUsage, WorkingSetBytes: s.MemoryWorkingSet, RSSBytes: s.MemoryRSS,
		PageFaults: s.PageFaults, MajorPageFaults: s.MajorPageFaults}
	if limit := s.MemoryLimit; limit > 0 {
		left := limit - min(limit, s.MemoryWorkingSet)
		m.AvailableBytes = &left
	}
	return m
}

func swap(s cgroup.Stats) *Swap { return &Swap{Time: s.Time, UsageBytes: s.MemorySwap} }

// defaultLink is the interface whose figures stand for the pod.
const defaultLink = "eth0"

func network(at time.Time, links []link) *Network {
	if len(links) == 0 {
		return nil
	}
	n := &Network{Time: at}
	for _, l := range links {
		i := Interface{Name: l.name, RxBytes: l.rxBytes, RxErrors: l.rxErrors, TxBytes: l.txBytes, TxErrors: l.txErrors}
		n.Interfaces = append(n.Interfaces, i)
		if l.name == defaultLink || n.Interface.Name == "" {
			n.Interface = i
		}
	}
	return n
}

func (c *Collector) nodePart() Node {
	h := readHost()
	available := h.memoryAvailable
	n := Node{
		NodeName: c.node, StartTime: c.booted,
		CPU:    &CPU{Time: h.at, UsageNanoCores: c.rate("node", h.at, h.cpu), UsageCoreNanoSeconds: uint64(h.cpu.Nanoseconds())},
		Memory: &Memory{Time: h.at, AvailableBytes: &available, UsageBytes: h.workingSet(), WorkingSetBytes: h.workingSet(), RSSBytes: h.rss},
		Swap:   &Swap{Time: h.at, UsageBytes: h.swapTotal - min(h.swapFree, h.swapTotal)},
		FS:     fileSystem("/"), Network: network(h.at, readLinks(1)), Rlimit: rlimit(h.at),
	}
	if h.swapTotal > 0 {
		n.Swap.AvailableBytes = &h.swapFree
	}
	if c.images == nil {
		return n
	}
	if u, err := c.images.Usage(); err == nil {
		n.Runtime = &Runtime{ImageFS: fileSystem(u.Path), ContainerFS: fileSystem(u.Path)}
		if n.Runtime.ImageFS != nil {
			n.Runtime.ImageFS.UsedBytes = u.ImagesBytes
		}
	}
	return n
}

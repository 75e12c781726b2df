package stats

import (
	"context"
	"sort"
	"sync"
	"time"

	"bareboat.dev/kubelet/agent"
	"bareboat.dev/kubelet/cgroup"
	"bareboat.dev/kubelet/image"
)

// Source is where containers are found; [agent.Agent] is one.
type Source interface {
	RunningContainers(namespace, pod string) []agent.Running
	// VolumeUses measures those volumes of a pod that claims stand behind.
	VolumeUses(ctx context.Context, uid string) []agent.VolumeUse
}

// Images is what is asked of the image store; [image.Store] is one.
type Images interface {
	Usage() (image.FSUsage, error)
	WritableUsage(containerID string) (bytes, inodes int64, err error)
}

// Groups measures control groups; [cgroup.Hierarchy] does.
type Groups interface {
	Stats(path string) (cgroup.Stats, error)
}

// Collector measures. Its methods may be called from any number of goroutines.
type Collector struct {
	node   string
	source Source
	groups Groups
	images Images
	booted time.Time

	mu    sync.Mutex
	last  map[string]sample
	disk  map[string]diskUse
	claim map[string]claimUse
}

// sample is a CPU counter at a time, and the rate that it gave against the sample before it.
type sample struct {
	at    time.Time
	usage time.Duration
	rate  *uint64
}

// New makes a collector for the node of that name. images may be nil.
func New(node string, source Source, groups Groups, images Images) *Collector {
	return &Collector{node: node, source: source, groups: groups, images: images, booted: bootTime(), last: map[string]sample{}, disk: map[string]diskUse{}, claim: map[string]claimUse{}}
}

// container is one container's measurement.
type container struct {
	agent.Running
	used cgroup.Stats
}

// podSample is one pod's measurement: of its own group, which has what none of its containers' groups has, and of its containers.
type podSample struct {
	first agent.Running // what all its containers have in common
	group string
	used  cgroup.Stats
	net   []link
	// containers are sorted by name.
	containers []container
}

// pods measures all pods that have a running container, sorted by namespace and name.
func (c *Collector) pods(ctx context.Context) []podSample {
	var list []podSample
	at := map[string]int{}
	for _, r := range c.source.RunningContainers("", "") {
		used, err := r.Sandbox.Stats(ctx, r.ID)
		if err != nil {
			continue // it has ended since
		}
		i, ok := at[r.UID]
		if !ok {
			i = len(list)
			at[r.UID] = i
			list = append(list, c.podSample(r))
		}
		list[i].containers = append(list[i].containers, container{r, used})
	}
	sort.Slice(list, func(i, j int) bool {
		a, b := list[i].first, list[j].first
		if a.Namespace != b.Namespace {
			return a.Namespace < b.Namespace
		}
		return a.Pod < b.Pod
	})
	for i := range list {
		own := list[i].containers
		sort.Slice(own, func(i, j int) bool { return own[i].Container < own[j].Container })
	}
	return list
}

func (c *Collector) podSample(r agent.Running) podSample {
	config := r.Sandbox.Config()
	p := podSample{first: r, group: config.CgroupParent}
	p.used, _ = c.groups.Stats(config.CgroupParent) // without it the pod has no figures of its own
	if p.used.Time.IsZero() {
		p.used.Time = time.Now()
	}
	if !config.HostNetwork {
		p.net = readLinks(r.Sandbox.PID())
	}
	return p
}

// rate is the CPU use since the last sample of the same name, in thousand-millionths of a CPU; nil if there is none yet.
func (c *Collector) rate(name string, at time.Time, usage time.Duration) *uint64 {
	const least = time.Second
	c.mu.Lock()
	defer c.mu.Unlock()
	old, ok := c.last[name]
	if ok && at.Sub(old.at) < least {
		return old.rate
	}
	s := sample{at: at, usage: usage}
	if ok && usage >= old.usage {
		n := uint64(float64(usage-old.usage) / float64(at.Sub(old.at)) * 1e9)
		s.rate = &n
	}
	c.last[name] = s
	return s.rate
}

// forget drops the samples of what is no more.
func (c *Collector) forget(live map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.last {
		if !live[name] {
			delete(c.last, name)
		}
	}
	for name := range c.disk {
		if !live[name] {
			delete(c.disk, name)
		}
	}
	for uid := range c.claim {
		if !live[uid] {
			delete(c.claim, uid)
		}
	}
}

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
}

// Collector measures.
type Collector struct {
	node   string
	source Source
	groups *cgroup.Hierarchy
	images *image.Store
	booted time.Time

	mu   sync.Mutex
	last map[string]sample
}

// sample is a CPU counter at a time, and the rate that it gave against the sample before it.
type sample struct {
	at    time.Time
	usage time.Duration
	rate  *uint64
}

// New makes a collector for the node of that name.
func New(node string, source Source, groups *cgroup.Hierarchy, images *image.Store) *Collector {
	return &Collector{node: node, source: source, groups: groups, images: images, booted: bootTime(), last: map[string]sample{}}
}

// container is one container's measurement.
type container struct {
	agent.Running
	used cgroup.Stats
}

// containers measures all running containers, sorted by pod and name.
func (c *Collector) containers(ctx context.Context) []container {
	var list []container
	for _, r := range c.source.RunningContainers("", "") {
		if used, err := r.Sandbox.Stats(ctx, r.ID); err == nil {
			list = append(list, container{r, used})
		}
	}
	sort.Slice(list, func(i, j int) bool {
		a, b := list[i], list[j]
		if a.Namespace != b.Namespace {
			return a.Namespace < b.Namespace
		}
		if a.Pod != b.Pod {
			return a.Pod < b.Pod
		}
		return a.Container < b.Container
	})
	return list
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
}

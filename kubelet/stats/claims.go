package stats

import (
	"context"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bareboat.dev/kubelet/agent"
	"bareboat.dev/kubelet/volume"
)

// claimLimit bounds the wait for all drivers together that are to say how full volumes are. What has not been said by then is left out,
// for a minute.
const claimLimit = 5 * time.Second

// claimUse is how full a pod's volumes were that claims stand behind.
type claimUse struct {
	at   time.Time
	uses []agent.VolumeUse
}

// claimed measures a pod's volumes that claims stand behind, at most once a minute.
func (c *Collector) claimed(ctx context.Context, uid string) claimUse {
	now := time.Now()
	c.mu.Lock()
	u, ok := c.claim[uid]
	c.mu.Unlock()
	if ok && now.Sub(u.at) < diskAge {
		return u
	}
	u = claimUse{now, c.source.VolumeUses(ctx, uid)}
	c.mu.Lock()
	c.claim[uid] = u
	c.mu.Unlock()
	return u
}

func ofFigures(at time.Time, f volume.Figures) FS {
	return FS{Time: at, AvailableBytes: f.Available, CapacityBytes: f.Capacity, UsedBytes: f.Used, InodesFree: f.InodesFree, Inodes: f.Inodes, InodesUsed: f.InodesUsed}
}

// Volumes is the metrics of claims' volumes, kubelet_volume_stats_*, under Kubernetes' names.
func (c *Collector) Volumes() prometheus.Collector {
	labels := []string{"namespace", "persistentvolumeclaim"}
	d := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("kubelet_volume_stats_"+name, help, labels, nil)
	}
	return &volumeMetrics{c: c, metrics: []volumeMetric{
		{d("capacity_bytes", "Capacity in bytes of the volume"), func(f volume.Figures) uint64 { return f.Capacity }},
		{d("available_bytes", "Number of available bytes in the volume"), func(f volume.Figures) uint64 { return f.Available }},
		{d("used_bytes", "Number of used bytes in the volume"), func(f volume.Figures) uint64 { return f.Used }},
		{d("inodes", "Maximum number of inodes in the volume"), func(f volume.Figures) uint64 { return f.Inodes }},
		{d("inodes_free", "Number of free inodes in the volume"), func(f volume.Figures) uint64 { return f.InodesFree }},
		{d("inodes_used", "Number of used inodes in the volume"), func(f volume.Figures) uint64 { return f.InodesUsed }},
	}}
}

type volumeMetric struct {
	desc *prometheus.Desc
	of   func(volume.Figures) uint64
}

type volumeMetrics struct {
	c       *Collector
	metrics []volumeMetric
}

// Describe implements prometheus.Collector.
func (m *volumeMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, v := range m.metrics {
		ch <- v.desc
	}
}

// Collect implements prometheus.Collector. A claim that several pods share is told of once.
func (m *volumeMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), claimLimit)
	defer cancel()
	pods, told := map[string]bool{}, map[[2]string]bool{}
	for _, r := range m.c.source.RunningContainers("", "") {
		if len(r.Claims) == 0 || pods[r.UID] {
			continue
		}
		pods[r.UID] = true
		for _, u := range m.c.claimed(ctx, r.UID).uses {
			id := [2]string{r.Namespace, u.Claim}
			if told[id] {
				continue
			}
			told[id] = true
			for _, v := range m.metrics {
				ch <- prometheus.MustNewConstMetric(v.desc, prometheus.GaugeValue, float64(v.of(u.Figures)), r.Namespace, u.Claim)
			}
		}
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	maps.DeleteFunc(m.c.claim, func(uid string, _ claimUse) bool { return !pods[uid] })
}

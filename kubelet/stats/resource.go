package stats

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Resource is the metrics of /metrics/resource, under Kubernetes' names: what metrics-server scrapes, each with the time that it was
// measured. Each scrape measures anew.
func (c *Collector) Resource(ctx context.Context) prometheus.Collector {
	return &resourceMetrics{c, ctx}
}

type resourceMetrics struct {
	c   *Collector
	ctx context.Context
}

// descriptions are the metrics, by short name.
func descriptions() map[string]*prometheus.Desc {
	container, pod := []string{"container", "namespace", "pod"}, []string{"namespace", "pod"}
	d := func(name, help string, labels []string) *prometheus.Desc {
		return prometheus.NewDesc(name, "[STABLE] "+help, labels, nil)
	}
	return map[string]*prometheus.Desc{
		"nodeCPU":         d("node_cpu_usage_seconds_total", "Cumulative cpu time consumed by the node in core-seconds", nil),
		"nodeMemory":      d("node_memory_working_set_bytes", "Current working set of the node in bytes", nil),
		"nodeSwap":        d("node_swap_usage_bytes", "Current swap usage of the node in bytes. Reported only on non-windows systems", nil),
		"containerCPU":    d("container_cpu_usage_seconds_total", "Cumulative cpu time consumed by the container in core-seconds", container),
		"containerMemory": d("container_memory_working_set_bytes", "Current working set of the container in bytes", container),
		"containerSwap":   d("container_swap_usage_bytes", "Current amount of the container swap usage in bytes. Reported only on non-windows systems", container),
		"containerStart":  d("container_start_time_seconds", "Start time of the container since unix epoch in seconds", container),
		"podCPU":          d("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", pod),
		"podMemory":       d("pod_memory_working_set_bytes", "Current working set of the pod in bytes", pod),
		"podSwap":         d("pod_swap_usage_bytes", "Current amount of the pod swap usage in bytes. Reported only on non-windows systems", pod),
		"error":           d("resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", nil),
	}
}

// Describe implements prometheus.Collector.
func (m *resourceMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descriptions() {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *resourceMetrics) Collect(ch chan<- prometheus.Metric) {
	const nano = 1e9
	d := descriptions()
	send := func(name string, kind prometheus.ValueType, at time.Time, v float64, labels ...string) {
		ch <- prometheus.NewMetricWithTimestamp(at, prometheus.MustNewConstMetric(d[name], kind, v, labels...))
	}
	h := readHost()
	send("nodeCPU", prometheus.CounterValue, h.at, h.cpu.Seconds())
	send("nodeMemory", prometheus.GaugeValue, h.at, float64(h.workingSet()))
	send("nodeSwap", prometheus.GaugeValue, h.at, float64(h.swapTotal-min(h.swapFree, h.swapTotal)))
	for _, p := range m.c.pods(m.ctx) {
		namespace, pod := p.first.Namespace, p.first.Pod
		send("podCPU", prometheus.CounterValue, p.used.Time, p.used.CPUUsage.Seconds(), namespace, pod)
		send("podMemory", prometheus.GaugeValue, p.used.Time, float64(p.used.MemoryWorkingSet), namespace, pod)
		send("podSwap", prometheus.GaugeValue, p.used.Time, float64(p.used.MemorySwap), namespace, pod)
		for _, c := range p.containers {
			send("containerCPU", prometheus.CounterValue, c.used.Time, c.used.CPUUsage.Seconds(), c.Container, namespace, pod)
			send("containerMemory", prometheus.GaugeValue, c.used.Time, float64(c.used.MemoryWorkingSet), c.Container, namespace, pod)
			send("containerSwap", prometheus.GaugeValue, c.used.Time, float64(c.used.MemorySwap), c.Container, namespace, pod)
			if !c.Started.IsZero() {
				send("containerStart", prometheus.GaugeValue, c.used.Time, float64(c.Started.UnixNano())/nano, c.Container, namespace, pod)
			}
		}
	}
	ch <- prometheus.MustNewConstMetric(d["error"], prometheus.GaugeValue, 0)
}

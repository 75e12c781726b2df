package stats

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// Resource is the metrics of /metrics/resource, under Kubernetes' names. Each scrape measures anew.
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
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return map[string]*prometheus.Desc{
		"nodeCPU":         d("node_cpu_usage_seconds_total", "Cumulative cpu time consumed by the node in core-seconds", nil),
		"nodeMemory":      d("node_memory_working_set_bytes", "Current working set of the node in bytes", nil),
		"containerCPU":    d("container_cpu_usage_seconds_total", "Cumulative cpu time consumed by the container in core-seconds", container),
		"containerMemory": d("container_memory_working_set_bytes", "Current working set of the container in bytes", container),
		"podCPU":          d("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", pod),
		"podMemory":       d("pod_memory_working_set_bytes", "Current working set of the pod in bytes", pod),
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
	d := descriptions()
	send := func(name string, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d[name], kind, v, labels...)
	}
	const nano = 1e9
	s := m.c.Summary(m.ctx)
	send("nodeCPU", prometheus.CounterValue, float64(s.Node.CPU.UsageCoreNanoSeconds)/nano)
	send("nodeMemory", prometheus.GaugeValue, float64(s.Node.Memory.WorkingSetBytes))
	for _, p := range s.Pods {
		send("podCPU", prometheus.CounterValue, float64(p.CPU.UsageCoreNanoSeconds)/nano, p.PodRef.Namespace, p.PodRef.Name)
		send("podMemory", prometheus.GaugeValue, float64(p.Memory.WorkingSetBytes), p.PodRef.Namespace, p.PodRef.Name)
		for _, c := range p.Containers {
			send("containerCPU", prometheus.CounterValue, float64(c.CPU.UsageCoreNanoSeconds)/nano, c.Name, p.PodRef.Namespace, p.PodRef.Name)
			send("containerMemory", prometheus.GaugeValue, float64(c.Memory.WorkingSetBytes), c.Name, p.PodRef.Namespace, p.PodRef.Name)
		}
	}
	send("error", prometheus.GaugeValue, 0)
}

package stats

import (
	"context"
	"path"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bareboat.dev/kubelet/cgroup"
)

// CAdvisor is the metrics of /metrics/cadvisor, under the names and labels that dashboards and alerts for Kubernetes know: one series for
// each container, one for each pod's own group (with an empty container, image and name), and one for the node (id="/"). Each scrape
// measures anew, but for files, which are walked once a minute at most.
func (c *Collector) CAdvisor(ctx context.Context) prometheus.Collector {
	return &cadvisorMetrics{c, ctx}
}

type cadvisorMetrics struct {
	c   *Collector
	ctx context.Context
}

// Describe implements prometheus.Collector: the metrics describe themselves.
func (m *cadvisorMetrics) Describe(chan<- *prometheus.Desc) {}

// owner is whose a series is: the values of the labels that all have.
type owner struct{ container, id, image, name, namespace, pod string }

func ownerLabels() []string { return []string{"container", "id", "image", "name", "namespace", "pod"} }

func (o owner) values() []string {
	return []string{o.container, o.id, o.image, o.name, o.namespace, o.pod}
}

// family is one metric of control groups.
type family struct {
	name, help string
	kind       prometheus.ValueType
	// label and value are a label beyond the owner's, if any.
	label, value string
	of           func(cgroup.Stats) float64
}

// families are those that come from a group's own files.
func families() []family {
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	number := func(f func(cgroup.Stats) uint64) func(cgroup.Stats) float64 {
		return func(s cgroup.Stats) float64 { return float64(f(s)) }
	}
	seconds := func(f func(cgroup.Stats) time.Duration) func(cgroup.Stats) float64 {
		return func(s cgroup.Stats) float64 { return f(s).Seconds() }
	}
	return []family{
		{"container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", counter, "cpu", "total", seconds(func(s cgroup.Stats) time.Duration { return s.CPUUsage })},
		{"container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", counter, "", "", seconds(func(s cgroup.Stats) time.Duration { return s.CPUUser })},
		{"container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", counter, "", "", seconds(func(s cgroup.Stats) time.Duration { return s.CPUSystem })},
		{"container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", counter, "", "", number(func(s cgroup.Stats) uint64 { return s.CPUPeriods })},
		{"container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", counter, "", "", number(func(s cgroup.Stats) uint64 { return s.CPUThrottled })},
		{"container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.", counter, "", "", seconds(func(s cgroup.Stats) time.Duration { return s.CPUThrottledTime })},
		{"container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed", gauge, "", "", number(func(s cgroup.Stats) uint64 { return s.MemoryUsage })},
		{"container_memory_working_set_bytes", "Current working set in bytes.", gauge, "", "", number(func(s cgroup.Stats) uint64 { return s.MemoryWorkingSet })},
		{"container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes", gauge, "", "", number(func(s cgroup.Stats) uint64 { return s.MemoryMaxUsage })},
		{"container_memory_rss", "Size of RSS in bytes.", gauge, "", "", number(func(s cgroup.Stats) uint64 { return s.MemoryRSS })},
		{"container_memory_cache", "Number of bytes of page cache memory.", gauge, "", "", number(func(s cgroup.Stats) uint64 { return s.MemoryCache })},
		{"container_memory_swap", "Container swap usage in bytes.", gauge, "", "", number(func(s cgroup.Stats) uint64 { return s.MemorySwap })},
		{"container_memory_mapped_file", "Size of memory mapped files in bytes.", gauge, "", "", number(func(s cgroup.Stats) uint64 { return s.MemoryMappedFile })},
		{"container_memory_failures_total", "Cumulative count of memory allocation failures.", counter, "failure_type", "pgfault", number(func(s cgroup.Stats) uint64 { return s.PageFaults })},
		{"container_memory_failures_total", "Cumulative count of memory allocation failures.", counter, "failure_type", "pgmajfault", number(func(s cgroup.Stats) uint64 { return s.MajorPageFaults })},
		{"container_oom_events_total", "Count of out of memory events observed for the container", counter, "", "", number(func(s cgroup.Stats) uint64 { return s.OOMKills })},
		{"container_spec_memory_limit_bytes", "Memory limit for the container.", gauge, "", "", number(func(s cgroup.Stats) uint64 { return s.MemoryLimit })},
		{"container_threads", "Number of threads running inside the container", gauge, "", "", number(func(s cgroup.Stats) uint64 { return s.Pids })},
		{"container_threads_max", "Maximum number of threads allowed inside the container, infinity if value is zero", gauge, "", "", number(func(s cgroup.Stats) uint64 { return s.PidsLimit })},
		{"container_fs_reads_bytes_total", "Cumulative count of bytes read", counter, "device", "", number(func(s cgroup.Stats) uint64 { return s.ReadBytes })},
		{"container_fs_writes_bytes_total", "Cumulative count of bytes written", counter, "device", "", number(func(s cgroup.Stats) uint64 { return s.WriteBytes })},
		{"container_fs_reads_total", "Cumulative count of reads completed", counter, "device", "", number(func(s cgroup.Stats) uint64 { return s.ReadOps })},
		{"container_fs_writes_total", "Cumulative count of writes completed", counter, "device", "", number(func(s cgroup.Stats) uint64 { return s.WriteOps })},
	}
}

// emitter sends metrics of one owner, with the time that they were measured.
type emitter struct {
	ch chan<- prometheus.Metric
	owner
	at time.Time
}

func (e emitter) send(name, help string, kind prometheus.ValueType, v float64, extra ...string) {
	labels, values := ownerLabels(), e.values()
	for i := 0; i+1 < len(extra); i += 2 {
		labels, values = append(labels, extra[i]), append(values, extra[i+1])
	}
	m := prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, labels, nil), kind, v, values...)
	e.ch <- prometheus.NewMetricWithTimestamp(e.at, m)
}

func (e emitter) group(s cgroup.Stats) {
	for _, f := range families() {
		switch {
		case f.label == "failure_type":
			e.send(f.name, f.help, f.kind, f.of(s), f.label, f.value, "scope", "hierarchy")
		case f.label != "":
			e.send(f.name, f.help, f.kind, f.of(s), f.label, f.value)
		default:
			e.send(f.name, f.help, f.kind, f.of(s))
		}
	}
	e.send("container_last_seen", "Last time a container was seen by the exporter", prometheus.GaugeValue, float64(e.at.Unix()))
}

func (e emitter) links(list []link) {
	for _, l := range list {
		for _, m := range []struct {
			name, help string
			v          uint64
		}{
			{"container_network_receive_bytes_total", "Cumulative count of bytes received", l.rxBytes},
			{"container_network_receive_packets_total", "Cumulative count of packets received", l.rxPackets},
			{"container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", l.rxErrors},
			{"container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", l.rxDropped},
			{"container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", l.txBytes},
			{"container_network_transmit_packets_total", "Cumulative count of packets transmitted", l.txPackets},
			{"container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", l.txErrors},
			{"container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting", l.txDropped},
		} {
			e.send(m.name, m.help, prometheus.CounterValue, float64(m.v), "interface", l.name)
		}
	}
}

func (e emitter) disk(f *FS) {
	if f == nil {
		return
	}
	e.send("container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", prometheus.GaugeValue, float64(f.UsedBytes), "device", "")
	e.send("container_fs_limit_bytes", "Number of bytes that can be consumed by the container on this filesystem.", prometheus.GaugeValue, float64(f.CapacityBytes), "device", "")
	e.send("container_fs_inodes_total", "Number of Inodes", prometheus.GaugeValue, float64(f.Inodes), "device", "")
	e.send("container_fs_inodes_free", "Number of available Inodes", prometheus.GaugeValue, float64(f.InodesFree), "device", "")
}

// Collect implements prometheus.Collector.
func (m *cadvisorMetrics) Collect(ch chan<- prometheus.Metric) {
	m.node(ch)
	for _, p := range m.c.pods(m.ctx) {
		whole := emitter{ch, owner{id: path.Join("/", p.group), namespace: p.first.Namespace, pod: p.first.Pod}, p.used.Time}
		whole.group(p.used)
		whole.links(p.net)
		for _, c := range p.containers {
			e := emitter{ch, owner{container: c.Container, id: path.Join("/", p.group, c.ID), image: c.Image, name: c.ID,
				namespace: c.Namespace, pod: c.Pod}, c.used.Time}
			e.group(c.used)
			if u, ok := m.c.rootfs(c.ID); ok {
				e.disk(m.c.imageFS(u))
			}
			if !c.Started.IsZero() {
				e.send("container_start_time_seconds", "Start time of the container since unix epoch in seconds.", prometheus.GaugeValue, float64(c.Started.UnixNano())/1e9)
			}
		}
	}
}

// node sends what the whole machine is and uses.
func (m *cadvisorMetrics) node(ch chan<- prometheus.Metric) {
	h := readHost()
	machine := func(name, help string, v float64) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, nil, nil), prometheus.GaugeValue, v)
	}
	machine("machine_cpu_cores", "Number of logical CPU cores.", float64(runtime.NumCPU()))
	machine("machine_memory_bytes", "Amount of memory installed on the machine.", float64(h.memoryTotal))
	machine("machine_swap_bytes", "Amount of swap memory available on the machine.", float64(h.swapTotal))
	machine("container_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", 0)
	e := emitter{ch, owner{id: "/"}, h.at}
	e.send("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", prometheus.CounterValue, h.cpu.Seconds(), "cpu", "total")
	e.send("container_memory_working_set_bytes", "Current working set in bytes.", prometheus.GaugeValue, float64(h.workingSet()))
	e.send("container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed", prometheus.GaugeValue, float64(h.workingSet()))
	e.send("container_memory_rss", "Size of RSS in bytes.", prometheus.GaugeValue, float64(h.rss))
	e.send("container_start_time_seconds", "Start time of the container since unix epoch in seconds.", prometheus.GaugeValue, float64(m.c.booted.Unix()))
	e.links(readLinks(1))
}

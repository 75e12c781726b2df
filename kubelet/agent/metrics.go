package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/pod"
	"bareboat.dev/kubelet/probe"
)

// metrics are the agent's, under the upstream names where upstream has one.
type metrics struct {
	started  *prometheus.HistogramVec
	restarts prometheus.Counter
	// probes and probed are of /metrics/probes: their series are containers', and go with their probes.
	probes *prometheus.CounterVec
	probed *prometheus.HistogramVec
	begun  *prometheus.CounterVec
	failed *prometheus.CounterVec
}

func newMetrics() *metrics {
	return &metrics{
		started: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "kubelet_pod_start_duration_seconds",
			Help:    "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run.",
			Buckets: []float64{.05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 120, 300},
		}, nil),
		restarts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kubelet_container_restarts_total", Help: "Containers that were started again.",
		}),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "prober_probe_total", Help: "Cumulative number of a liveness, readiness or startup probe for a container by result.",
		}, []string{"probe_type", "result", "container", "pod", "namespace", "pod_uid"}),
		probed: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "prober_probe_duration_seconds", Help: "Duration in seconds for a probe response.",
		}, []string{"probe_type", "container", "pod", "namespace"}),
		begun: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_started_containers_total", Help: "Cumulative number of containers started",
		}, []string{"container_type"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_started_containers_errors_total", Help: "Cumulative number of errors when starting containers",
		}, []string{"container_type", "code"}),
	}
}

// Register gives the agent's metrics to a registry.
func (a *Agent) Register(r prometheus.Registerer) {
	name := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubelet_node_name", Help: "The node's name. The count is always 1."}, []string{"node"})
	name.WithLabelValues(a.NodeName).Set(1)
	r.MustRegister(a.metrics.started, a.metrics.restarts, a.metrics.begun, a.metrics.failed, name,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "kubelet_running_containers", Help: "Number of containers currently running", ConstLabels: prometheus.Labels{"container_state": "running"},
		}, func() float64 { return float64(a.runningContainers()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kubelet_running_pods", Help: "Number of pods that have a running pod sandbox"},
			func() float64 { return float64(a.runningPods()) }))
}

// Probes counts and times probes by container.
func (a *Agent) Probes() prometheus.Gatherer {
	r := prometheus.NewRegistry()
	r.MustRegister(a.metrics.probes, a.metrics.probed)
	return r
}

func (a *Agent) runningContainers() (n int) {
	for _, w := range a.all() {
		w.mu.Lock()
		for _, c := range w.seen.Containers {
			if c.State == pod.Running {
				n++
			}
		}
		w.mu.Unlock()
	}
	return n
}

func (a *Agent) runningPods() (n int) {
	for _, w := range a.all() {
		w.mu.Lock()
		if w.sandbox != nil {
			n++
		}
		w.mu.Unlock()
	}
	return n
}

// transition counts what a step has changed.
func (m *metrics) transition(p *corev1.Pod, before, after *corev1.PodStatus) {
	if before == nil {
		return
	}
	if before.Phase == corev1.PodPending && after.Phase == corev1.PodRunning && after.StartTime != nil {
		for _, c := range after.ContainerStatuses {
			if c.State.Running != nil {
				m.started.WithLabelValues().Observe(c.State.Running.StartedAt.Sub(after.StartTime.Time).Seconds())
				break
			}
		}
	}
	for i := range after.ContainerStatuses {
		if i < len(before.ContainerStatuses) && after.ContainerStatuses[i].RestartCount > before.ContainerStatuses[i].RestartCount {
			m.restarts.Inc()
		}
	}
}

// probe counts one attempt.
func (m *metrics) probe(who probeLabels, o probe.Outcome, took time.Duration) {
	result := map[probe.Outcome]string{probe.Success: "successful", probe.Failure: "failed", probe.Errored: "unknown"}[o]
	m.probes.WithLabelValues(who.kind, result, who.container, who.pod, who.namespace, who.uid).Inc()
	m.probed.WithLabelValues(who.kind, who.container, who.pod, who.namespace).Observe(took.Seconds())
}

// forget drops the series of a probe that has ended.
func (m *metrics) forget(who probeLabels) {
	m.probes.DeletePartialMatch(prometheus.Labels{"probe_type": who.kind, "container": who.container, "pod_uid": who.uid})
	m.probed.DeleteLabelValues(who.kind, who.container, who.pod, who.namespace)
}

// probeLabels say whose a probe is.
type probeLabels struct{ kind, container, pod, namespace, uid string }

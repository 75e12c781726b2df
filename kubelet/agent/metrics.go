package agent

import (
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/probe"
)

// metrics are the agent's, under the upstream names where upstream has one.
type metrics struct {
	started  *prometheus.HistogramVec
	restarts prometheus.Counter
	probes   *prometheus.CounterVec
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
			Name: "kubelet_prober_probe_total", Help: "Attempts of probes by kind and result.",
		}, []string{"probe_type", "result"}),
	}
}

// Register gives the agent's metrics to a registry.
func (a *Agent) Register(r prometheus.Registerer) {
	r.MustRegister(a.metrics.started, a.metrics.restarts, a.metrics.probes,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kubelet_running_pods", Help: "Number of pods that have a running pod sandbox"},
			func() float64 { return float64(a.runningPods()) }))
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

func (m *metrics) probe(kind string, o probe.Outcome) {
	result := map[probe.Outcome]string{probe.Success: "successful", probe.Failure: "failed", probe.Errored: "unknown"}[o]
	m.probes.WithLabelValues(kind, result).Inc()
}

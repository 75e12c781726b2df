package topology

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the manager's, under the upstream names.
type metrics struct {
	requests, errors prometheus.Counter
	duration         prometheus.Histogram
}

func newMetrics() metrics {
	return metrics{
		requests: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kubelet_topology_manager_admission_requests_total", Help: "The number of admission requests where resources have to be aligned.",
		}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kubelet_topology_manager_admission_errors_total", Help: "The number of admission request failures where resources could not be aligned.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubelet_topology_manager_admission_duration_ms", Help: "Duration in milliseconds to serve a pod admission request.",
			Buckets: prometheus.ExponentialBuckets(.05, 2, 15),
		}),
	}
}

// Register gives the manager's metrics to a registry.
func (m *Manager) Register(r prometheus.Registerer) {
	r.MustRegister(m.metrics.requests, m.metrics.errors, m.metrics.duration)
}

func (m metrics) count(begun time.Time, err error) {
	m.requests.Inc()
	if err != nil {
		m.errors.Inc()
	}
	m.duration.Observe(float64(time.Since(begun)) / float64(time.Millisecond))
}

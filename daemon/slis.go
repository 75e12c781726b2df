package daemon

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// slis count what health checks found and tell since when, under Kubernetes' names (KEP-3466), for /metrics/slis.
type slis struct {
	registry *prometheus.Registry
	// last is 1 or 0 by name of the check and by which endpoint ran it, total also by "success" or "error".
	last  *prometheus.GaugeVec
	total *prometheus.CounterVec
}

func newSLIs() *slis {
	s := &slis{
		registry: prometheus.NewRegistry(),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kubernetes_healthcheck", Help: "The result of a single health check: 1 if it passed.",
		}, []string{"name", "type"}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubernetes_healthchecks_total", Help: "The results of all health checks.",
		}, []string{"name", "type", "status"}),
	}
	start := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "process_start_time_seconds", Help: "Start time of the process since unix epoch in seconds.",
	})
	start.SetToCurrentTime()
	s.registry.MustRegister(s.last, s.total, start)
	return s
}

// observe counts one result of a check that the endpoint ran.
func (s *slis) observe(check, endpoint string, passed bool) {
	value, status := 0.0, "error"
	if passed {
		value, status = 1, "success"
	}
	s.last.WithLabelValues(check, endpoint).Set(value)
	s.total.WithLabelValues(check, endpoint, status).Inc()
}

// handler serves them.
func (s *slis) handler() http.Handler { return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}) }

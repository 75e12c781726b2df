package agent

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"bareboat.dev/proxy/plan"
)

// maxTriggers bounds the start times kept for the programming latency between two applies: one for each of the 1,000
// slices that a burst may change, beyond which more samples say nothing new.
const maxTriggers = 1000

// metrics carry kube-proxy's names, so that its dashboards and alerts work.
type metrics struct {
	duration, full, partial *prometheus.HistogramVec
	programming             *prometheus.HistogramVec
	lastSync                *prometheus.GaugeVec
	lastQueued              *prometheus.GaugeVec
	failures                *prometheus.CounterVec
	endpointChanges         prometheus.Counter
	serviceChanges          prometheus.Counter
}

func newMetrics(r prometheus.Registerer, mode string) *metrics {
	const ns, family = "kubeproxy", "ip_family"
	seconds := prometheus.ExponentialBuckets(0.001, 2, 15) // 1 ms … 16 s
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: ns, Name: name, Help: help, Buckets: buckets}, []string{family})
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: ns, Name: name, Help: help}, []string{family})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Name: name, Help: help})
	}
	m := &metrics{
		duration: histogram("sync_proxy_rules_duration_seconds", "Time from taking changes to the kernel having them.", seconds),
		full:     histogram("sync_full_proxy_rules_duration_seconds", "The same, for applies of everything.", seconds),
		partial:  histogram("sync_partial_proxy_rules_duration_seconds", "The same, for applies of changed services only.", seconds),
		programming: histogram("network_programming_duration_seconds",
			"Time from the change of a pod or service to the kernel having it.",
			append([]float64{0.025, 0.05, 0.1, 0.25, 0.5}, prometheus.ExponentialBuckets(1, 2, 9)...)),
		lastSync:   gauge("sync_proxy_rules_last_timestamp_seconds", "When rules were last applied."),
		lastQueued: gauge("sync_proxy_rules_last_queued_timestamp_seconds", "When the oldest change of the last apply was learnt."),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Name: failuresName(mode), Help: "Applies that failed and were tried again.",
		}, []string{family}),
		endpointChanges: counter("sync_proxy_rules_endpoint_changes_total", "Endpoint slice changes seen."),
		serviceChanges:  counter("sync_proxy_rules_service_changes_total", "Service changes seen."),
	}
	if r != nil {
		r.MustRegister(m.duration, m.full, m.partial, m.programming, m.lastSync, m.lastQueued, m.failures,
			m.endpointChanges, m.serviceChanges)
	}
	return m
}

// failuresName is what kube-proxy calls the counter of failed applies in a mode.
func failuresName(mode string) string {
	switch mode {
	case "iptables":
		return "sync_proxy_rules_iptables_restore_failures_total"
	case "nftables":
		return "sync_proxy_rules_nftables_sync_failures_total"
	}
	return "sync_proxy_rules_failures_total"
}

func label(f plan.Family) string { return strings.ToLower(f.String()) }

func (m *metrics) applied(f plan.Family, full bool, took time.Duration, err error) {
	if err != nil {
		m.failures.WithLabelValues(label(f)).Inc()
		return
	}
	kind := m.partial
	if full {
		kind = m.full
	}
	kind.WithLabelValues(label(f)).Observe(took.Seconds())
	m.duration.WithLabelValues(label(f)).Observe(took.Seconds())
	m.lastSync.WithLabelValues(label(f)).SetToCurrentTime()
}

// programmed records how long the applied changes took since their causes.
func (m *metrics) programmed(p pending) {
	for _, t := range p.triggers {
		m.programming.WithLabelValues("ipv4").Observe(time.Since(t).Seconds())
	}
	if !p.since.IsZero() {
		m.lastQueued.WithLabelValues("ipv4").Set(float64(p.since.UnixNano()) / 1e9)
	}
}

// trigger is the time of the cause of an endpoint change, which the slice's controller leaves in an annotation.
func trigger(s *discoveryv1.EndpointSlice) (time.Time, bool) {
	if s == nil {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, s.Annotations[corev1.EndpointsLastChangeTriggerTime])
	return t, err == nil
}

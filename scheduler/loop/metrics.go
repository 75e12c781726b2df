package loop

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bareboat.dev/scheduler/plan"
	"bareboat.dev/scheduler/queue"
)

// Metrics are the scheduler's metrics, under kube-scheduler's names.
type Metrics struct {
	pending   *prometheus.GaugeVec
	attempts  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	sli       *prometheus.HistogramVec
	tries     prometheus.Histogram
	queued    *prometheus.CounterVec
	cache     *prometheus.GaugeVec
	bindError prometheus.Counter

	preemptions prometheus.Counter
	victims     prometheus.Histogram
}

// NewMetrics returns metrics, not registered yet.
func NewMetrics() *Metrics {
	return &Metrics{
		pending:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "scheduler_pending_pods", Help: "Pending pods by queue: active, backoff, unschedulable or gated."}, []string{"queue"}),
		attempts:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "scheduler_schedule_attempts_total", Help: "Attempts to schedule pods by result: scheduled, unschedulable or error."}, []string{"result", "profile"}),
		duration:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "scheduler_scheduling_attempt_duration_seconds", Help: "Time of one decision.", Buckets: prometheus.ExponentialBuckets(0.00001, 4, 9)}, []string{"result", "profile"}),
		sli:       prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "scheduler_pod_scheduling_sli_duration_seconds", Help: "Time from when a pod was first seen until it was bound.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 10)}, []string{"attempts"}),
		tries:     prometheus.NewHistogram(prometheus.HistogramOpts{Name: "scheduler_pod_scheduling_attempts", Help: "Attempts that it took to schedule a pod.", Buckets: prometheus.ExponentialBuckets(1, 2, 5)}),
		queued:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "scheduler_queue_incoming_pods_total", Help: "Pods that entered a queue by event."}, []string{"event", "queue"}),
		cache:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "scheduler_scheduler_cache_size", Help: "Nodes and pods known."}, []string{"type"}),
		bindError: prometheus.NewCounter(prometheus.CounterOpts{Name: "scheduler_binding_failures_total", Help: "Bindings that failed and are tried again."}),

		preemptions: prometheus.NewCounter(prometheus.CounterOpts{Name: "scheduler_preemption_attempts_total", Help: "Searches for pods to preempt."}),
		victims:     prometheus.NewHistogram(prometheus.HistogramOpts{Name: "scheduler_preemption_victims", Help: "Pods deleted for one that was more important.", Buckets: prometheus.ExponentialBuckets(1, 2, 7)}),
	}
}

// Register adds the metrics to a registry.
func (m *Metrics) Register(r prometheus.Registerer) {
	r.MustRegister(m.pending, m.attempts, m.duration, m.sli, m.tries, m.queued, m.cache, m.bindError, m.preemptions, m.victims)
}

func (m *Metrics) observeQueue(q *queue.Queue, gated int, c *plan.Cluster) {
	active, backoff, parked := q.Len()
	m.pending.WithLabelValues("active").Set(float64(active))
	m.pending.WithLabelValues("backoff").Set(float64(backoff))
	m.pending.WithLabelValues("unschedulable").Set(float64(parked))
	m.pending.WithLabelValues("gated").Set(float64(gated))
	m.cache.WithLabelValues("nodes").Set(float64(c.Nodes()))
	m.cache.WithLabelValues("pods").Set(float64(c.Pods()))
}

func (m *Metrics) attempt(result, profile string, took time.Duration) {
	m.attempts.WithLabelValues(result, profile).Inc()
	m.duration.WithLabelValues(result, profile).Observe(took.Seconds())
}

func (m *Metrics) incoming(event, queue string) { m.queued.WithLabelValues(event, queue).Inc() }

func (m *Metrics) woken(n int) {
	if n > 0 {
		m.queued.WithLabelValues("ClusterEvent", "active").Add(float64(n))
	}
}

func (m *Metrics) scheduled(it *queue.Item, now time.Time) {
	label := "1"
	if it.Attempts > 1 {
		label = "more"
	}
	m.sli.WithLabelValues(label).Observe(now.Sub(it.Added).Seconds())
	m.tries.Observe(float64(it.Attempts))
}

func (m *Metrics) bindFailed(profile string) {
	m.bindError.Inc()
	m.attempts.WithLabelValues("error", profile).Inc()
}

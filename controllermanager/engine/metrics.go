package engine

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"

	"bareboat.dev/controllermanager/plan"
)

// Metrics are the engine's metrics. Queues have upstream's names (workqueue_*); writes are counted by controller, kind,
// verb and outcome, all of which are few.
type Metrics struct {
	depth, unfinished, longest *prometheus.GaugeVec
	adds, retries              *prometheus.CounterVec
	latency, work              *prometheus.HistogramVec
	writes                     *prometheus.CounterVec
}

var _ workqueue.MetricsProvider = (*Metrics)(nil)

// NewMetrics registers the metrics. Make them once per process: they go on from one term of leadership to the next.
func NewMetrics(r prometheus.Registerer) *Metrics {
	queue := []string{"name"}
	// 10 ns to 10 s in decades, as upstream.
	buckets := prometheus.ExponentialBuckets(10e-9, 10, 10)
	m := &Metrics{
		depth:      prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "workqueue_depth", Help: "Current depth of workqueue."}, queue),
		unfinished: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "workqueue_unfinished_work_seconds", Help: "Seconds of work in progress that work_duration has not observed yet."}, queue),
		longest:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "workqueue_longest_running_processor_seconds", Help: "Seconds that the longest running processor has been running."}, queue),
		adds:       prometheus.NewCounterVec(prometheus.CounterOpts{Name: "workqueue_adds_total", Help: "Adds handled by workqueue."}, queue),
		retries:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "workqueue_retries_total", Help: "Retries handled by workqueue."}, queue),
		latency:    prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "workqueue_queue_duration_seconds", Help: "Seconds an item stays in workqueue before being requested.", Buckets: buckets}, queue),
		work:       prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "workqueue_work_duration_seconds", Help: "Seconds that processing an item takes.", Buckets: buckets}, queue),
		writes:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bareboat_controller_writes_total", Help: "Writes sent to the API by outcome: ok, conflict, exists, missing or error."}, []string{"controller", "resource", "verb", "outcome"}),
	}
	r.MustRegister(m.depth, m.unfinished, m.longest, m.adds, m.retries, m.latency, m.work, m.writes)
	return m
}

// NewDepthMetric and its neighbours make Metrics a workqueue.MetricsProvider.
func (m *Metrics) NewDepthMetric(name string) workqueue.GaugeMetric {
	return m.depth.WithLabelValues(name)
}

func (m *Metrics) NewAddsMetric(name string) workqueue.CounterMetric {
	return m.adds.WithLabelValues(name)
}

func (m *Metrics) NewLatencyMetric(name string) workqueue.HistogramMetric {
	return m.latency.WithLabelValues(name)
}

func (m *Metrics) NewWorkDurationMetric(name string) workqueue.HistogramMetric {
	return m.work.WithLabelValues(name)
}

func (m *Metrics) NewUnfinishedWorkSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return m.unfinished.WithLabelValues(name)
}

func (m *Metrics) NewLongestRunningProcessorSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return m.longest.WithLabelValues(name)
}

func (m *Metrics) NewRetriesMetric(name string) workqueue.CounterMetric {
	return m.retries.WithLabelValues(name)
}

func (m *Metrics) countWrite(controller string, w plan.Write, err error) {
	outcome := "error"
	switch {
	case err == nil:
		outcome = "ok"
	case apierrors.IsConflict(err):
		outcome = "conflict"
	case apierrors.IsAlreadyExists(err):
		outcome = "exists"
	case apierrors.IsNotFound(err):
		outcome = "missing"
	}
	verb := w.Verb.String()
	if w.Subresource != "" {
		verb += "/" + w.Subresource
	}
	m.writes.WithLabelValues(controller, w.Kind.String(), verb, outcome).Inc()
}

// LeadingMetric tells whether this process leads, under upstream's name.
func LeadingMetric(lease string, leading *atomic.Bool) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "leader_election_master_status", Help: "Whether this process is the leader: 1 if it is.", ConstLabels: prometheus.Labels{"name": lease},
	}, func() float64 {
		if leading.Load() {
			return 1
		}
		return 0
	})
}

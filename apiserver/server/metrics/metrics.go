// Package metrics counts requests under the names that kube-apiserver uses, so that existing dashboards and alerts work
// (https://kubernetes.io/docs/reference/instrumentation/metrics/).
package metrics

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/server/inflight"
	"bareboat.dev/apiserver/storage"
)

// Requests counts requests; it is a pipeline.Observer.
type Requests struct {
	total       *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	longRunning *prometheus.GaugeVec
}

// NewRequests registers the request metrics.
func NewRequests(reg prometheus.Registerer, limiter *inflight.Limiter) *Requests {
	r := &Requests{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_request_total",
			Help: "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
		}, []string{"verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_request_duration_seconds",
			Help:    "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
			Buckets: []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.5, 2, 4, 6, 10, 20, 30, 60},
		}, []string{"verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"}),
		longRunning: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "apiserver_longrunning_requests",
			Help: "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component.",
		}, []string{"verb", "group", "version", "resource", "subresource", "scope", "component"}),
	}
	reg.MustRegister(r.total, r.duration, r.longRunning, inflightCollector{limiter})
	return r
}

const component = "apiserver"

// Observe implements pipeline.Observer.
func (m *Requests) Observe(_ context.Context, e *pipeline.Observation) {
	r := e.Request
	dry := ""
	if r.DryRun {
		dry = "All"
	}
	verb, group, version, resource, sub, scope := labels(r)
	m.total.WithLabelValues(verb, dry, group, version, resource, sub, scope, component, strconv.Itoa(code(e))).Inc()
	if r.Verb != pipeline.Watch {
		m.duration.WithLabelValues(verb, dry, group, version, resource, sub, scope, component).Observe(e.End.Sub(e.Start).Seconds())
	}
}

func code(e *pipeline.Observation) int {
	if e.Err == nil && e.Created {
		return 201
	}
	return pipeline.Code(e.Err)
}

// labels keeps cardinality bounded: what is not served is counted as one resource.
func labels(r *pipeline.Request) (verb, group, version, resource, sub, scope string) {
	verb = map[pipeline.Verb]string{
		pipeline.Get: "GET", pipeline.List: "LIST", pipeline.Watch: "WATCH", pipeline.Create: "POST", pipeline.Update: "PUT",
		pipeline.Patch: "PATCH", pipeline.Delete: "DELETE", pipeline.DeleteCollection: "DELETECOLLECTION",
	}[r.Verb]
	if verb == "" {
		verb = "CONNECT"
	}
	scope = "cluster"
	switch {
	case r.Name != "":
		scope = "resource"
	case r.Namespace != "":
		scope = "namespace"
	}
	if !r.Served {
		return verb, "", "", "", "", ""
	}
	return verb, r.Group, r.Version, r.Resource, r.Subresource, scope
}

// LongRunning counts watches and streams: +1 when one begins, -1 when it ends.
func (m *Requests) LongRunning(r *pipeline.Request, delta int) {
	verb, group, version, resource, sub, scope := labels(r)
	m.longRunning.WithLabelValues(verb, group, version, resource, sub, scope, component).Add(float64(delta))
}

// inflightCollector reports the limiter's counts.
type inflightCollector struct{ limiter *inflight.Limiter }

func inflightDesc() *prometheus.Desc {
	return prometheus.NewDesc("apiserver_current_inflight_requests",
		"Maximal number of currently used inflight request limit of this apiserver per request kind in last second.", []string{"request_kind"}, nil)
}

// Describe implements prometheus.Collector.
func (c inflightCollector) Describe(ch chan<- *prometheus.Desc) { ch <- inflightDesc() }

// Collect implements prometheus.Collector.
func (c inflightCollector) Collect(ch chan<- prometheus.Metric) {
	reads, writes := c.limiter.Counts()
	ch <- prometheus.MustNewConstMetric(inflightDesc(), prometheus.GaugeValue, float64(reads), "readOnly")
	ch <- prometheus.MustNewConstMetric(inflightDesc(), prometheus.GaugeValue, float64(writes), "mutating")
}

// Engine is a storage.Engine that times its calls as etcd_request_duration_seconds, the name by which dashboards know the
// store's latency, whichever engine it is.
type Engine struct {
	storage.Engine
	seconds *prometheus.HistogramVec
}

// NewEngine wraps an engine.
func NewEngine(reg prometheus.Registerer, e storage.Engine) *Engine {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "etcd_request_duration_seconds", Help: "Store request latency in seconds for each operation.",
		Buckets: []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
	}, []string{"operation"})
	reg.MustRegister(h)
	return &Engine{e, h}
}

func (e *Engine) time(operation string) func() {
	start := time.Now()
	return func() { e.seconds.WithLabelValues(operation).Observe(time.Since(start).Seconds()) }
}

// Get implements storage.Engine.
func (e *Engine) Get(ctx context.Context, key string, at storage.Revision) (storage.Entry, storage.Revision, error) {
	defer e.time("get")()
	return e.Engine.Get(ctx, key, at)
}

// List implements storage.Engine.
func (e *Engine) List(ctx context.Context, prefix string, o storage.ListOptions) (storage.ListResult, error) {
	defer e.time("list")()
	return e.Engine.List(ctx, prefix, o)
}

// Commit implements storage.Engine.
func (e *Engine) Commit(ctx context.Context, ops ...storage.Op) (storage.Revision, error) {
	defer e.time("commit")()
	return e.Engine.Commit(ctx, ops...)
}

// Package metrics counts requests under the names that kube-apiserver uses, so that existing dashboards and alerts work
// (https://kubernetes.io/docs/reference/instrumentation/metrics/).
package metrics

import (
	"context"
	"strconv"
	"sync"
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
	known       sync.Map // seriesKey → *series
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
	k := seriesKey{dryRun: r.DryRun, code: code(e)}
	k.verb, k.group, k.version, k.resource, k.sub, k.scope = labels(r)
	s := m.of(k)
	s.total.Inc()
	if s.duration != nil {
		s.duration.Observe(e.End.Sub(e.Start).Seconds())
	}
}

// seriesKey is what tells the series of two requests apart.
type seriesKey struct {
	verb, group, version, resource, sub, scope string
	dryRun                                     bool
	code                                       int
}

// series are where a request is counted. Finding them by nine labels costs more than counting, so they are kept; there are
// as many as the metrics have anyway.
type series struct {
	total    prometheus.Counter
	duration prometheus.Observer
}

func (m *Requests) of(k seriesKey) *series {
	if s, ok := m.known.Load(k); ok {
		return s.(*series)
	}
	dry := ""
	if k.dryRun {
		dry = "All"
	}
	s := &series{total: m.total.WithLabelValues(k.verb, dry, k.group, k.version, k.resource, k.sub, k.scope, component, strconv.Itoa(k.code))}
	if k.verb != watchVerb && k.verb != connectVerb {
		s.duration = m.duration.WithLabelValues(k.verb, dry, k.group, k.version, k.resource, k.sub, k.scope, component)
	}
	m.known.Store(k, s)
	return s
}

func code(e *pipeline.Observation) int {
	if e.Err == nil && e.Created {
		return 201
	}
	return pipeline.Code(e.Err)
}

// labels keeps cardinality bounded: what is not served is counted as one resource.
func labels(r *pipeline.Request) (verb, group, version, resource, sub, scope string) {
	verb = verbLabel(r.Verb)
	if r.Connect {
		verb = connectVerb
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

const (
	watchVerb   = "WATCH"
	connectVerb = "CONNECT"
)

// verbLabel is a verb as kube-apiserver counts it.
func verbLabel(v pipeline.Verb) string {
	switch v {
	case pipeline.Get:
		return "GET"
	case pipeline.List:
		return "LIST"
	case pipeline.Watch:
		return watchVerb
	case pipeline.Create:
		return "POST"
	case pipeline.Update:
		return "PUT"
	case pipeline.Patch:
		return "PATCH"
	case pipeline.Delete:
		return "DELETE"
	case pipeline.DeleteCollection:
		return "DELETECOLLECTION"
	}
	return connectVerb
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
	reads, writes := c.limiter.Count(inflight.Read), c.limiter.Count(inflight.Write)
	ch <- prometheus.MustNewConstMetric(inflightDesc(), prometheus.GaugeValue, float64(reads), "readOnly")
	ch <- prometheus.MustNewConstMetric(inflightDesc(), prometheus.GaugeValue, float64(writes), "mutating")
}

// Engine is a storage.Engine that times its calls as etcd_request_duration_seconds, the name by which dashboards know the
// store's latency, whichever engine it is.
type Engine struct {
	storage.Engine
	get, list, commit prometheus.Observer
}

// NewEngine wraps an engine.
func NewEngine(reg prometheus.Registerer, e storage.Engine) *Engine {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "etcd_request_duration_seconds", Help: "Store request latency in seconds for each operation.",
		Buckets: []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
	}, []string{"operation"})
	reg.MustRegister(h)
	return &Engine{e, h.WithLabelValues("get"), h.WithLabelValues("list"), h.WithLabelValues("commit")}
}

func observe(o prometheus.Observer, start time.Time) { o.Observe(time.Since(start).Seconds()) }

// Get implements storage.Engine.
func (e *Engine) Get(ctx context.Context, key string, at storage.Revision) (storage.Entry, storage.Revision, error) {
	defer observe(e.get, time.Now())
	return e.Engine.Get(ctx, key, at)
}

// List implements storage.Engine.
func (e *Engine) List(ctx context.Context, prefix string, o storage.ListOptions) (storage.ListResult, error) {
	defer observe(e.list, time.Now())
	return e.Engine.List(ctx, prefix, o)
}

// Commit implements storage.Engine.
func (e *Engine) Commit(ctx context.Context, ops ...storage.Op) (storage.Revision, error) {
	defer observe(e.commit, time.Now())
	return e.Engine.Commit(ctx, ops...)
}

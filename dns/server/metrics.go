package server

import (
	"net"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"bareboat.dev/dns/forward"
)

// Metrics carry CoreDNS' names, so that its dashboards and alerts work.
type Metrics struct {
	requests  *prometheus.CounterVec
	responses *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	reqSize   *prometheus.HistogramVec
	respSize  *prometheus.HistogramVec
	upstream  *prometheus.HistogramVec
	failures  *prometheus.CounterVec
	zone      string
}

// knownTypes have a label of their own; anything else is "other": a client must not be able to make time series.
var knownTypes = [...]uint16{
	dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeSRV, dns.TypePTR, dns.TypeTXT, dns.TypeMX, dns.TypeNS, dns.TypeSOA,
	dns.TypeANY, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeDS, dns.TypeDNSKEY, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3,
}

// NewMetrics registers the metrics; domain is the cluster's.
func NewMetrics(r prometheus.Registerer, domain string) *Metrics {
	const ns = "coredns"
	counter := func(sub, name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help}, labels)
	}
	histogram := func(sub, name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: name, Help: help, Buckets: buckets,
		}, labels)
	}
	seconds := prometheus.ExponentialBuckets(0.000_03125, 2, 18) // 31 µs … 4 s
	sizes := []float64{0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16e3, 32e3, 48e3, 64e3}
	m := &Metrics{
		zone:      domain,
		requests:  counter("dns", "requests_total", "Queries by type.", "zone", "proto", "family", "type"),
		responses: counter("dns", "responses_total", "Answers by code and origin.", "zone", "rcode", "plugin"),
		duration:  histogram("dns", "request_duration_seconds", "Time to answer.", seconds, "zone"),
		reqSize:   histogram("dns", "request_size_bytes", "Size of queries.", sizes, "zone", "proto"),
		respSize:  histogram("dns", "response_size_bytes", "Size of answers.", sizes, "zone", "proto"),
		upstream:  histogram("proxy", "request_duration_seconds", "Time that an upstream server took.", seconds, "to", "proxy_name"),
		failures:  counter("forward", "failures_total", "Questions that an upstream server did not answer.", "to"),
	}
	r.MustRegister(m.requests, m.responses, m.duration, m.reqSize, m.respSize, m.upstream, m.failures)
	return m
}

// Cache registers a forwarder's cache figures.
func Cache(r prometheus.Registerer, f *forward.Forwarder) {
	stat := func(name, help string, t prometheus.ValueType, get func() float64) prometheus.Collector {
		opts := prometheus.Opts{Namespace: "coredns", Subsystem: "cache", Name: name, Help: help}
		if t == prometheus.GaugeValue {
			return prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts), get)
		}
		return prometheus.NewCounterFunc(prometheus.CounterOpts(opts), get)
	}
	r.MustRegister(
		stat("hits_total", "Answers given from the cache.", prometheus.CounterValue, func() float64 { h, _, _ := f.Stats(); return float64(h) }),
		stat("misses_total", "Questions that the cache could not answer.", prometheus.CounterValue, func() float64 { _, m, _ := f.Stats(); return float64(m) }),
		stat("entries", "Answers in the cache.", prometheus.GaugeValue, func() float64 { _, _, n := f.Stats(); return float64(n) }),
	)
}

// Upstream is for forward.Config.Observe. The label's values are the configured servers.
func (m *Metrics) Upstream(server string, err error, took time.Duration) {
	m.upstream.WithLabelValues(server, "forward").Observe(took.Seconds())
	if err != nil {
		m.failures.WithLabelValues(server).Inc()
	}
}

func (m *Metrics) answered(w dns.ResponseWriter, query, reply *dns.Msg, origin string, took time.Duration) {
	proto, family := "tcp", "1"
	addr := w.RemoteAddr()
	if u, ok := addr.(*net.UDPAddr); ok {
		proto = "udp"
		if u.IP.To4() == nil {
			family = "2"
		}
	} else if t, ok := addr.(*net.TCPAddr); ok && t.IP.To4() == nil {
		family = "2"
	}
	zone, qtype := ".", "other"
	if len(query.Question) == 1 {
		if origin == fromZone {
			zone = m.zone
		}
		for _, t := range knownTypes {
			if query.Question[0].Qtype == t {
				qtype = dns.TypeToString[t]
			}
		}
	}
	code, ok := dns.RcodeToString[reply.Rcode]
	if !ok {
		code = "other"
	}
	m.requests.WithLabelValues(zone, proto, family, qtype).Inc()
	m.responses.WithLabelValues(zone, code, origin).Inc()
	m.duration.WithLabelValues(zone).Observe(took.Seconds())
	m.reqSize.WithLabelValues(zone, proto).Observe(float64(query.Len()))
	m.respSize.WithLabelValues(zone, proto).Observe(float64(reply.Len()))
}

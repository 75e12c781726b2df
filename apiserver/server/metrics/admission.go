package metrics

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"bareboat.dev/apiserver/admission/hooks"
	"bareboat.dev/apiserver/admission/policies"
)

// maxNames bounds the webhooks and bindings that have series of their own; those beyond share one without a name. A webhook has at
// most a few dozen series of some 500 bytes, so that 1,000 names are about 20 MiB at worst and 1 MiB in practice.
const maxNames = 1000

// Admission counts what webhooks and admission policies do.
type Admission struct {
	latency                     *prometheus.HistogramVec
	requests, rejections, opens *prometheus.CounterVec
	checks                      *prometheus.CounterVec
	checkLatency                *prometheus.HistogramVec

	mu    sync.Mutex
	names map[[2]string]bool
}

// NewAdmission registers the admission metrics.
func NewAdmission(reg prometheus.Registerer) *Admission {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Admission{
		names: map[[2]string]bool{},
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_admission_webhook_admission_duration_seconds", Help: "How long webhooks took to answer.",
			Buckets: []float64{0.005, 0.025, 0.1, 0.5, 1, 2.5, 10, 25},
		}, []string{"name", "type", "operation", "rejected"}),
		requests: counter("apiserver_admission_webhook_request_total", "How often webhooks were asked, by the code of their answer.", "name", "type", "operation", "code", "rejected"),
		rejections: counter("apiserver_admission_webhook_rejection_count", "Writes that webhooks, or their failures, have refused.",
			"name", "type", "operation", "error_type", "rejection_code"),
		opens:  counter("apiserver_admission_webhook_fail_open_count", "Failures of webhooks that were ignored.", "name", "type"),
		checks: counter("apiserver_validating_admission_policy_check_total", "Rules of policies that writes were held to, by what came of it.", "policy", "policy_binding", "error_type", "enforcement_action"),
		checkLatency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_validating_admission_policy_check_duration_seconds", Help: "How long rules of policies took to evaluate.",
			Buckets: []float64{0.0000005, 0.001, 0.01, 0.1, 1},
		}, []string{"policy", "policy_binding", "error_type", "enforcement_action"}),
	}
	reg.MustRegister(m.latency, m.requests, m.rejections, m.opens, m.checks, m.checkLatency)
	return m
}

// known reports whether a pair of names has series of its own.
func (m *Admission) known(a, b string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := [2]string{a, b}
	if !m.names[key] && len(m.names) < maxNames {
		m.names[key] = true
	}
	return m.names[key]
}

// maxCode is the label of all greater codes, as upstream has it.
const maxCode = 600

// Asked counts a webhook that was asked.
func (m *Admission) Asked(a hooks.Asked) {
	name, operation, rejected := a.Name, string(a.Operation), strconv.FormatBool(a.Rejected)
	if !m.known(name, "") {
		name = ""
	}
	code := strconv.Itoa(min(a.Code, maxCode))
	m.latency.WithLabelValues(name, a.Kind, operation, rejected).Observe(a.Took.Seconds())
	m.requests.WithLabelValues(name, a.Kind, operation, code, rejected).Inc()
	switch {
	case a.Rejected && a.Failed:
		m.rejections.WithLabelValues(name, a.Kind, operation, "calling_webhook_error", code).Inc()
	case a.Rejected:
		m.rejections.WithLabelValues(name, a.Kind, operation, "no_error", code).Inc()
	case a.Failed:
		m.opens.WithLabelValues(name, a.Kind).Inc()
	}
}

// Checked counts a rule that a write was held to.
func (m *Admission) Checked(c policies.Checked) {
	policy, binding := c.Policy, c.Binding
	if !m.known(policy, binding) {
		policy, binding = "", ""
	}
	count := func(action string) {
		m.checks.WithLabelValues(policy, binding, c.Fault, action).Inc()
		m.checkLatency.WithLabelValues(policy, binding, c.Fault, action).Observe(c.Took.Seconds())
	}
	if !c.Broken {
		count("allow")
		return
	}
	names := map[admissionregistrationv1.ValidationAction]string{
		admissionregistrationv1.Deny: "deny", admissionregistrationv1.Audit: "audit", admissionregistrationv1.Warn: "warn",
	}
	for _, action := range c.Actions {
		if name, ok := names[action]; ok {
			count(name)
		}
	}
}

package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"bareboat.dev/kubelet/stats"
)

// Web is what the node answers over HTTPS, beside NodeService, on the same port: /stats/summary, /metrics/resource,
// /metrics/cadvisor, and whatever admin has (/metrics, /healthz, /debug/pprof). All but health needs the right to speak to a kubelet, or what
// access grants: a token of a ServiceAccount with nodes/metrics, such as metrics-server has. access may be nil.
func Web(c *stats.Collector, access Access, admin http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stats/summary", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(c.Summary(r.Context())) // fails only if the client is gone
	})
	mux.Handle("GET /metrics/resource", scraped(c.Resource))
	mux.Handle("GET /metrics/cadvisor", scraped(c.CAdvisor))
	mux.Handle("/", admin)
	return authorizeWeb(mux, access)
}

// scraped serves the metrics of a collector that measures for each request.
func scraped(of func(context.Context) prometheus.Collector) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		registry := prometheus.NewRegistry()
		registry.MustRegister(of(r.Context()))
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
}

// authorizeWeb lets health through, and the rest for those who may speak to a kubelet or have the right to that part of the node.
func authorizeWeb(next http.Handler, access Access) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" || r.URL.Path == "/livez" || r.URL.Path == "/readyz" {
			next.ServeHTTP(w, r)
			return
		}
		u, cert, err := caller(r, access)
		if err != nil {
			// Also if the API server cannot be asked: then nobody knows who it is.
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		if cert != nil && Authorize(cert) {
			next.ServeHTTP(w, r)
			return
		}
		what, part := verb(r.Method), subresource(r.URL.Path)
		allowed := false
		if access != nil {
			allowed, err = access.Allowed(r.Context(), u, what, part)
		}
		switch {
		case err != nil:
			http.Error(w, "the API server cannot be asked whether that is allowed", http.StatusServiceUnavailable)
		case !allowed:
			http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource=[%s])", u.Name, what, part), http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

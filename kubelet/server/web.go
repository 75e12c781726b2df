package server

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"bareboat.dev/kubelet/stats"
)

// Web is what the node answers over HTTPS, beside NodeService, on the same port: /stats/summary, /metrics/resource,
// /metrics/cadvisor, and whatever admin has (/metrics, /healthz, /debug/pprof). All but health needs the right to speak to a kubelet.
func Web(c *stats.Collector, admin http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stats/summary", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(c.Summary(r.Context())) // fails only if the client is gone
	})
	mux.Handle("GET /metrics/resource", scraped(c.Resource))
	mux.Handle("GET /metrics/cadvisor", scraped(c.CAdvisor))
	mux.Handle("/", admin)
	return authorizeWeb(mux)
}

// scraped serves the metrics of a collector that measures for each request.
func scraped(of func(context.Context) prometheus.Collector) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		registry := prometheus.NewRegistry()
		registry.MustRegister(of(r.Context()))
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
}

// authorizeWeb lets health through, and the rest for those who may speak to a kubelet.
func authorizeWeb(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" || r.URL.Path == "/livez" || r.URL.Path == "/readyz" {
			next.ServeHTTP(w, r)
			return
		}
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			http.Error(w, "Unauthorized: a client certificate is required", http.StatusUnauthorized)
			return
		}
		if !Authorize(r.TLS.VerifiedChains[0][0]) {
			http.Error(w, "Forbidden", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/stats"
)

// Local is what a kubelet tells of itself, as agents on its node ask for it.
type Local struct {
	// Pods are the node's, with the statuses that the kubelet has decided: /pods.
	Pods func() *corev1.PodList
	// Config is the kubelet's own: /configz.
	Config any
	// Logs is the directory that /logs/ shows: the host's /var/log.
	Logs string
	// Probes counts probes by container: /metrics/probes.
	Probes prometheus.Gatherer
}

// Web is what the node answers over HTTPS, beside NodeService, on the same port: /stats/summary, /metrics/resource,
// /metrics/cadvisor, what is in local, and whatever admin has (/metrics, /healthz, /debug/pprof). All of it needs the right to speak to a
// kubelet, or what access grants: a token of a ServiceAccount with nodes/metrics, such as metrics-server has. access may be nil.
func Web(c *stats.Collector, local Local, access Access, admin http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stats/summary", func(w http.ResponseWriter, r *http.Request) { writeJSON(w, c.Summary(r.Context())) })
	mux.Handle("GET /metrics/resource", scraped(c.Resource))
	mux.Handle("GET /metrics/cadvisor", scraped(c.CAdvisor))
	mux.Handle("GET /metrics/probes", promhttp.HandlerFor(local.Probes, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /pods", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, local.Pods()) })
	mux.HandleFunc("GET /configz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]any{"kubeletconfig": local.Config})
	})
	mux.Handle("GET /logs/", http.StripPrefix("/logs/", logFiles(local.Logs)))
	mux.Handle("/", admin)
	return authorizeWeb(mux, access)
}

// logFiles shows a directory's files. Links that lead out of it, which whoever writes logs could make, are not followed.
func logFiles(dir string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			http.Error(w, "the logs cannot be read", http.StatusInternalServerError)
			return
		}
		defer root.Close()
		http.FileServerFS(root.FS()).ServeHTTP(w, r)
	})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // fails only if the client is gone
}

// scraped serves the metrics of a collector that measures for each request.
func scraped(of func(context.Context) prometheus.Collector) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		registry := prometheus.NewRegistry()
		registry.MustRegister(of(r.Context()))
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
}

// authorizeWeb lets those through who may speak to a kubelet or have the right to that part of the node. (Health is for everybody on the
// port that is open on the node alone.)
func authorizeWeb(next http.Handler, access Access) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
		what, parts := verb(r.Method), subresources(r.URL.Path)
		allowed := false
		for _, part := range parts {
			if access != nil && err == nil && !allowed {
				allowed, err = access.Allowed(r.Context(), u, what, part)
			}
		}
		switch {
		case err != nil:
			http.Error(w, "the API server cannot be asked whether that is allowed", http.StatusServiceUnavailable)
		case !allowed:
			http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource=[%s])", u.Name, what, strings.Join(parts, " ")), http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

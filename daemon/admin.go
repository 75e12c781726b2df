package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// adminGroup is the organization whose client certificates may do anything.
	adminGroup = "system:masters"
	// A slow client may hold a connection this long before it has sent its header, and idle.
	adminHeaderTimeout = 10 * time.Second
	adminIdleTimeout   = 90 * time.Second
	// adminShutdown bounds how long requests under way delay the end.
	adminShutdown = 500 * time.Millisecond
)

// ServeAdmin serves the administrator's endpoints on addr until ctx ends, and then returns nil: /healthz, /livez and /readyz for
// everyone; /metrics and /metrics/slis for verified client certificates, loopback, and everyone if there is no TLS; /debug/pprof for client
// certificates of the organization system:masters and loopback. With a nil tlsConfig it speaks plain HTTP. An addr of "" or
// port "0" serves nothing, as upstream's port flags have it.
func ServeAdmin(ctx context.Context, env *Env, addr string, tlsConfig *tls.Config) error {
	if _, port, err := net.SplitHostPort(addr); addr == "" || (err == nil && port == "0") {
		<-ctx.Done()
		return nil
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("admin endpoint: %w", err)
	}
	return ServeAdminOn(ctx, env, listener, tlsConfig)
}

// ServeAdminOn is ServeAdmin on a listener, which it closes.
func ServeAdminOn(ctx context.Context, env *Env, listener net.Listener, tlsConfig *tls.Config) error {
	server := &http.Server{
		Handler: AdminHandler(env), TLSConfig: tlsConfig, ReadHeaderTimeout: adminHeaderTimeout, IdleTimeout: adminIdleTimeout,
		ErrorLog: slog.NewLogLogger(env.Log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() {
		if tlsConfig != nil {
			failed <- server.ServeTLS(listener, "", "")
		} else {
			failed <- server.Serve(listener)
		}
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("admin endpoint %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), adminShutdown)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		server.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin endpoint %s: %w", listener.Addr(), err)
	}
	return nil
}

// AdminHandler is what ServeAdmin serves.
func AdminHandler(env *Env) http.Handler {
	endpoints := AdminEndpoints(env)
	mux := http.NewServeMux()
	mux.Handle("/", endpoints)
	for _, path := range []string{"/metrics", "/metrics/slis"} {
		mux.Handle(path, allow(mayRead, endpoints))
	}
	mux.Handle("/debug/pprof/", allow(mayAdminister, endpoints))
	return mux
}

// AdminEndpoints are the same for whoever asks, for daemons that have an HTTP server of their own which decides on that.
func AdminEndpoints(env *Env) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", env.Health.Handler())
	mux.Handle("/metrics", promhttp.HandlerFor(env.Registry, promhttp.HandlerOpts{Registry: env.Registry}))
	mux.Handle("/metrics/slis", env.Health.slis.handler())
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// allow passes on the requests that may judges acceptable.
func allow(may func(*http.Request) bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !may(r) {
			http.Error(w, "forbidden: present an administrator's client certificate, or ask from this host", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func mayRead(r *http.Request) bool {
	return r.TLS == nil || fromLoopback(r) || len(r.TLS.VerifiedChains) > 0
}

func mayAdminister(r *http.Request) bool {
	if fromLoopback(r) {
		return true
	}
	return r.TLS != nil && len(r.TLS.VerifiedChains) > 0 &&
		slices.Contains(r.TLS.VerifiedChains[0][0].Subject.Organization, adminGroup)
}

// fromLoopback tells whether the connection comes from this host and was not passed on by a proxy.
func fromLoopback(r *http.Request) bool {
	if r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != "" {
		return false
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// checkTimeout bounds one health check: probes commonly wait one second, systemd's watchdog several.
const checkTimeout = 900 * time.Millisecond

// Check tells whether something is in order. It must return soon after ctx ends.
type Check func(ctx context.Context) error

// Health is a set of named checks. Liveness: whether a restart would help if it fails. Readiness: whether the daemon can do its
// work now. /livez runs the first, /readyz both, /healthz both; as in Kubernetes, "?verbose" lists them, "?exclude=name"
// leaves one out, and "/livez/name" runs one.
type Health struct {
	mu     sync.Mutex
	checks []namedCheck
	// slis count what the endpoints' checks find.
	slis *slis
}

type namedCheck struct {
	name  string
	live  bool
	check Check
}

// NewHealth returns an empty set, which is healthy.
func NewHealth() *Health { return &Health{slis: newSLIs()} }

// AddLive adds a liveness check.
func (h *Health) AddLive(name string, check Check) { h.add(namedCheck{name, true, check}) }

// AddReady adds a readiness check.
func (h *Health) AddReady(name string, check Check) { h.add(namedCheck{name, false, check}) }

func (h *Health) add(c namedCheck) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, c)
}

// Live runs the liveness checks and returns what is wrong.
func (h *Health) Live(ctx context.Context) error { return h.run(ctx, true) }

// Ready runs all checks and returns what is wrong.
func (h *Health) Ready(ctx context.Context) error { return h.run(ctx, false) }

func (h *Health) run(ctx context.Context, liveOnly bool) error {
	var errs []error
	for _, c := range h.selected(liveOnly) {
		if err := c.run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}

func (h *Health) selected(liveOnly bool) []namedCheck {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []namedCheck
	for _, c := range h.checks {
		if c.live || !liveOnly {
			out = append(out, c)
		}
	}
	return out
}

func (c namedCheck) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return c.check(ctx)
}

var errNotStarted = errors.New("not started yet")

func (e *Env) started(context.Context) error {
	if !e.ready.Load() {
		return errNotStarted
	}
	return nil
}

// Handler serves /livez, /readyz and /healthz.
func (h *Health) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, liveOnly := range map[string]bool{"/livez": true, "/readyz": false, "/healthz": false} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, path, h.selected(liveOnly)) })
		mux.HandleFunc(path+"/{name}", func(w http.ResponseWriter, r *http.Request) {
			checks := slices.DeleteFunc(h.selected(liveOnly), func(c namedCheck) bool { return c.name != r.PathValue("name") })
			if len(checks) == 0 {
				http.NotFound(w, r)
				return
			}
			h.serve(w, r, path, checks)
		})
	}
	return mux
}

// serve answers as Kubernetes' health endpoints do.
func (h *Health) serve(w http.ResponseWriter, r *http.Request, path string, checks []namedCheck) {
	var report strings.Builder
	name, failed := strings.TrimPrefix(path, "/"), false
	for _, c := range checks {
		if slices.Contains(r.URL.Query()["exclude"], c.name) {
			fmt.Fprintf(&report, "[+]%s excluded: ok\n", c.name)
			continue
		}
		err := c.run(r.Context())
		h.slis.observe(c.name, name, err == nil)
		if err != nil {
			failed = true
			fmt.Fprintf(&report, "[-]%s failed: reason withheld\n", c.name)
		} else {
			fmt.Fprintf(&report, "[+]%s ok\n", c.name)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	switch {
	case failed:
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "%s%s check failed\n", report.String(), name)
	case r.URL.Query().Has("verbose"):
		fmt.Fprintf(w, "%s%s check passed\n", report.String(), name)
	default:
		fmt.Fprint(w, "ok")
	}
}

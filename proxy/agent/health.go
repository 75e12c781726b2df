package agent

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// healthTimeout is how long a change may wait for the kernel before the proxy calls itself unhealthy: twice the 30 s after
// which a stuck iptables lock or a failing tool is no hiccup any more.
const healthTimeout = 60 * time.Second

// Health tells load balancers and supervisors whether this node's rules are up to date.
type Health struct {
	now func() time.Time

	mu       sync.Mutex
	oldest   time.Time // the oldest change not yet in the kernel; zero if there is none
	last     time.Time // the last successful apply
	eligible bool
}

func newHealth(now func() time.Time) *Health { return &Health{now: now, eligible: true} }

func (h *Health) queued(t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.oldest.IsZero() {
		h.oldest = t
	}
}

// updated notes a successful apply at t; waiting is when the oldest change that it did not include was learnt, or zero.
func (h *Health) updated(t, waiting time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.oldest, h.last = waiting, t
}

func (h *Health) setEligible(ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.eligible = ok
}

type status struct {
	LastUpdated time.Time `json:"lastUpdated"`
	CurrentTime time.Time `json:"currentTime"`
	Eligible    *bool     `json:"nodeEligible,omitempty"`
	alive       bool
}

func (h *Health) status() status {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	alive := !h.last.IsZero() && (h.oldest.IsZero() || now.Sub(h.oldest) < healthTimeout)
	eligible := h.eligible
	return status{LastUpdated: h.last, CurrentTime: now, Eligible: &eligible, alive: alive}
}

// Alive says whether changes reach the kernel; before the first apply it is false.
func (h *Health) Alive() bool { return h.status().alive }

// ServeHTTP answers on the healthz port, as kube-proxy does: /healthz is for load balancers and fails also when the node
// is being deleted, so that traffic is led away; /livez is for supervisors.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := h.status()
	switch r.URL.Path {
	case "/healthz":
		s.alive = s.alive && *s.Eligible
	case "/livez":
		s.Eligible = nil
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !s.alive {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(s)
}

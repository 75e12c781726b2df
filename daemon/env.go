package daemon

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Env is what a running daemon gets from its process.
type Env struct {
	// Name of the daemon.
	Name string
	Log  *slog.Logger
	// Registry holds the process's and the Go runtime's metrics; add the daemon's own.
	Registry *prometheus.Registry
	// Health holds the checks behind /livez, /readyz and /healthz.
	Health *Health

	notifier *notifier
	ready    atomic.Bool
	// afterStart, if set, is called once the daemon has been ready for a while.
	afterStart func()
}

func newEnv(spec Spec, log *slog.Logger) *Env {
	env := &Env{Name: spec.Name, Log: log, Registry: prometheus.NewRegistry(), Health: NewHealth(), notifier: newNotifier()}
	env.Registry.MustRegister(
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "bareboat_build_info", Help: "Always 1; the labels tell the build.",
			ConstLabels: prometheus.Labels{"daemon": spec.Name, "version": spec.version()},
		}, func() float64 { return 1 }),
	)
	env.Health.AddReady("started", env.started)
	return env
}

// NewEnv returns an environment outside of Main, for tests.
func NewEnv(name string, log *slog.Logger) *Env {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return newEnv(Spec{Name: name}, log)
}

// Ready tells systemd and /readyz that the daemon does its work now. It may be called more than once; status, if given, is
// what `systemctl status` shows.
func (e *Env) Ready(status ...string) {
	if !e.ready.Swap(true) && e.afterStart != nil {
		time.AfterFunc(settle, e.afterStart)
	}
	message := "READY=1"
	if len(status) > 0 {
		message += "\nSTATUS=" + status[0]
	}
	e.notifier.send(message)
}

package shutdown

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/godbus/dbus/v5"
)

// logind's names on the bus (org.freedesktop.login1(5)).
const (
	loginName    = "org.freedesktop.login1"
	loginPath    = "/org/freedesktop/login1"
	loginManager = loginName + ".Manager"
	systemdName  = "org.freedesktop.systemd1"
	systemdPath  = "/org/freedesktop/systemd1"
)

// ErrNoLogind: the host's shutdown cannot be seen or held up, since systemd-logind is not there.
var ErrNoLogind = errors.New("systemd-logind cannot be reached")

// Bus says where logind is.
type Bus struct {
	// Address is the D-Bus server's; empty means the system's.
	Address string
	// ConfigDir is the directory for an addition to logind's configuration; empty means /etc/systemd/logind.conf.d.
	ConfigDir string
	Log       *slog.Logger
}

// reconnect is the pause before a lost bus is asked for again: it comes back with the daemon that restarts it.
const reconnect = 5 * time.Second

// Handler is what happens at a shutdown.
type Handler struct {
	// Begin is called when the host is about to go down, which it does not before Begin has returned. Its context is cancelled when the
	// shutdown is called off.
	Begin func(ctx context.Context)
	// CallOff is called when it has been, after Begin has returned.
	CallOff func()
}

// Watch holds up the host's shutdown while the handler acts. It returns when ctx ends; [ErrNoLogind] if there is no logind at the beginning.
func Watch(ctx context.Context, b Bus, need time.Duration, h Handler) error {
	for first := true; ; first = false {
		err := b.follow(ctx, need, h)
		if ctx.Err() != nil {
			return nil
		}
		if first && errors.Is(err, ErrNoLogind) {
			return err
		}
		b.Log.Warn("shutdowns of the host are not seen until logind can be reached again", "error", err)
		timer := time.NewTimer(reconnect)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// follow watches as long as one connection lasts.
func (b Bus) follow(ctx context.Context, need time.Duration, h Handler) error {
	conn, err := b.connect(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoLogind, err)
	}
	defer conn.Close()
	if err := conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface(loginManager), dbus.WithMatchMember("PrepareForShutdown"),
		dbus.WithMatchObjectPath(loginPath)); err != nil {
		return fmt.Errorf("%w: %w", ErrNoLogind, err)
	}
	signals := make(chan *dbus.Signal, 8) // one per shutdown begun or called off
	conn.Signal(signals)
	if err := b.allow(ctx, conn, need); err != nil {
		b.Log.Warn("a shutdown may not wait for all pods to end", "need", need, "error", err)
	}
	lock, err := inhibit(ctx, conn)
	if err != nil {
		return err
	}
	w := watcher{ctx: ctx, lock: lock, handler: h}
	defer w.release()
	for {
		select {
		case <-ctx.Done():
			w.cancel()
			return nil
		case s, ok := <-signals:
			if !ok {
				return errors.New("the connection to the bus was lost")
			}
			if err := w.take(conn, s); err != nil {
				return err
			}
		}
	}
}

func (b Bus) connect(ctx context.Context) (*dbus.Conn, error) {
	if b.Address == "" {
		return dbus.ConnectSystemBus(dbus.WithContext(ctx))
	}
	return dbus.Connect(b.Address, dbus.WithContext(ctx))
}

// watcher is the state of one connection: the lock that is held, and the end that is under way.
type watcher struct {
	ctx     context.Context
	lock    *os.File
	handler Handler
	// stop cancels the end under way, and done is closed when it has returned; nil if none is.
	stop context.CancelFunc
	done chan struct{}
}

// take acts on a signal: a shutdown that begins, or that is called off.
func (w *watcher) take(conn *dbus.Conn, s *dbus.Signal) error {
	begins := false
	if s.Name != loginManager+".PrepareForShutdown" || dbus.Store(s.Body, &begins) != nil {
		return nil
	}
	if begins && w.stop == nil {
		ctx, cancel := context.WithCancel(w.ctx)
		w.stop, w.done = cancel, make(chan struct{})
		go func(lock *os.File, done chan struct{}) {
			defer close(done)
			w.handler.Begin(ctx)
			if lock != nil {
				_ = lock.Close() // the host may go down now
			}
		}(w.lock, w.done)
		w.lock = nil
		return nil
	}
	if !begins && w.stop != nil {
		w.cancel()
		w.handler.CallOff()
		lock, err := inhibit(w.ctx, conn)
		w.lock = lock
		return err
	}
	return nil
}

// cancel calls off the end that is under way, and waits for it.
func (w *watcher) cancel() {
	if w.stop == nil {
		return
	}
	w.stop()
	<-w.done
	w.stop, w.done = nil, nil
}

func (w *watcher) release() {
	w.cancel()
	if w.lock != nil {
		_ = w.lock.Close()
	}
}

// inhibit takes a delay lock: logind waits with a shutdown until it is closed, up to InhibitDelayMaxSec.
func inhibit(ctx context.Context, conn *dbus.Conn) (*os.File, error) {
	var fd dbus.UnixFD
	call := conn.Object(loginName, loginPath).CallWithContext(ctx, loginManager+".Inhibit", 0, "shutdown", "kubelet",
		"Pods need time to end before the host goes down", "delay")
	if err := call.Store(&fd); err != nil {
		return nil, fmt.Errorf("%w: take an inhibitor lock: %w", ErrNoLogind, err)
	}
	return os.NewFile(uintptr(fd), "inhibitor"), nil
}

// allow has logind wait as long as the pods need, if it would not.
func (b Bus) allow(ctx context.Context, conn *dbus.Conn, need time.Duration) error {
	most, err := delayMax(conn)
	if err != nil || most >= need {
		return err
	}
	dir := b.ConfigDir
	if dir == "" {
		dir = "/etc/systemd/logind.conf.d"
	}
	text := fmt.Sprintf("# Made by the kubelet: pods have this long to end before the host goes down.\n[Login]\nInhibitDelayMaxSec=%d\n", int64((need+time.Second-1)/time.Second))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "99-bareboat-kubelet.conf"), []byte(text), 0o644); err != nil { //nolint:gosec // configuration is for all to read
		return err
	}
	// SIGHUP has logind read its configuration.
	call := conn.Object(systemdName, systemdPath).CallWithContext(ctx, systemdName+".Manager.KillUnit", 0, "systemd-logind.service", "all", int32(1))
	if call.Err != nil {
		return fmt.Errorf("have logind read its configuration again: %w", call.Err)
	}
	return nil
}

func delayMax(conn *dbus.Conn) (time.Duration, error) {
	v, err := conn.Object(loginName, loginPath).GetProperty(loginManager + ".InhibitDelayMaxUSec")
	if err != nil {
		return 0, err
	}
	var micros uint64
	if err := v.Store(&micros); err != nil {
		return 0, err
	}
	return time.Duration(micros) * time.Microsecond, nil
}

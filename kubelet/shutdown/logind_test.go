package shutdown

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=SOCKET</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`

// startBus starts a bus of the test's own and returns its address.
func startBus(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	socket, config := filepath.Join(dir, "bus"), filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(busConfig, "SOCKET", socket)), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Fatal("this test needs a D-Bus daemon; install it with: apt-get install dbus-daemon")
	}
	cmd := exec.Command(daemon, "--config-file="+config, "--nofork", "--print-address=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal("the bus did not start: ", err)
	}
	return strings.TrimSpace(address)
}

// logind is a model of systemd-logind: it gives away delay locks and waits for them before a shutdown.
type logind struct {
	conn *dbus.Conn
	// held are our copies of the locks that were given away, until they have surely been sent.
	held chan *os.File
	// released is sent to when a lock has been closed.
	released chan struct{}
	taken    chan struct{}
	hup      chan string
}

func startLogind(t *testing.T, address string) *logind {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	l := &logind{conn: conn, held: make(chan *os.File, 8), released: make(chan struct{}, 8), taken: make(chan struct{}, 8), hup: make(chan string, 8)}
	export := func(v any, path dbus.ObjectPath, iface string) {
		if err := conn.Export(v, path, iface); err != nil {
			t.Fatal(err)
		}
	}
	export(l, loginPath, loginManager)
	export(properties{}, loginPath, "org.freedesktop.DBus.Properties")
	export(units{l}, systemdPath, systemdName+".Manager")
	for _, name := range []string{loginName, systemdName} {
		if reply, err := conn.RequestName(name, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
			t.Fatal(name, reply, err)
		}
	}
	return l
}

// Inhibit gives a lock away: the other end of a pipe, which ends when the lock is closed.
func (l *logind) Inhibit(what, who, why, mode string) (dbus.UnixFD, *dbus.Error) {
	if what != "shutdown" || mode != "delay" || who == "" || why == "" {
		return 0, dbus.MakeFailedError(errors.New("not a delay lock of the shutdown"))
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, r)
		_ = r.Close()
		l.released <- struct{}{}
	}()
	fd := dbus.UnixFD(w.Fd())
	l.held <- w
	l.taken <- struct{}{}
	return fd, nil
}

type properties struct{}

// Get tells how long logind waits at most: five seconds, as it does by default.
func (properties) Get(_, name string) (dbus.Variant, *dbus.Error) {
	if name != "InhibitDelayMaxUSec" {
		return dbus.Variant{}, dbus.MakeFailedError(errors.New("no such property"))
	}
	return dbus.MakeVariant(uint64(5_000_000)), nil
}

type units struct{ l *logind }

// KillUnit is systemd's.
func (u units) KillUnit(name, _ string, signal int32) *dbus.Error {
	if signal == 1 {
		u.l.hup <- name
	}
	return nil
}

func (l *logind) announce(t *testing.T, begins bool) {
	t.Helper()
	if begins {
		_ = (<-l.held).Close()
	}
	if err := l.conn.Emit(loginPath, loginManager+".PrepareForShutdown", begins); err != nil {
		t.Fatal(err)
	}
}

func await[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(30 * time.Second): // reached only when something is wrong
		t.Fatalf("%s: did not come", what)
	}
	panic("unreachable")
}

// TestWatch shows a shutdown: logind is told to wait long enough, the lock is held while pods end and let go of after; and one that is
// called off, after which there is a lock again.
func TestWatch(t *testing.T) {
	address := startBus(t)
	l := startLogind(t, address)
	config := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	began, calledOff, finish, ended := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Watch(ctx, Bus{Address: address, ConfigDir: config, Log: slog.New(slog.DiscardHandler)}, 30*time.Second, Handler{Begin: func(ctx context.Context) {
			began <- struct{}{}
			select {
			case <-finish:
			case <-ctx.Done():
			}
		}, CallOff: func() { calledOff <- struct{}{} }})
	}()
	await(t, "a lock", l.taken)
	if unit := await(t, "a signal to logind", l.hup); unit != "systemd-logind.service" {
		t.Errorf("signal to %s", unit)
	}
	if text, err := os.ReadFile(filepath.Join(config, "99-bareboat-kubelet.conf")); err != nil || !strings.Contains(string(text), "[Login]\nInhibitDelayMaxSec=30\n") {
		t.Errorf("logind's configuration: %q, %v", text, err)
	}
	l.announce(t, true)
	await(t, "the beginning of the end", began)
	l.announce(t, false)
	await(t, "its being called off", calledOff)
	await(t, "the first lock's release", l.released)
	await(t, "another lock", l.taken)
	l.announce(t, true)
	await(t, "the beginning of the second end", began)
	select {
	case <-l.released:
		t.Error("the host may go down while pods end")
	default:
	}
	close(finish)
	await(t, "the lock's release", l.released)
	cancel()
	if err := await(t, "the watcher's end", ended); err != nil {
		t.Error(err)
	}
}

// TestNoLogind shows what is said on a host without logind.
func TestNoLogind(t *testing.T) {
	err := Watch(t.Context(), Bus{Address: "unix:path=" + t.TempDir() + "/none", Log: slog.New(slog.DiscardHandler)}, time.Second, Handler{})
	if !errors.Is(err, ErrNoLogind) {
		t.Errorf("it says %v", err)
	}
	if err = Watch(t.Context(), Bus{Address: startBus(t), Log: slog.New(slog.DiscardHandler)}, time.Second, Handler{}); !errors.Is(err, ErrNoLogind) {
		t.Errorf("on a bus without logind it says %v", err)
	}
}

package daemon

import (
	"context"
	"net"
	"os"
	"strconv"
	"time"
)

// notifier speaks systemd's notification protocol (sd_notify(3)). Without NOTIFY_SOCKET it does nothing.
type notifier struct {
	address  string
	watchdog time.Duration
}

func newNotifier() *notifier {
	n := &notifier{address: os.Getenv("NOTIFY_SOCKET")}
	pid := os.Getenv("WATCHDOG_PID")
	if usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 &&
		(pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.watchdog = time.Duration(usec) * time.Microsecond
	}
	return n
}

// send tells systemd; a manager that does not listen is its own problem.
func (n *notifier) send(message string) {
	if n.address == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.address, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(message)) // datagram: all or nothing, and nothing to do about nothing
}

// startWatchdog reports life twice per period while the liveness checks pass, until the returned function is called.
func (n *notifier) startWatchdog(ctx context.Context, health *Health) (stop func()) {
	if n.address == "" || n.watchdog == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(n.watchdog / 2)
		defer tick.Stop()
		for {
			if health.Live(ctx) == nil {
				n.send("WATCHDOG=1")
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

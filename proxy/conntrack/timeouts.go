package conntrack

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"bareboat.dev/proxy/sysctl"
)

// Timeouts are how long the kernel remembers flows that say nothing; 0 leaves it to the kernel.
type Timeouts struct {
	// TCPEstablished is for connections, which the kernel keeps for five days: after a crash of one end they fill its table.
	TCPEstablished time.Duration
	// TCPCloseWait is for connections of which one end has said that it sends no more, which the kernel keeps for a minute: one that
	// waits longer for its answer, as a client that has sent its request and half-closed, would be cut off from its endpoint.
	TCPCloseWait time.Duration
}

const (
	established = "net/netfilter/nf_conntrack_tcp_timeout_established"
	closeWait   = "net/netfilter/nf_conntrack_tcp_timeout_close_wait"
)

// SetTimeouts changes the kernel's settings and keeps what they were in dir.
func SetTimeouts(dir string, t Timeouts) error {
	var errs []error
	for name, d := range map[string]time.Duration{established: t.TCPEstablished, closeWait: t.TCPCloseWait} {
		if d == 0 {
			continue
		}
		if err := sysctl.Set(dir, name, strconv.FormatInt(int64(d/time.Second), 10)); err != nil {
			errs = append(errs, fmt.Errorf("conntrack: %w", err))
		}
	}
	return errors.Join(errs...)
}

// RestoreTimeouts gives the kernel's settings their former values.
func RestoreTimeouts(dir string) error { return sysctl.Restore(dir, established, closeWait) }

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"syscall"
	"time"

	"bareboat.dev/kubelet/config"
)

const (
	// portLimit is how long a port that is in use is waited for. A process that the last kubelet was just starting when it was killed,
	// as iptables-restore, holds a copy of its sockets until it executes its program: some milliseconds, tens on a busy disk.
	portLimit = 2 * time.Second
	// portPause is how soon it is tried again.
	portPause = 20 * time.Millisecond
)

// listen opens the node's port. The addresses 0.0.0.0 and :: both mean all of this host's, of either family.
func listen(ctx context.Context, c *config.Config, log *slog.Logger) (net.Listener, error) {
	address := net.JoinHostPort(c.Address, strconv.Itoa(int(c.Port)))
	ctx, cancel := context.WithTimeout(ctx, portLimit)
	defer cancel()
	for said := false; ; said = true {
		l, err := net.Listen("tcp", address)
		if err == nil {
			return l, nil
		}
		inUse := errors.Is(err, syscall.EADDRINUSE)
		if inUse && !said {
			log.Info("waiting for the port, which is in use", "address", address, "atMost", portLimit)
		}
		if inUse {
			select {
			case <-time.After(portPause):
				continue
			case <-ctx.Done():
			}
		}
		return nil, fmt.Errorf("cannot listen on %s: %w; another kubelet may be running here, or choose another --port", address, err)
	}
}

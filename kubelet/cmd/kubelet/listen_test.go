package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"bareboat.dev/kubelet/config"
)

// TestListen shows that 0.0.0.0 and :: each serve clients of both families, and a single address only its own.
func TestListen(t *testing.T) {
	for address, reached := range map[string]map[string]bool{
		"0.0.0.0":   {"127.0.0.1": true, "::1": true},
		"::":        {"127.0.0.1": true, "::1": true},
		"127.0.0.1": {"127.0.0.1": true, "::1": false},
	} {
		l, err := listen(t.Context(), &config.Config{Address: address}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		for to, want := range reached {
			c, err := net.Dial("tcp", net.JoinHostPort(to, port))
			if (err == nil) != want {
				t.Errorf("--address %s: %s: %v", address, to, err)
			}
			if err == nil {
				_ = c.Close()
			}
		}
		_ = l.Close()
	}
}

// TestListenWaits shows that a port which the last kubelet's child still holds is waited for, which is said once, and that a port which
// stays in use is an error that says what to do.
func TestListenWaits(t *testing.T) {
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(held.Addr().String())
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	c := &config.Config{Address: "127.0.0.1", Port: int32(n)}
	var said bytes.Buffer
	if _, err := listen(t.Context(), c, slog.New(slog.NewTextHandler(&said, nil))); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "--port") {
		t.Errorf("a port in use: %v", err)
	}
	if strings.Count(said.String(), "\n") != 1 {
		t.Errorf("it said %q", said.String())
	}
	l, err := listen(t.Context(), c, slog.New(slog.NewTextHandler(released{held}, nil)))
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

// released lets go of a port when somebody says that it is waiting for it.
type released struct{ net.Listener }

func (r released) Write(p []byte) (int, error) { return len(p), r.Close() }

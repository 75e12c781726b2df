// Package etcdtest runs a real etcd server on loopback for tests.
//
//	s := etcdtest.Start(t)
//	engine, err := etcd.Open(ctx, etcd.Config{Endpoints: []string{s.Endpoint}})
package etcdtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// startTime bounds the wait for a server to answer.
const startTime = 20 * time.Second

// Server is one etcd process with a directory of its own. It is killed when the test ends.
type Server struct {
	// Endpoint is the client URL.
	Endpoint string
	// TLS is what clients need to talk to a server of StartTLS; nil for one of Start.
	TLS *tls.Config

	peer, dir string
	args      []string
	cmd       *exec.Cmd
	output    *bytes.Buffer
}

// Start starts a server and waits until it answers. A missing binary fails the test. More arguments are passed on.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return (&Server{Endpoint: "http://" + freeAddress(t)}).start(t, args)
}

func (s *Server) start(t testing.TB, args []string) *Server {
	t.Helper()
	s.peer, s.dir, s.args = "http://"+freeAddress(t), t.TempDir(), args
	t.Cleanup(s.Kill)
	s.run(t)
	return s
}

// Kill ends the process as a crash would.
func (s *Server) Kill() {
	if s.cmd != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}

// Pause stops the process where it is, as a stalled disk or host would, and returns when none of its threads runs any more: the
// signal alone leaves those running that have not yet looked. Resume lets it go on.
func (s *Server) Pause() error {
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for {
		err := unix.Waitid(unix.P_PID, s.cmd.Process.Pid, nil, unix.WSTOPPED, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Resume ends a Pause.
func (s *Server) Resume() error { return s.cmd.Process.Signal(syscall.SIGCONT) }

// Restart starts the server again on the same directory and addresses, after killing it if it runs.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Kill()
	s.run(t)
}

// run starts the process and waits for its first answer.
func (s *Server) run(t testing.TB) {
	t.Helper()
	binary, err := exec.LookPath("etcd")
	if err != nil {
		t.Fatal("this test needs the etcd server: apt-get install etcd-server")
	}
	s.output = &bytes.Buffer{}
	s.cmd = exec.Command(binary, append([]string{"--name=test", "--data-dir=" + s.dir, "--log-level=error", "--logger=zap",
		"--listen-client-urls=" + s.Endpoint, "--advertise-client-urls=" + s.Endpoint, "--listen-peer-urls=" + s.peer,
		"--initial-advertise-peer-urls=" + s.peer, "--initial-cluster=test=" + s.peer,
		// A lone member elects itself after an election timeout.
		"--heartbeat-interval=10", "--election-timeout=100"}, s.args...)...)
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	// The kernel ends the server with a test process that is killed.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	client := s.Client(t)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	for {
		try, cancel := context.WithTimeout(ctx, time.Second)
		_, err := client.Get(try, "ready")
		cancel()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			s.Kill()
			t.Fatalf("etcd does not answer: %v\n%s", err, s.output)
		}
	}
}

// Client returns a plain client; the caller closes it.
func (s *Server) Client(t testing.TB) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint}, TLS: s.TLS, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// Clear removes every key, so that one server can serve several tests.
func (s *Server) Clear(t testing.TB) {
	t.Helper()
	client := s.Client(t)
	defer client.Close()
	if _, err := client.Delete(context.Background(), "\x00", clientv3.WithFromKey()); err != nil {
		t.Fatal(fmt.Errorf("clear etcd: %w", err))
	}
}

// freeAddress returns a loopback address that nobody listened on a moment ago.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

package clienttest

import (
	"context"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"bareboat.dev/client"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// pipeBytes is the in-memory connection's buffer.
const pipeBytes = 1 << 20

// FailFunc decides whether a request fails, and with which error: a gRPC status error, or an *apierrors.StatusError, which
// is sent as the server would. method is the RPC's name ("Get", "Watch", "Batch", …); an operation within a batch is asked
// about as well, with the method of its own kind. A nil error lets the request through.
type FailFunc func(method string, ref *apiv1.ResourceRef) error

// Server is a model of the API server. All its methods may be called at any time.
type Server struct {
	apiv1.UnimplementedResourceServiceServer

	t      testing.TB
	kinds  map[resourceName]kind
	mu     sync.Mutex
	state  state
	fail   FailFunc
	conns  map[net.Conn]struct{}
	client *client.Client
	dial   func(ctx context.Context, addr string) (net.Conn, error)
}

// NewServer starts a server; it ends with the test.
func NewServer(t testing.TB) *Server {
	s := &Server{t: t, kinds: builtinKinds(), state: newState(), conns: map[net.Conn]struct{}{}}
	listener := bufconn.Listen(pipeBytes)
	s.dial = func(ctx context.Context, _ string) (net.Conn, error) {
		conn, err := listener.DialContext(ctx)
		if err == nil {
			s.mu.Lock()
			s.conns[conn] = struct{}{}
			s.mu.Unlock()
		}
		return conn, err
	}
	g := grpc.NewServer(grpc.MaxRecvMsgSize(maxRequestBytes))
	apiv1.RegisterResourceServiceServer(g, s)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = g.Serve(listener) // ends with Stop
	}()
	s.client = s.NewClient()
	t.Cleanup(func() {
		s.client.Close()
		g.Stop()
		<-served
	})
	return s
}

// Client returns a client of the server, which ends with the test.
func (s *Server) Client() *client.Client { return s.client }

// Dialer connects to the server whatever the address; for client.Config of a program under test.
func (s *Server) Dialer() func(ctx context.Context, addr string) (net.Conn, error) { return s.dial }

// NewClient returns another client of the server; close it, or let the test end.
func (s *Server) NewClient() *client.Client {
	c, err := client.Dial(&client.Config{Endpoints: []string{"clienttest:1"}, Insecure: true, Dialer: s.dial, UserAgent: "clienttest"})
	if err != nil {
		s.t.Fatalf("clienttest: %v", err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// Fail makes requests fail as f says, until it is called again; nil ends it.
func (s *Server) Fail(f FailFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = f
}

// Disconnect breaks every connection, as a crashed server would; clients reconnect.
func (s *Server) Disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
	}
	clear(s.conns)
}

// Compact forgets all history: a watch from an earlier revision, or one that has not read everything yet, ends with OUT_OF_RANGE.
func (s *Server) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.compact()
}

// Revision returns the newest revision.
func (s *Server) Revision() client.Revision {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.revision
}

// Dump returns all objects as readable text, sorted, one line each: resource, key, and what matters of spec and status. It leaves
// out what differs from run to run (uids, times) and resource versions.
func (s *Server) Dump() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.dump()
}

func (s *Server) check(method string, ref *apiv1.ResourceRef) error {
	s.mu.Lock()
	fail := s.fail
	s.mu.Unlock()
	if fail == nil {
		return nil
	}
	return fail(method, ref)
}

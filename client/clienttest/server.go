package clienttest

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"bareboat.dev/client"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// minPing is how often clients may ping; they do every 10 s.
const minPing = 5 * time.Second

// pipeBytes is the in-memory connection's buffer.
const pipeBytes = 1 << 20

// FailFunc decides whether a request fails, and with which error: a gRPC status error, or an *apierrors.StatusError, which
// is sent as the server would. method is the RPC's name ("Get", "Watch", "Batch", …); an operation within a batch is asked
// about as well, with the method of its own kind. A nil error lets the request through. It is asked once at a time, so it
// needs no lock of its own, and must not call the server.
type FailFunc func(method string, ref *apiv1.ResourceRef) error

// Server is a model of the API server. All its methods may be called at any time.
type Server struct {
	apiv1.UnimplementedResourceServiceServer

	t        testing.TB
	listener *bufconn.Listener
	client   *client.Client

	mu    sync.Mutex
	kinds map[resourceName]kind
	state state
	// conns are the clients' ends of the connections, with the client each belongs to.
	conns map[net.Conn]*client.Client

	failing sync.Mutex
	fail    FailFunc
}

// NewServer starts a server; it ends with the test. register may add more services to it, such as a NodeService.
func NewServer(t testing.TB, register ...func(grpc.ServiceRegistrar)) *Server {
	s := &Server{
		t: t, listener: bufconn.Listen(pipeBytes), kinds: builtinKinds(), state: newState(), conns: map[net.Conn]*client.Client{},
	}
	g := grpc.NewServer(grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}))
	apiv1.RegisterResourceServiceServer(g, s)
	healthpb.RegisterHealthServer(g, health.NewServer())
	for _, f := range register {
		f(g)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = g.Serve(s.listener) // ends with Stop
	}()
	t.Cleanup(func() {
		g.Stop()
		<-served
	})
	s.client = s.NewClient()
	return s
}

// Client returns a client of the server, which ends with the test.
func (s *Server) Client() *client.Client { return s.client }

// Dialer connects to the server whatever the address; for client.Config of a program under test.
func (s *Server) Dialer() func(ctx context.Context, addr string) (net.Conn, error) {
	return s.dialer(func() *client.Client { return nil })
}

func (s *Server) dialer(owner func() *client.Client) func(ctx context.Context, addr string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) {
		conn, err := s.listener.DialContext(ctx)
		if err == nil {
			s.mu.Lock()
			s.conns[conn] = owner()
			s.mu.Unlock()
		}
		return conn, err
	}
}

// NewClient returns another client of the server, with a connection of its own; it ends with the test.
func (s *Server) NewClient() *client.Client {
	var c *client.Client
	dial := s.dialer(func() *client.Client { return c })
	c, err := client.Dial(&client.Config{Endpoints: []string{"clienttest:1"}, Insecure: true, Dialer: dial, UserAgent: "clienttest"})
	if err != nil {
		s.t.Fatalf("clienttest: %v", err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// Fail makes requests fail as f says, until it is called again; nil ends it.
func (s *Server) Fail(f FailFunc) {
	s.failing.Lock()
	defer s.failing.Unlock()
	s.fail = f
}

// Disconnect breaks every connection, as a crashed server would, or only those of the given clients; they reconnect.
func (s *Server) Disconnect(of ...*client.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn, owner := range s.conns {
		if len(of) == 0 || slices.Contains(of, owner) {
			conn.Close()
			delete(s.conns, conn)
		}
	}
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
	s.failing.Lock()
	defer s.failing.Unlock()
	if s.fail == nil {
		return nil
	}
	return s.fail(method, ref)
}

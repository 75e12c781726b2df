// Package port lets two servers share one TLS port. A connection is routed once, by what the client offered in its handshake
// (RFC 7301): one that offers only "h2", as gRPC clients do, goes to the gRPC server's own transport; one that offers also or
// only "http/1.1", as browsers, curl and kubectl do, goes to the HTTP server. After that nobody looks at its bytes.
//
//	router := port.New(listener, tlsConfig, log)
//	go grpcServer.Serve(router.GRPC())
//	go httpServer.Serve(router.HTTP())
//	err := router.Run(ctx)
package port

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// handshakeTimeout bounds how long a connection may take to say what it wants.
	handshakeTimeout = 10 * time.Second
	// maxHandshakes bounds how many connections are shaking hands at once. Each takes about 40 KiB and a millisecond of a
	// core, so this is 40 MiB; more wait in the kernel's queue.
	maxHandshakes = 1000
	// acceptPause is how long Accept rests when the process is out of file descriptors.
	acceptPause = 50 * time.Millisecond
)

// Router accepts connections and hands each to one of its two listeners.
type Router struct {
	listener net.Listener
	tls      *tls.Config
	log      *slog.Logger
	grpc     *queue
	http     *queue
}

// New returns a router; tlsConfig's certificates and client authorities may change while it runs if it has a GetConfigForClient.
func New(l net.Listener, tlsConfig *tls.Config, log *slog.Logger) *Router {
	r := &Router{listener: l, log: log, grpc: newQueue(l.Addr()), http: newQueue(l.Addr())}
	r.tls = tlsConfig.Clone()
	inner := r.tls.GetConfigForClient
	r.tls.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if c, ok := hello.Conn.(*raw); ok {
			c.offered = hello.SupportedProtos
		}
		if inner == nil {
			return nil, nil
		}
		return inner(hello)
	}
	return r
}

// raw is a TCP connection that remembers what its client offered.
type raw struct {
	net.Conn
	offered []string
}

// GRPC is where connections for the gRPC server arrive.
func (r *Router) GRPC() net.Listener { return r.grpc }

// HTTP is where all others arrive, as *tls.Conn.
func (r *Router) HTTP() net.Listener { return r.http }

// Run accepts until ctx ends, and then closes the port and both listeners.
func (r *Router) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() {
		<-ctx.Done()
		r.listener.Close()
		r.grpc.Close()
		r.http.Close()
	})
	slots := make(chan struct{}, maxHandshakes)
	for {
		c, err := r.listener.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			r.log.Warn("accepting a connection failed", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			c.Close()
			return nil
		}
		wg.Go(func() {
			defer func() { <-slots }()
			r.route(ctx, c)
		})
	}
}

// route shakes hands and passes the connection on.
func (r *Router) route(ctx context.Context, c net.Conn) {
	under := &raw{Conn: c}
	conn := tls.Server(under, r.tls)
	hctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(hctx); err != nil {
		r.log.Debug("TLS handshake failed", "address", c.RemoteAddr().String(), "error", err)
		c.Close()
		return
	}
	to := r.http
	if slices.Contains(under.offered, "h2") && !slices.Contains(under.offered, "http/1.1") {
		to = r.grpc
	}
	if !to.put(conn) {
		conn.Close()
	}
}

// queue is a net.Listener that is fed by hand.
type queue struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (q *queue) put(c net.Conn) bool {
	select {
	case q.conns <- c:
		return true
	case <-q.done:
		return false
	}
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr implements net.Listener.
func (q *queue) Addr() net.Addr { return q.addr }

package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

const (
	// handshakeLimit bounds a TLS handshake, so that connections that say nothing do not pile up.
	handshakeLimit = 10 * time.Second
	// headerLimit bounds the reading of a request's header.
	headerLimit = 10 * time.Second
	protoGRPC   = "h2"
	protoHTTP   = "http/1.1"
)

// Protocols are those that the node's TLS configuration offers: [ChooseProtocol] decides between them.
func Protocols() []string { return []string{protoGRPC, protoHTTP} }

// ChooseProtocol makes one port serve gRPC and plain HTTPS: a client that offers only h2, as gRPC clients do, gets it; one that
// also offers http/1.1, as browsers, curl and scrapers do, gets that. rpc and web are the configurations for each.
func ChooseProtocol(rpc, web *tls.Config) *tls.Config {
	outer := rpc.Clone()
	outer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		chosen := rpc
		if len(hello.SupportedProtos) == 0 || slices.Contains(hello.SupportedProtos, protoHTTP) {
			chosen = web
		}
		if chosen.GetConfigForClient != nil {
			return chosen.GetConfigForClient(hello)
		}
		return chosen, nil
	}
	return outer
}

// port accepts connections and hands each, once its handshake is done, to the server that speaks its protocol.
type port struct {
	net.Listener
	config *tls.Config
	rpc    *queue
	web    *queue
	wg     sync.WaitGroup
}

// queue is a listener that is fed.
type queue struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
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

// put hands a connection over, or closes it if nobody takes it any more.
func (q *queue) put(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.done:
		_ = c.Close()
	}
}

// accept runs until the listener is closed.
func (p *port) accept(ctx context.Context) error {
	defer p.wg.Wait()
	for {
		c, err := p.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
				return nil
			}
			return err
		}
		p.wg.Go(func() { p.handshake(ctx, c) })
	}
}

func (p *port) handshake(ctx context.Context, raw net.Conn) {
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	c := tls.Server(raw, p.config)
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return
	}
	if c.ConnectionState().NegotiatedProtocol == protoGRPC {
		p.rpc.put(c)
		return
	}
	p.web.put(c)
}

// handshaked are the credentials of connections that have been through their handshake.
type handshaked struct {
	credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (handshaked) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	t, ok := c.(*tls.Conn)
	if !ok {
		return nil, nil, errors.New("not a TLS connection")
	}
	return c, credentials.TLSInfo{State: t.ConnectionState(), CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

// Clone implements credentials.TransportCredentials.
func (h handshaked) Clone() credentials.TransportCredentials { return h }

// serveBoth serves gRPC and HTTPS on one listener until ctx ends, and closes it.
func serveBoth(ctx context.Context, l net.Listener, config *tls.Config, g *grpc.Server, handler http.Handler) error {
	p := &port{Listener: l, config: config, rpc: newQueue(l.Addr()), web: newQueue(l.Addr())}
	web := &http.Server{Handler: handler, ReadHeaderTimeout: headerLimit}
	stop := context.AfterFunc(ctx, func() {
		_ = l.Close()
		g.Stop()
		_ = web.Close()
	})
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.Serve(p.rpc) })
	wg.Go(func() { _ = web.Serve(p.web) })
	err := p.accept(ctx)
	g.Stop()
	_ = web.Close()
	_ = p.rpc.Close()
	_ = p.web.Close()
	wg.Wait()
	return err
}

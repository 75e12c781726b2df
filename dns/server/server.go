package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"

	"bareboat.dev/dns/forward"
	"bareboat.dev/dns/zone"
)

// Limits of serving.
const (
	// maxUDP is the largest datagram that is sent: it fits any path without fragments (DNS flag day 2020).
	maxUDP = 1232
	// maxConns is how many TCP connections are open at once, about 30 KiB each; a pod needs one at a time, and only for
	// answers beyond 1,232 bytes.
	maxConns = 500
	// idle is how long a TCP connection may wait for its next question (RFC 7766 asks for seconds).
	idle = 10 * time.Second
	// patience is how long one query may take; the forwarder gives up a little sooner.
	patience = 5 * time.Second
	// maxAliases bounds a chain of aliases that begins in the zone; resolvers follow about as many.
	maxAliases = 8
)

// Config is what a Server serves with.
type Config struct {
	Zone   zone.Zone
	Source zone.Source
	// Ready says whether Source is complete.
	Ready func() bool
	// Forward answers names outside the zone; nil: they are refused.
	Forward *forward.Forwarder
	Metrics *Metrics // nil: none
	Log     *slog.Logger
}

// Server answers DNS queries.
type Server struct{ cfg Config }

// New makes a server.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg}
}

// Listener is one address' sockets.
type Listener struct {
	UDP net.PacketConn
	TCP net.Listener
}

// Listen opens the sockets of an address.
func Listen(addr netip.AddrPort) (Listener, error) {
	udp, err := net.ListenPacket("udp", addr.String())
	if err != nil {
		return Listener{}, fmt.Errorf("dns: %w", err)
	}
	port := udp.LocalAddr().(*net.UDPAddr).Port // port 0 means any: then the same for both
	tcp, err := net.Listen("tcp", netip.AddrPortFrom(addr.Addr(), uint16(port)).String())
	if err != nil {
		udp.Close()
		return Listener{}, fmt.Errorf("dns: %w", err)
	}
	return Listener{udp, tcp}, nil
}

// Close closes both sockets.
func (l Listener) Close() { l.UDP.Close(); l.TCP.Close() }

// Serve answers on the listeners until ctx ends, and closes them.
func (s *Server) Serve(ctx context.Context, listeners []Listener) error {
	var servers []*dns.Server
	results := make(chan error, 2*len(listeners))
	for _, l := range listeners {
		servers = append(servers,
			&dns.Server{PacketConn: l.UDP, Handler: s, UDPSize: dns.MaxMsgSize, MsgAcceptFunc: accept},
			&dns.Server{
				Listener: netutil.LimitListener(l.TCP, maxConns), Handler: s, MsgAcceptFunc: accept,
				IdleTimeout: func() time.Duration { return idle }, ReadTimeout: idle, WriteTimeout: idle,
			})
	}
	for _, srv := range servers {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		failed := make(chan struct{})
		go func() {
			err := srv.ActivateAndServe()
			results <- err
			close(failed)
		}()
		select { // a server can be shut down only once it has started
		case <-started:
		case <-failed:
		}
	}
	var err error
	running := len(servers)
	select {
	case <-ctx.Done():
	case err = <-results:
		running--
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	for _, srv := range servers {
		srv.ShutdownContext(grace) // one that has ended already says so; nothing is to be done about it
	}
	for range running {
		err = errors.Join(err, <-results)
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// accept decides on the header alone what becomes of a message.
func accept(h dns.Header) dns.MsgAcceptAction {
	const response = 1 << 15
	if h.Bits&response != 0 {
		return dns.MsgIgnore // an answer to an answer would be a loop
	}
	if opcode := int(h.Bits>>11) & 0xF; opcode != dns.OpcodeQuery {
		return dns.MsgRejectNotImplemented
	}
	if h.Qdcount != 1 || h.Ancount > 0 || h.Nscount > 1 || h.Arcount > 2 {
		return dns.MsgReject
	}
	return dns.MsgAccept
}

package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"bareboat.dev/kubelet/shim"
)

// serve answers the one request of a connection.
func (s *Server) serve(conn *shim.Conn) {
	defer s.worked()
	defer conn.Close()
	var r shim.Request
	if err := conn.Receive(&r); err != nil {
		_ = conn.Send(shim.Reply{Error: shim.NewWireError(err)})
		return
	}
	switch r.Op {
	case shim.OpEvents:
		ctx, cancel := s.whileConnected(conn)
		defer cancel()
		s.events(ctx, conn)
	case shim.OpExec:
		ctx, cancel := s.whileConnected(conn)
		defer cancel()
		s.exec(ctx, conn, &r)
	case shim.OpAttach:
		ctx, cancel := s.whileConnected(conn)
		defer cancel()
		s.attach(ctx, conn, &r)
	case shim.OpDial:
		ctx, cancel := s.whileConnected(conn)
		defer cancel()
		s.dial(ctx, conn, &r)
	case shim.OpShutdown:
		err := s.shutdown()
		_ = conn.Send(shim.Reply{Error: shim.NewWireError(err)})
		if err == nil {
			s.stop()
		}
	default:
		reply, err := s.answer(&r)
		reply.Error = shim.NewWireError(err)
		_ = conn.Send(reply)
	}
}

// answer handles the requests that have one reply.
func (s *Server) answer(r *shim.Request) (reply shim.Reply, err error) {
	switch r.Op {
	case shim.OpCreate:
		if r.Container == nil {
			return reply, fmt.Errorf("%w: no container", shim.ErrInvalid)
		}
		return reply, s.create(*r.Container)
	case shim.OpStart:
		reply.PID, err = s.start(r.ID)
		return reply, err
	case shim.OpSignal:
		return reply, s.signal(r.ID, r.Signal, r.All)
	case shim.OpDelete:
		return reply, s.delete(r.ID)
	case shim.OpResize:
		return reply, s.resize(r.ID, r.Size)
	case shim.OpReopen:
		ctr, err := s.find(r.ID)
		if err != nil {
			return reply, err
		}
		return reply, ctr.io.log.reopen()
	case shim.OpUpdate:
		return reply, s.update(r.ID, r.Resources)
	case shim.OpState:
		reply.State = &shim.State{Containers: []shim.ContainerStatus{}}
		for _, ctr := range s.all() {
			reply.State.Containers = append(reply.State.Containers, ctr.snapshot())
		}
		return reply, nil
	default:
		return reply, fmt.Errorf("%w: operation %q", shim.ErrInvalid, r.Op)
	}
}

// whileConnected returns a context that ends when the client closes its connection: after its request a client sends nothing.
func (s *Server) whileConnected(conn *shim.Conn) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		var one [1]byte
		_, _ = conn.Read(one[:])
		cancel()
	}()
	return ctx, cancel
}

// dial connects from the pod's network namespace, which is podshim's own, and passes the socket.
func (s *Server) dial(ctx context.Context, conn *shim.Conn, r *shim.Request) {
	c, err := s.connectTo(ctx, r.Network, r.Address)
	if err != nil {
		_ = conn.Send(shim.Reply{Error: shim.NewWireError(err)})
		return
	}
	defer c.Close()
	file, err := c.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		_ = conn.Send(shim.Reply{Error: shim.NewWireError(err)})
		return
	}
	defer file.Close()
	_ = conn.Send(shim.Reply{}, file)
}

func (s *Server) connectTo(ctx context.Context, network, address string) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
	default:
		return nil, fmt.Errorf("%w: network %q", shim.ErrInvalid, network)
	}
	// Names would be looked up with the host's files in the pod's network: only addresses make sense.
	host, _, err := net.SplitHostPort(address)
	if err != nil || net.ParseIP(host) == nil {
		return nil, fmt.Errorf("%w: address %q", shim.ErrInvalid, address)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%s: %w", address, shim.ErrRefused)
	}
	return c, err
}

package reach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"google.golang.org/grpc/status"

	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// chunk is how much of a connection goes into one message.
const chunk = 32 << 10

// tunnel opens a connection into a pod through its kubelet. The connection lives until either end closes it, whatever becomes of
// ctx.
func (n *Network) tunnel(ctx context.Context, t target, at netip.AddrPort) (net.Conn, error) {
	k, err := n.cfg.Nodes.Kubelet(ctx, t.node)
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	undo := context.AfterFunc(ctx, end)
	stream, err := k.Service().PortForward(life)
	if err == nil {
		err = begin(stream, t, at)
	}
	if !undo() && err == nil { // ctx ended while the connection was being made
		err = ctx.Err()
	}
	if err != nil {
		end()
		return nil, fmt.Errorf("connecting to port %d of pod %s/%s through node %s: %w", at.Port(), t.namespace, t.pod, t.node, plain(err))
	}
	near, far := net.Pipe()
	go func() {
		defer end()
		carryOut(stream, far)
	}()
	go func() {
		defer end()
		carryIn(stream, far)
	}()
	return near, nil
}

type forward interface {
	Send(*nodev1.PortForwardRequest) error
	Recv() (*nodev1.PortForwardResponse, error)
}

// begin asks for the connection and waits until it stands.
func begin(stream forward, t target, at netip.AddrPort) error {
	start := &nodev1.PortForwardRequest_Start{Namespace: t.namespace, Pod: t.pod, Uid: t.uid, Address: at.Addr().String(), Port: uint32(at.Port())}
	if err := stream.Send(&nodev1.PortForwardRequest{Request: &nodev1.PortForwardRequest_Start_{Start: start}}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, err := stream.Recv()
	return err
}

// carryOut sends what this side writes until it closes.
func carryOut(stream forward, from net.Conn) {
	for {
		buf := make([]byte, chunk)
		n, err := from.Read(buf)
		if n > 0 && stream.Send(&nodev1.PortForwardRequest{Request: &nodev1.PortForwardRequest_Data{Data: buf[:n]}}) != nil {
			return
		}
		if err != nil {
			// The call may have ended already.
			_ = stream.Send(&nodev1.PortForwardRequest{Request: &nodev1.PortForwardRequest_DataClosed{DataClosed: true}})
			return
		}
	}
}

// carryIn delivers what the pod writes, and closes this side when the pod has.
func carryIn(stream forward, to net.Conn) {
	defer to.Close()
	for {
		m, err := stream.Recv()
		if err != nil {
			return
		}
		if _, err := to.Write(m.GetData()); err != nil {
			return
		}
	}
}

// plain is a gRPC error's message, which a person reads.
func plain(err error) error {
	if s, ok := status.FromError(err); ok {
		return errors.New(s.Message())
	}
	return err
}

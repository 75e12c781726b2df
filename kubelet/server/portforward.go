package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// PortForward carries one TCP connection into a pod.
func (s *Server) PortForward(stream nodev1.NodeService_PortForwardServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil || start.GetPort() == 0 || start.GetPort() > 65535 {
		return status.Error(codes.InvalidArgument, "the first request must name a pod and a port from 1 to 65535")
	}
	conn, err := s.dial(stream.Context(), start)
	if err != nil {
		return toStatus(err)
	}
	defer conn.Close()
	if err := stream.Send(&nodev1.PortForwardResponse{}); err != nil {
		return err
	}
	go forwardIn(stream, conn)
	_, err = io.CopyBuffer(onlyWriter{writer(func(p []byte) error {
		return stream.Send(&nodev1.PortForwardResponse{Data: p})
	})}, conn, make([]byte, chunkSize))
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return toStatus(err)
}

// dial connects to the port that start names, in the very pod that it names.
func (s *Server) dial(ctx context.Context, start *nodev1.PortForwardRequest_Start) (net.Conn, error) {
	sandbox, addresses, err := s.pods.SandboxOf(start.GetNamespace(), start.GetPod())
	if err != nil {
		return nil, err
	}
	if uid := start.GetUid(); uid != "" && uid != sandbox.Config().UID {
		return nil, status.Errorf(codes.NotFound, "pod %q with uid %s not found on this node", start.GetNamespace()+"/"+start.GetPod(), uid)
	}
	port := strconv.Itoa(int(start.GetPort()))
	if address := start.GetAddress(); address != "" {
		if !slices.ContainsFunc(addresses, func(own string) bool { return sameAddress(own, address) }) {
			return nil, status.Errorf(codes.InvalidArgument, "%s is no address of pod %q", address, start.GetNamespace()+"/"+start.GetPod())
		}
		return sandbox.Dial(ctx, "tcp", net.JoinHostPort(address, port))
	}
	conn, err := sandbox.Dial(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		conn, err = sandbox.Dial(ctx, "tcp", net.JoinHostPort("::1", port))
	}
	return conn, err
}

// sameAddress compares addresses, which may be written in several ways.
func sameAddress(a, b string) bool {
	x, err := netip.ParseAddr(a)
	y, err2 := netip.ParseAddr(b)
	return err == nil && err2 == nil && x == y
}

// onlyWriter hides everything but Write, so that a copy goes through our buffer.
type onlyWriter struct{ io.Writer }

// forwardIn carries what the client sends to the pod, and closes the connection when the client is gone.
func forwardIn(stream nodev1.NodeService_PortForwardServer, conn net.Conn) {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) || err == nil && m.GetDataClosed() {
			if half, ok := conn.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
			if err != nil {
				return
			}
			continue
		}
		if err != nil {
			_ = conn.Close()
			return
		}
		if _, err := conn.Write(m.GetData()); err != nil {
			return
		}
	}
}

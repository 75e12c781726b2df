package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"bareboat.dev/kubelet/agent"
	"bareboat.dev/kubelet/image"
	"bareboat.dev/kubelet/shim"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// Pods is what the server needs of the agent; [agent.Agent] is one.
type Pods interface {
	Instance(namespace, pod, container string, previous bool) (agent.Instance, error)
	SandboxOf(namespace, pod string) (sandbox agent.Sandbox, addresses []string, err error)
	RunningContainers(namespace, pod string) []agent.Running
}

// Server implements NodeService.
type Server struct {
	nodev1.UnimplementedNodeServiceServer
	pods   Pods
	images *image.Store
	// changed is called when the store's images have.
	changed func()
}

// New makes a server. imagesChanged is called after images were loaded or removed.
func New(pods Pods, images *image.Store, imagesChanged func()) *Server {
	return &Server{pods: pods, images: images, changed: imagesChanged}
}

const (
	// maxMessage bounds one message: streams carry chunks of at most chunkSize, and gRPC's own default for the rest is plenty.
	maxMessage = 4 << 20
	// chunkSize is how much of a stream goes into one message.
	chunkSize = 32 << 10
	// keepaliveAfter is when an idle connection is probed, so that streams to a vanished API server end.
	keepaliveAfter = 30 * time.Second
)

// Serve serves NodeService, and web over HTTPS, on the listener until ctx ends, and closes it. Streams are given no grace:
// their clients see the node go. config is what [ChooseProtocol] makes.
func (s *Server) Serve(ctx context.Context, l net.Listener, config *tls.Config, web http.Handler) error {
	g := grpc.NewServer(grpc.Creds(handshaked{credentials.NewTLS(config)}), grpc.MaxRecvMsgSize(maxMessage),
		grpc.UnaryInterceptor(authorizeUnary), grpc.StreamInterceptor(authorizeStream),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveAfter}))
	nodev1.RegisterNodeServiceServer(g, s)
	reflection.Register(g)
	if err := serveBoth(ctx, l, config, g, web); err != nil {
		return fmt.Errorf("serve the node's API: %w", err)
	}
	return nil
}

// toStatus maps errors to gRPC's codes, at this edge only.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	code := codes.Internal
	for _, m := range []struct {
		is   error
		code codes.Code
	}{
		{agent.ErrNotFound, codes.NotFound}, {shim.ErrNotFound, codes.NotFound}, {image.ErrNotFound, codes.NotFound}, {os.ErrNotExist, codes.NotFound},
		{agent.ErrInvalid, codes.InvalidArgument}, {shim.ErrInvalid, codes.InvalidArgument}, {image.ErrInvalidName, codes.InvalidArgument},
		{image.ErrUnsafe, codes.InvalidArgument}, {image.ErrCorrupt, codes.InvalidArgument}, {image.ErrTooLarge, codes.InvalidArgument},
		{shim.ErrNotRunning, codes.FailedPrecondition}, {shim.ErrStart, codes.InvalidArgument}, {shim.ErrRefused, codes.Unavailable},
		{shim.ErrShimDead, codes.Unavailable}, {image.ErrInUse, codes.FailedPrecondition},
		{context.Canceled, codes.Canceled}, {context.DeadlineExceeded, codes.DeadlineExceeded},
	} {
		if errors.Is(err, m.is) {
			code = m.code
			break
		}
	}
	return status.Error(code, err.Error())
}

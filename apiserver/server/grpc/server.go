package grpc

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path"
	"strings"
	"time"

	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/server/inflight"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

const (
	// maxMessage bounds a request: a batch of a thousand 4 KiB objects is 4 MiB, and one object is at most 3 MiB.
	maxMessage = 16 << 20
	// maxStreams bounds one connection's concurrent streams. A kubelet holds about a dozen watches.
	maxStreams = 1000
	// workers are goroutines that serve calls one after the other, so that not every call begins with a small stack and copies it
	// once it is too small, which is a tenth of what a creation costs. A watch keeps its worker: there are enough for the hundred
	// watches of a small cluster's daemons and as many calls at once. What finds none free has a goroutine of its own. An idle
	// one takes 2.5 KiB.
	workers = 256
	// Clients may ping this often, also without streams; the server pings idle connections so that dead peers' watches end.
	minPing    = 5 * time.Second
	serverPing = 30 * time.Second
	pingWait   = 20 * time.Second
)

// Config is what a Server is made of.
type Config struct {
	Pipeline      *pipeline.Pipeline
	Authenticator *authn.Authenticator
	Limiter       *inflight.Limiter
	// Nodes serves NodeService by proxying to kubelets; nil serves none.
	Nodes nodev1.NodeServiceServer
	// Version answers GetVersion.
	Version *apiv1.GetVersionResponse
	// LongRunning is told +1 when a watch begins and -1 when it ends, with the resource; nil if nobody counts.
	LongRunning func(r *pipeline.Request, delta int)
	Now         func() time.Time
	Log         *slog.Logger
}

// Server is the gRPC door.
type Server struct {
	apiv1.UnimplementedResourceServiceServer
	apiv1.UnimplementedDiscoveryServiceServer

	cfg    Config
	kinds  map[string]schema.GroupVersionKind
	rpc    *rpc.Server
	health *health.Server
	// stopping ends when watches must because the server does.
	stopping context.Context
	stop     context.CancelFunc
}

// NewServer returns a door that serves nothing yet.
func NewServer(cfg Config) *Server {
	s := &Server{cfg: cfg, kinds: bodyKinds(cfg.Pipeline.Set()), health: health.NewServer()}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.rpc = rpc.NewServer(
		rpc.Creds(handshaken{}),
		rpc.ForceServerCodecV2(newCodec()),
		rpc.MaxRecvMsgSize(maxMessage),
		rpc.MaxConcurrentStreams(maxStreams),
		rpc.NumStreamWorkers(workers),
		rpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		rpc.KeepaliveParams(keepalive.ServerParameters{Time: serverPing, Timeout: pingWait}),
		rpc.UnaryInterceptor(s.unary),
		rpc.StreamInterceptor(s.stream),
	)
	apiv1.RegisterResourceServiceServer(s.rpc, s)
	apiv1.RegisterDiscoveryServiceServer(s.rpc, s)
	if cfg.Nodes != nil {
		nodev1.RegisterNodeServiceServer(s.rpc, cfg.Nodes)
	}
	healthpb.RegisterHealthServer(s.rpc, s.health)
	reflection.Register(s.rpc)
	return s
}

// Serve accepts connections whose TLS handshake is done until the listener closes.
func (s *Server) Serve(l net.Listener) error {
	err := s.rpc.Serve(l)
	if errors.Is(err, rpc.ErrServerStopped) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Handler serves gRPC requests that came over an HTTP server's connection.
func (s *Server) Handler() *rpc.Server { return s.rpc }

// Stop ends watches, so that their clients go on elsewhere, lets running calls end, and then closes the connections. When ctx
// ends first it closes them at once.
func (s *Server) Stop(ctx context.Context) {
	s.stop()
	s.health.Shutdown()
	done := make(chan struct{})
	go func() {
		s.rpc.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.rpc.Stop()
		<-done
	}
}

// handshaken are the transport credentials of connections that the port's router has already shaken hands on.
type handshaken struct{}

// ServerHandshake implements credentials.TransportCredentials.
func (handshaken) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	t, ok := c.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return nil, nil, errors.New("connection is not TLS")
	}
	return c, credentials.TLSInfo{
		State: t.ConnectionState(), CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

// ClientHandshake implements credentials.TransportCredentials; the server is no client.
func (handshaken) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a server's")
}

// Info implements credentials.TransportCredentials.
func (handshaken) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (h handshaken) Clone() credentials.TransportCredentials { return h }

// OverrideServerName implements credentials.TransportCredentials.
func (handshaken) OverrideServerName(string) error { return nil }

type callerKey struct{}

// CallerOf returns the caller that the interceptors put into a call's context.
func CallerOf(ctx context.Context) pipeline.Caller {
	c, _ := ctx.Value(callerKey{}).(pipeline.Caller)
	return c
}

// identify authenticates a call and returns a context that carries the caller.
func (s *Server) identify(ctx context.Context, method string) (context.Context, error) {
	cred := authn.Credentials{Path: method}
	caller, start := pipeline.Caller{Door: "grpc", URI: method}, s.cfg.Now()
	refuse := func(err error) (context.Context, error) {
		s.cfg.Pipeline.Observed(ctx, &pipeline.Request{Caller: caller, Verb: pipeline.Verb(strings.ToLower(path.Base(method)))}, start, err)
		return nil, err
	}
	if pr, ok := peer.FromContext(ctx); ok {
		caller.Address = pr.Addr.String()
		if info, ok := pr.AuthInfo.(credentials.TLSInfo); ok {
			cred.Chains = info.State.VerifiedChains
		}
	}
	md, _ := metadata.FromIncomingContext(ctx) // a copy, with keys in lower case
	if v := md["authorization"]; len(v) > 0 {
		cred.Token = bearer(v[0])
	}
	if v := md["user-agent"]; len(v) > 0 {
		caller.UserAgent = v[0]
	}
	if s.cfg.Authenticator.Proxies != nil {
		cred.Header = http.Header{}
		for name, values := range md {
			cred.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	id, err := s.cfg.Authenticator.Authenticate(ctx, cred)
	if err != nil {
		s.cfg.Log.Info("refused credentials", "address", caller.Address, "error", err)
		return refuse(pipeline.Unauthorized())
	}
	caller.User = id
	if caller, err = s.cfg.Pipeline.Impersonate(ctx, caller, md); err != nil {
		return refuse(err)
	}
	if err := s.authorizeMethod(ctx, caller.User, method); err != nil {
		return refuse(err)
	}
	return context.WithValue(ctx, callerKey{}, caller), nil
}

// bearer takes the token out of an Authorization header.
func bearer(header string) string {
	scheme, token, ok := strings.Cut(strings.TrimSpace(header), " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// authorizeMethod decides on the services that are not about objects, as the REST paths that serve the same.
func (s *Server) authorizeMethod(ctx context.Context, id *authn.Identity, method string) error {
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	at := ""
	switch {
	case service == healthpb.Health_ServiceDesc.ServiceName:
		at = "/healthz"
	case strings.HasPrefix(service, "grpc.reflection."):
		at = "/openapi/v3"
	case method == apiv1.DiscoveryService_GetVersion_FullMethodName:
		at = "/version"
	case service == apiv1.DiscoveryService_ServiceDesc.ServiceName:
		at = "/apis"
	default:
		return nil
	}
	return s.cfg.Pipeline.AuthorizeAttributes(ctx, &authz.Attributes{User: id, Verb: "get", Path: at})
}

// enter counts a call against the bounds, from which administrators are exempt.
func (s *Server) enter(ctx context.Context, kind inflight.Kind) (leave func(), err error) {
	return s.cfg.Limiter.Enter(kind, CallerOf(ctx).User.In(authn.Masters))
}

// unaryKind is what a unary method counts as.
func unaryKind(method string) inflight.Kind {
	switch method {
	case apiv1.ResourceService_Create_FullMethodName, apiv1.ResourceService_Update_FullMethodName, apiv1.ResourceService_Patch_FullMethodName,
		apiv1.ResourceService_Delete_FullMethodName, apiv1.ResourceService_DeleteCollection_FullMethodName, apiv1.ResourceService_Batch_FullMethodName:
		return inflight.Write
	}
	return inflight.Read
}

// streamKind is what a streaming method counts as. Health checks and reflection are not counted: each is bounded by its
// connection, and they must answer when nothing else does.
func streamKind(method string) (kind inflight.Kind, counted bool) {
	switch {
	case method == apiv1.ResourceService_List_FullMethodName:
		return inflight.Read, true
	case method == apiv1.ResourceService_Watch_FullMethodName:
		return inflight.Watch, true
	case strings.HasPrefix(method, "/"+nodev1.NodeService_ServiceDesc.ServiceName+"/"):
		return inflight.Stream, true
	}
	return 0, false
}

func (s *Server) unary(ctx context.Context, req any, info *rpc.UnaryServerInfo, handler rpc.UnaryHandler) (any, error) {
	ctx, err := s.identify(ctx, info.FullMethod)
	if err != nil {
		return nil, toError(err)
	}
	leave, err := s.enter(ctx, unaryKind(info.FullMethod))
	if err != nil {
		return nil, toError(err)
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, inflight.RequestTimeout)
	defer cancel()
	resp, err := handler(ctx, req)
	return resp, toError(err)
}

func (s *Server) stream(srv any, ss rpc.ServerStream, info *rpc.StreamServerInfo, handler rpc.StreamHandler) error {
	ctx, err := s.identify(ss.Context(), info.FullMethod)
	if err != nil {
		return toError(err)
	}
	if kind, counted := streamKind(info.FullMethod); counted {
		leave, err := s.enter(ctx, kind)
		if err != nil {
			return toError(err)
		}
		defer leave()
	}
	return toError(handler(srv, &callStream{ServerStream: ss, ctx: ctx}))
}

// callStream is a stream whose context carries the caller.
type callStream struct {
	rpc.ServerStream
	ctx context.Context
}

// Context implements rpc.ServerStream.
func (s *callStream) Context() context.Context { return s.ctx }

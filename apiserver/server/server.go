// Package server puts the API server together: store, watch caches, pipeline, and the two doors on one TLS port. cmd/apiserver
// is its command line; tests run it with a memory store.
//
//	s, err := server.New(server.Config{Engine: engine, TLS: tlsConfig, …})
//	err = s.Run(ctx, listener, func() { env.Ready() })
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/version"

	"bareboat.dev/apiserver/admission/configfile"
	"bareboat.dev/apiserver/aggregator"
	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/bootstrap"
	"bareboat.dev/apiserver/customresource"
	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/review"
	"bareboat.dev/apiserver/server/audit"
	"bareboat.dev/apiserver/server/grpc"
	"bareboat.dev/apiserver/server/inflight"
	"bareboat.dev/apiserver/server/metrics"
	"bareboat.dev/apiserver/server/node"
	"bareboat.dev/apiserver/server/port"
	"bareboat.dev/apiserver/server/reach"
	"bareboat.dev/apiserver/server/rest"
	"bareboat.dev/apiserver/servicecidr"
	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/watchcache"
	"bareboat.dev/apiserver/webhook"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

const (
	// drainTimeout bounds how long requests under way delay the end.
	drainTimeout = 5 * time.Second
	// httpHeaderTimeout and httpIdleTimeout bound clients that send nothing.
	httpHeaderTimeout = 32 * time.Second
	httpIdleTimeout   = 90 * time.Second
	maxHeader         = 64 << 10
	// maxHTTP2Streams bounds one connection's requests: informers hold a watch for each kind on one connection, so Go's
	// default of 250 could stall a client; kube-apiserver allows as many.
	maxHTTP2Streams = 1000
)

// Config is what a Server is made of.
type Config struct {
	// Set is what is served.
	Set    *registry.Set
	Engine storage.Engine
	// TLS of the port; its client certificates identify callers.
	TLS *tls.Config
	// Kubelet makes the TLS configuration of each connection to a kubelet; nil serves no NodeService.
	Kubelet func() (*tls.Config, error)
	// Tokens configures ServiceAccount tokens; a nil Signer means there are none.
	Tokens authn.IssuerConfig
	// Identity says whose other credentials are good.
	Identity Identity
	// ProxyCertificate is how aggregated API servers know this one, Trust what is published for them; both may be nil.
	ProxyCertificate func() (*tls.Certificate, error)
	Trust            *aggregator.Trust
	// Name, Advertise and ServiceIP are for default/kubernetes, ServiceCIDRs for the ServiceCIDR of that name.
	Name         string
	Advertise    string
	Port         int32
	ServiceIP    string
	ServiceCIDRs []netip.Prefix
	// Limits bound the requests under way.
	Limits inflight.Limits
	// Disabled names admission plugins that do not run; Admission configures those that do.
	Disabled  []string
	Admission configfile.Configuration
	// AuditLog gets a line for each request; nil writes none.
	AuditLog io.Writer
	Metrics  *prometheus.Registry
	// Admin serves the process's own endpoints, by path.
	Admin map[string]http.Handler
	// Version of Kubernetes' API, as clients see it.
	Version version.Info
	Now     func() time.Time
	Log     *slog.Logger
}

// Server is an API server.
type Server struct {
	cfg        Config
	feed       *watchcache.Feed
	pipeline   *pipeline.Pipeline
	grpc       *grpc.Server
	http       *http.Server
	nodes      *node.Proxy
	network    *reach.Network
	aggregator *aggregator.Aggregator
	flows      flows
	keeper     *bootstrap.Keeper
	addresses  *servicecidr.Keeper
	rules      *rules
	customs    *customresource.Runner
	// webhooks calls admission and conversion webhooks.
	webhooks *webhook.Client
}

// New puts a server together. Nothing runs yet.
func New(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, feed: watchcache.NewFeed(cfg.Engine, watchcache.FeedConfig{Prefix: "/registry/", Log: cfg.Log})}
	limiter := inflight.New(cfg.Limits)
	requests := metrics.NewRequests(cfg.Metrics, limiter)
	observers := []pipeline.Observer{requests}
	if cfg.AuditLog != nil {
		observers = append(observers, audit.New(cfg.AuditLog, cfg.Log))
	}
	known := &later{}
	issuer, auth, err := newAuthenticator(cfg, known)
	if err != nil {
		return nil, err
	}
	connectors := map[string]pipeline.Connector{"/pods/eviction": evict, "/bindings/": bindPod}
	if issuer != nil {
		tokens := &tokens{issuer: issuer, now: cfg.Now, id: func() string { return s.pipeline.NewID() }}
		connectors["/serviceaccounts/token"] = tokens.connect
	}
	s.rules = newRules()
	reviewer := &review.Reviewer{RBAC: &s.rules.rbac, Tokens: auth}
	maps.Copy(connectors, reviewer.Connectors())
	authorizer := authz.Chain{authz.HealthPaths{}, authz.Masters{}, &authz.Node{Graph: known}, s.rules}
	reviewer.Authorizer = authorizer
	s.pipeline, err = pipeline.New(pipeline.Config{
		Set: cfg.Set, Dynamic: true, Engine: metrics.NewEngine(cfg.Metrics, cfg.Engine), Feed: s.feed,
		Authorizer: authorizer,
		Elsewhere:  func(group, version string) bool { return s.aggregator.Serves(group, version) },
		Connectors: connectors, Computed: map[string]pipeline.Computed{"/componentstatuses": s.componentStatuses}, Observers: observers, Now: cfg.Now, Rand: rand.IntN, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	s.webhooks = webhook.New(func(ctx context.Context, namespace, name string, port int32) (net.Conn, error) {
		return s.network.Dial(ctx, namespace, name, port)
	})
	s.customs = customresource.New(customresource.Config{Pipeline: s.pipeline, Call: s.webhooks.Call, Now: cfg.Now, Log: cfg.Log})
	s.pipeline.SetCatchUp(s.customs.CatchUp)
	known.objects = objects{s.pipeline}
	plugins, err := s.plugins(authorizer)
	if err != nil {
		return nil, err
	}
	s.pipeline.SetPlugins(plugins)
	s.doors(auth, issuer, limiter, requests)
	s.keeper = bootstrap.New(bootstrap.Config{
		Pipeline: s.pipeline, Identity: cfg.Name, Address: cfg.Advertise, Port: cfg.Port, ServiceIP: cfg.ServiceIP, ServiceCIDRs: cfg.ServiceCIDRs,
		Now: cfg.Now, Log: cfg.Log,
	})
	s.addresses = servicecidr.New(servicecidr.Config{Pipeline: s.pipeline, Now: cfg.Now, Log: cfg.Log})
	return s, nil
}

// later is the objects that authentication and authorization look at; the pipeline, which has them, is made after both.
type later struct{ objects }

func (s *Server) doors(auth *authn.Authenticator, issuer *authn.Issuer, limiter *inflight.Limiter, requests *metrics.Requests) {
	cfg := grpc.Config{
		Pipeline: s.pipeline, Authenticator: auth, Limiter: limiter, Version: versionMessage(s.cfg.Version),
		LongRunning: requests.LongRunning, Now: s.cfg.Now, Log: s.cfg.Log,
	}
	if s.cfg.Kubelet != nil {
		s.nodes = node.New(node.Config{Pipeline: s.pipeline, TLS: s.cfg.Kubelet, Caller: grpc.CallerOf, LongRunning: requests.LongRunning})
		cfg.Nodes = s.nodes
	}
	s.grpc = grpc.NewServer(cfg)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	restConfig := rest.Config{
		Pipeline: s.pipeline, Authenticator: auth, Limiter: limiter, Admin: s.cfg.Admin, Issuer: issuer, Version: s.cfg.Version,
		GRPC: s.grpc.Handler(), LongRunning: requests.LongRunning, Now: s.cfg.Now, Log: s.cfg.Log,
	}
	s.network = reach.New(reach.Config{Pipeline: s.pipeline, Nodes: s.nodes})
	restConfig.Backends = s.network
	s.aggregator = aggregator.New(aggregator.Config{
		Pipeline: s.pipeline, Network: s.network, Certificate: s.cfg.ProxyCertificate, Trust: s.cfg.Trust, Now: s.cfg.Now, Log: s.cfg.Log,
	})
	restConfig.Aggregated, restConfig.Flows = s.aggregator, &s.flows
	if s.nodes != nil {
		restConfig.Nodes = s.nodes
	}
	door := rest.New(restConfig)
	s.http = &http.Server{
		Handler:   door,
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: maxHTTP2Streams},
		Protocols: protocols, ReadHeaderTimeout: httpHeaderTimeout, IdleTimeout: httpIdleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	s.http.RegisterOnShutdown(door.Stop)
}

func versionMessage(v version.Info) *apiv1.GetVersionResponse {
	return &apiv1.GetVersionResponse{
		GitVersion: v.GitVersion, Major: v.Major, Minor: v.Minor, GitCommit: v.GitCommit, BuildDate: v.BuildDate, GoVersion: v.GoVersion, Platform: v.Platform,
	}
}

// Version is what clients are told: the Kubernetes release whose API is served, and this build.
func Version(commit, date string) version.Info {
	return version.Info{
		Major: "1", Minor: "37", GitVersion: "v1.37.2+bareboat", GitCommit: commit, GitTreeState: "clean", BuildDate: date,
		GoVersion: runtime.Version(), Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

// Pipeline is the server's pipeline, for health checks and tests.
func (s *Server) Pipeline() *pipeline.Pipeline { return s.pipeline }

// Healthy reports whether the store answers and the caches follow it.
func (s *Server) Healthy(ctx context.Context) error {
	rev, err := s.cfg.Engine.Current(ctx)
	if err != nil {
		return err
	}
	return s.feed.WaitRevision(ctx, rev)
}

// Run serves on the listener, which it closes, until ctx ends, and then drains: watches end, requests under way finish. ready is
// called once requests are answered.
func (s *Server) Run(ctx context.Context, l net.Listener, ready func()) error {
	// Requests need the caches to the last, so the feed outlives ctx.
	feedCtx, stopFeed := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFeed()
	var feed errgroup.Group
	feed.Go(func() error { return s.feed.Run(feedCtx) })
	defer func() {
		stopFeed()
		feed.Wait()
	}()
	router := port.New(l, s.cfg.TLS, s.cfg.Log)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return router.Run(ctx) })
	group.Go(func() error { return s.grpc.Serve(router.GRPC()) })
	group.Go(func() error {
		if err := s.http.Serve(router.HTTP()); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("http: %w", err)
		}
		return nil
	})
	group.Go(func() error { return s.compact(ctx) })
	group.Go(func() error { return s.expire(ctx) })
	group.Go(func() error { return s.customs.Run(ctx) })
	group.Go(func() error { return s.rules.run(ctx, s.pipeline) })
	group.Go(func() error { return s.checkTypes(ctx) })
	group.Go(func() error {
		select {
		case <-s.rules.ready:
			return ignoreCanceled(ctx, s.aggregator.Run(ctx))
		case <-ctx.Done():
			return nil
		}
	})
	group.Go(func() error {
		select {
		case <-s.rules.ready:
			return s.flows.run(ctx, s)
		case <-ctx.Done():
			return nil
		}
	})
	group.Go(func() error {
		<-ctx.Done()
		s.drain(ctx)
		return nil
	})
	// The port answers at once, health above all; requests wait for the caches by themselves.
	group.Go(func() error {
		if err := s.start(ctx); err != nil {
			return ignoreCanceled(ctx, err)
		}
		ready()
		group.Go(func() error { return s.addresses.Run(ctx) })
		return s.keeper.Run(ctx)
	})
	return group.Wait()
}

// ignoreCanceled makes an end that was asked for no error.
func ignoreCanceled(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// start waits for the caches and makes the objects that every cluster has.
func (s *Server) start(ctx context.Context) error {
	if err := s.feed.WaitReady(ctx); err != nil {
		return fmt.Errorf("reading the store: %w", err)
	}
	if err := s.customs.Sync(ctx); err != nil {
		return err
	}
	for {
		err := s.keeper.Once(ctx)
		if err == nil {
			return s.furnish(ctx)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.cfg.Log.Warn("making the cluster's own objects failed", "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// furnish reads the rules, and makes the objects that describe the server to its clients. What cannot be made now, because a
// webhook forbids it for example, is tried again while the server runs, and keeps nobody from being served.
func (s *Server) furnish(ctx context.Context) error {
	if err := s.rules.readAll(ctx); err != nil {
		return err
	}
	if err := errors.Join(s.aggregator.Register(ctx), makeFlows(ctx, s.pipeline)); err != nil && ctx.Err() == nil {
		s.cfg.Log.Warn("making the objects that describe this server failed", "error", err)
	}
	return nil
}

func (s *Server) drain(ctx context.Context) {
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	var group errgroup.Group
	group.Go(func() error {
		s.grpc.Stop(grace)
		return nil
	})
	group.Go(func() error {
		if err := s.http.Shutdown(grace); err != nil {
			return s.http.Close()
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		s.cfg.Log.Debug("closing the HTTP server failed", "error", err)
	}
	s.network.Close()
	if s.nodes != nil {
		s.nodes.Close()
	}
}

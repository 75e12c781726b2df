package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // lets the balancer watch grpc.health.v1, so that a draining server gets no new calls
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

const (
	// defaultPort is where API servers listen.
	defaultPort = "6443"
	// maxMessageBytes bounds one message from a server: a page or a batch of events holds at most a few objects of the
	// largest kind (1.5 MiB in etcd, 3 MiB as a request body), and 32 MiB leaves ten times that.
	maxMessageBytes = 32 << 20
	// keepaliveTime and keepaliveTimeout find a server whose host is gone without a word in at most 13 s. gRPC allows no
	// shorter time; servers must permit it (enforcement policy MinTime ≤ 10 s).
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 3 * time.Second
	// reconnect back-off of one endpoint; the others are used meanwhile.
	connectBackoffBase = 100 * time.Millisecond
	connectBackoffMax  = 3 * time.Second
	connectTimeout     = 5 * time.Second
)

// serviceConfig balances calls over all endpoints that are connected and healthy and retries reads, which are safe to
// repeat, up to twice: three endpoints can each be asked once.
const serviceConfig = `{
  "loadBalancingConfig": [{"round_robin": {}}],
  "healthCheckConfig": {"serviceName": ""},
  "methodConfig": [{
    "name": [
      {"service": "bareboat.api.v1.ResourceService", "method": "Get"},
      {"service": "bareboat.api.v1.ResourceService", "method": "List"},
      {"service": "bareboat.api.v1.DiscoveryService"}
    ],
    "retryPolicy": {
      "maxAttempts": 3, "initialBackoff": "0.02s", "maxBackoff": "0.2s", "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }]
}`

// Client is a connection to the API: to all its endpoints, over which calls are balanced.
type Client struct {
	conn      *grpc.ClientConn
	resources apiv1.ResourceServiceClient
}

// Dial makes a client. It does not wait for a server: the first call connects, and fails with IsUnavailable if no
// endpoint can be reached. A wrong configuration is an error here.
func Dial(cfg *Config) (*Client, error) {
	addrs, err := addresses(cfg)
	if err != nil {
		return nil, err
	}
	opts, err := dialOptions(cfg)
	if err != nil {
		return nil, err
	}
	opts = append(opts, grpc.WithResolvers(staticResolver{addrs}))
	conn, err := grpc.NewClient(resolverScheme+":///api", opts...)
	if err != nil {
		return nil, fmt.Errorf("API client: %w", err)
	}
	return &Client{conn: conn, resources: apiv1.NewResourceServiceClient(conn)}, nil
}

// Close ends every call under way and closes all connections.
func (c *Client) Close() error { return c.conn.Close() }

// Conn is the connection itself, for services and requests that have no method here. Pass its errors through FromGRPC.
func (c *Client) Conn() grpc.ClientConnInterface { return c.conn }

func dialOptions(cfg *Config) ([]grpc.DialOption, error) {
	opts := []grpc.DialOption{
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithConnectParams(connectParams()),
		grpc.WithIdleTimeout(0),
	}
	if cfg.UserAgent != "" {
		opts = append(opts, grpc.WithUserAgent(cfg.UserAgent))
	}
	if cfg.Dialer != nil {
		opts = append(opts, grpc.WithContextDialer(cfg.Dialer))
	}
	if cfg.Insecure {
		if cfg.Token != "" || cfg.TokenFile != "" {
			return nil, errors.New("API client: a bearer token must not travel without TLS: use https endpoints")
		}
		return append(opts, grpc.WithTransportCredentials(insecure.NewCredentials())), nil
	}
	creds, err := newTransportCredentials(cfg)
	if err != nil {
		return nil, err
	}
	opts = append(opts, grpc.WithTransportCredentials(creds))
	if cfg.Token != "" || cfg.TokenFile != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(&bearer{token: cfg.Token, file: watchedFile{path: cfg.TokenFile}}))
	}
	return opts, nil
}

// addresses parses the endpoints.
func addresses(cfg *Config) ([]resolver.Address, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, errors.New("API client: no endpoint: name at least one API server as host:port")
	}
	var addrs []resolver.Address
	for _, e := range cfg.Endpoints {
		hostport, err := endpointAddress(e)
		if err != nil {
			return nil, err
		}
		host, _, _ := net.SplitHostPort(hostport)
		if cfg.ServerName != "" {
			host = cfg.ServerName
		}
		addrs = append(addrs, resolver.Address{Addr: hostport, ServerName: host})
	}
	return addrs, nil
}

// endpointAddress turns "host", "host:port" or "https://host:port" into "host:port".
func endpointAddress(endpoint string) (string, error) {
	hostport := endpoint
	if strings.Contains(endpoint, "://") {
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" || (u.Path != "" && u.Path != "/") {
			return "", fmt.Errorf("API client: endpoint %q is not of the form https://host:port", endpoint)
		}
		hostport = u.Host
	}
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		host, port = strings.Trim(hostport, "[]"), defaultPort
	}
	if host == "" || port == "" {
		return "", fmt.Errorf("API client: endpoint %q is not of the form host:port", endpoint)
	}
	return net.JoinHostPort(host, port), nil
}

// resolverScheme names the resolver below within one connection; it is not registered with gRPC.
const resolverScheme = "bareboat"

// staticResolver tells gRPC the configured endpoints.
type staticResolver struct{ addrs []resolver.Address }

func (r staticResolver) Scheme() string { return resolverScheme }

func (r staticResolver) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	state := resolver.State{}
	for _, a := range r.addrs {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{a}})
	}
	return r, cc.UpdateState(state)
}

func (r staticResolver) ResolveNow(resolver.ResolveNowOptions) {}
func (r staticResolver) Close()                                {}

// bearer sends a bearer token with each call.
type bearer struct {
	token string
	file  watchedFile
}

func (b *bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token := b.token
	if token == "" {
		data, err := b.file.read()
		if err != nil {
			return nil, fmt.Errorf("bearer token: %w", err)
		}
		token = strings.TrimSpace(string(data))
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

func (b *bearer) RequireTransportSecurity() bool { return true }

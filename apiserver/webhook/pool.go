package webhook

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	// maxTargets bounds the pools: a cluster has some dozens of webhooks, and each new authority of one makes a pool of its own. The least
	// recently used one goes first.
	maxTargets = 256
	// maxIdle connections are kept per target for idleFor, so that a burst of writes does not shake hands for each of them.
	maxIdle = 25
	idleFor = 90 * time.Second
	// dialTimeout and handshakeTimeout bound the steps that a context with a long deadline would let a dead address sit in.
	dialTimeout      = 30 * time.Second
	handshakeTimeout = 10 * time.Second
)

// Client calls webhooks. It is safe for concurrent use.
type Client struct {
	dial Dial

	mu    sync.Mutex
	pools map[poolKey]*pool
	// uses counts calls, to tell which pool was used last.
	uses uint64
}

// poolKey is what connections can be shared by: whom they reach, and whom they were verified by.
type poolKey struct {
	host    string
	service bool
	ca      [sha256.Size]byte
}

type pool struct {
	client *http.Client
	used   uint64
}

// New returns a client without connections.
func New(dial Dial) *Client {
	return &Client{dial: dial, pools: map[poolKey]*pool{}}
}

// Dial opens a connection to one server behind a service's port.
type Dial func(ctx context.Context, namespace, name string, port int32) (net.Conn, error)

// Close ends the connections that no call uses.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, p := range c.pools {
		p.client.CloseIdleConnections()
		delete(c.pools, k)
	}
}

// pool returns the target's connections.
func (c *Client) pool(t *Target, address *url.URL) (*http.Client, error) {
	key := poolKey{host: address.Host, service: t.Service != nil, ca: sha256.Sum256(t.CABundle)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uses++
	if p, ok := c.pools[key]; ok {
		p.used = c.uses
		return p.client, nil
	}
	client, err := c.connect(t)
	if err != nil {
		return nil, err
	}
	if len(c.pools) >= maxTargets {
		c.evictLocked()
	}
	c.pools[key] = &pool{client: client, used: c.uses}
	return client, nil
}

// evictLocked drops the pool that was not used for longest; calls under way on it end as they would have.
func (c *Client) evictLocked() {
	var oldest poolKey
	least := ^uint64(0)
	for k, p := range c.pools {
		if p.used < least {
			oldest, least = k, p.used
		}
	}
	c.pools[oldest].client.CloseIdleConnections()
	delete(c.pools, oldest)
}

var errNoAuthority = errors.New("unable to load root certificates: unable to parse bytes as PEM block")

// connect makes a client for one target. It speaks HTTP/1.1: with HTTP/2 all calls would share one connection and so one endpoint.
func (c *Client) connect(t *Target) (*http.Client, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(t.CABundle) > 0 {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(t.CABundle) {
			return nil, errNoAuthority
		}
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	transport := &http.Transport{
		TLSClientConfig: cfg, TLSHandshakeTimeout: handshakeTimeout, Protocols: protocols,
		MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: idleFor, DisableCompression: true,
	}
	if t.Service == nil {
		transport.Proxy, transport.DialContext = http.ProxyFromEnvironment, (&net.Dialer{Timeout: dialTimeout}).DialContext
	} else {
		s := *t.Service
		cfg.ServerName = s.host()
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			return c.dial(ctx, s.Namespace, s.Name, s.port())
		}
	}
	// A webhook that sends its caller elsewhere is not obeyed: the answer is the redirect, which is a failure.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, CheckRedirect: stay}, nil
}

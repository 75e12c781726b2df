// Package rest reads from the API servers' REST door what has no gRPC method: published documents such as OpenAPI, APIs that other
// servers behind the API server serve, and any path that a user names.
//
//	c, err := rest.New(cfg)
//	body, err := c.Get(ctx, "/openapi/v3")
package rest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/client"
)

const (
	// maxBody bounds an answer: the largest document, OpenAPI of core/v1, has 2 MiB, and a list of 10,000 pods 40.
	maxBody = 256 << 20
	// dialTimeout is how long one server may take to accept a connection before the next is asked.
	dialTimeout = 5 * time.Second
	// idleTimeout is how long a connection is kept for the next request: longer than the 15 seconds between two of a controller.
	idleTimeout = 90 * time.Second
)

// Client reads paths from the first API server that answers.
type Client struct {
	servers   []string
	userAgent string
	token     func() (string, error)
	http      *http.Client
}

// New makes a client of the servers that cfg names. It connects on the first request.
func New(cfg *client.Config) (*Client, error) {
	c := &Client{userAgent: cfg.UserAgent, token: func() (string, error) { return cfg.Token, nil }}
	if cfg.Token == "" && cfg.TokenFile != "" {
		c.token = func() (string, error) {
			data, err := os.ReadFile(cfg.TokenFile)
			return strings.TrimSpace(string(data)), err
		}
	}
	scheme := "https://"
	if cfg.Insecure {
		scheme = "http://"
	}
	for _, e := range cfg.Endpoints {
		_, host, ok := strings.Cut(e, "://")
		if !ok {
			host = e
		}
		c.servers = append(c.servers, scheme+strings.TrimSuffix(host, "/"))
	}
	if len(c.servers) == 0 {
		return nil, errors.New("no API server is configured")
	}
	certificates := cfg.TLS()
	if !cfg.Insecure {
		if _, err := certificates(); err != nil {
			return nil, err
		}
	}
	dial := (&net.Dialer{Timeout: dialTimeout}).DialContext
	if cfg.Dialer != nil {
		dial = func(ctx context.Context, _, addr string) (net.Conn, error) { return cfg.Dialer(ctx, addr) }
	}
	c.http = &http.Client{Transport: &http.Transport{DialContext: dial, IdleConnTimeout: idleTimeout, DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return dialTLS(ctx, certificates, addr, func() (net.Conn, error) { return dial(ctx, network, addr) })
	}}}
	return c, nil
}

// dialTLS makes a connection with the certificates as they are now, so that rotated ones serve the next connection. It does not
// offer h2 alone, by which the server knows that no gRPC client is speaking.
func dialTLS(ctx context.Context, certificates func() (*tls.Config, error), addr string, dial func() (net.Conn, error)) (net.Conn, error) {
	config, err := certificates()
	if err != nil {
		return nil, err
	}
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(addr)
	}
	config.NextProtos = []string{"http/1.1"}
	raw, err := dial()
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

// Server is the address that a user is told.
func (c *Client) Server() string { return c.servers[0] }

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Get reads a path, which may have a query. An answer other than success is an *apierrors.StatusError.
func (c *Client) Get(ctx context.Context, path string) ([]byte, error) {
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if _, err := url.ParseRequestURI(path); err != nil {
		return nil, err
	}
	var errs []error
	for _, server := range c.servers {
		body, err := c.get(ctx, server+path)
		var unreachable *url.Error
		if !errors.As(err, &unreachable) || ctx.Err() != nil {
			return body, err
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (c *Client) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, */*")
	req.Header.Set("User-Agent", c.userAgent)
	token, err := c.token()
	if err != nil {
		return nil, fmt.Errorf("bearer token: %w", err)
	}
	if token != "" && req.URL.Scheme == "https" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("%s: the answer is larger than %d MiB", req.URL.Path, maxBody>>20)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, statusError(resp.StatusCode, body)
	}
	return body, nil
}

// statusError is the error that the server sent, or made of its bare code and text.
func statusError(code int, body []byte) error {
	var status metav1.Status
	if json.Unmarshal(body, &status) == nil && status.Kind == "Status" {
		return &apierrors.StatusError{ErrStatus: status}
	}
	return apierrors.NewGenericServerResponse(code, "get", schema.GroupResource{}, "", strings.TrimSpace(string(body)), 0, true)
}

// Package tlsconf makes TLS configurations whose certificates follow the files on disk: a certificate that is rotated serves
// the next handshake, and connections that stand go on. TLS 1.2 is the least version.
//
//	cfg, err := tlsconf.Server("/etc/bareboat/pki/scheduler.crt", "/etc/bareboat/pki/scheduler.key", "/etc/bareboat/pki/ca.crt")
//	go daemon.ServeAdmin(ctx, env, ":10259", cfg)
package tlsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"
)

// Server returns the configuration of a server with this certificate and key. If caFile is not empty, clients may present a
// certificate, which must then chain to it (VerifyClientCertIfGiven). protos are the application protocols offered by ALPN;
// none means "h2" and "http/1.1". A later change of the returned value's NextProtos, ClientAuth or ClientCAs has no effect,
// since each handshake gets a configuration of its own (GetConfigForClient).
func Server(certFile, keyFile, caFile string, protos ...string) (*tls.Config, error) {
	if len(protos) == 0 {
		protos = []string{"h2", "http/1.1"}
	}
	src := &source{cert: file{path: certFile}, key: file{path: keyFile}, ca: file{path: caFile}}
	current := func() (*tls.Config, error) {
		cfg := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protos}
		pair, err := src.pair()
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{*pair}
		if caFile != "" {
			if cfg.ClientCAs, err = src.pool(); err != nil {
				return nil, err
			}
			cfg.ClientAuth = tls.VerifyClientCertIfGiven
		}
		return cfg, nil
	}
	cfg, err := current()
	if err != nil {
		return nil, err
	}
	// One configuration per state of the files, so that session tickets resume.
	cached := &cache{src: src, build: current, cfg: cfg}
	outer := cfg.Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return cached.get() }
	return outer, nil
}

// Client returns the configuration of a client that presents this certificate and key, both optional, and trusts servers that
// chain to caFile (the system's authorities if empty). The certificate follows its files; the authorities are those at the
// time of the call, for a tls.Config can verify names only against those. Use Credentials where gRPC is spoken.
func Client(certFile, keyFile, caFile string) (*tls.Config, error) {
	src := &source{cert: file{path: certFile}, key: file{path: keyFile}, ca: file{path: caFile}}
	cfg, err := src.client()
	if err != nil {
		return nil, err
	}
	if certFile != "" {
		cfg.Certificates = nil
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return src.pair() }
	}
	return cfg, nil
}

// Credentials returns gRPC client credentials that read certificate and authorities anew for each connection.
// serverName, if not empty, is checked instead of the dialled host.
func Credentials(certFile, keyFile, caFile, serverName string) (credentials.TransportCredentials, error) {
	src := &source{cert: file{path: certFile}, key: file{path: keyFile}, ca: file{path: caFile}}
	cfg, err := src.client()
	if err != nil {
		return nil, err
	}
	return &reloading{credentials.NewTLS(cfg), src, serverName}, nil
}

// reloading is TLS credentials with the files as they are at each handshake.
type reloading struct {
	credentials.TransportCredentials
	src        *source
	serverName string
}

func (r *reloading) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	cfg, err := r.src.client()
	if err != nil {
		return nil, nil, err
	}
	cfg.ServerName = r.serverName
	return credentials.NewTLS(cfg).ClientHandshake(ctx, authority, conn)
}

func (r *reloading) Clone() credentials.TransportCredentials { return r }

// source is the files that a configuration is made of.
type source struct{ cert, key, ca file }

func (s *source) client() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.cert.path != "" {
		pair, err := s.pair()
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{*pair}
	}
	if s.ca.path != "" {
		pool, err := s.pool()
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = pool
	}
	return cfg, nil
}

// pair reads certificate and key. While a rotation has written one of them only, the pair read last serves on.
func (s *source) pair() (*tls.Certificate, error) {
	cert, err := s.cert.read()
	if err != nil {
		return nil, fmt.Errorf("TLS certificate: %w", err)
	}
	key, err := s.key.read()
	if err != nil {
		return nil, fmt.Errorf("TLS key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		if last := s.cert.lastPair(); last != nil {
			return last, nil
		}
		return nil, fmt.Errorf("TLS certificate %s and key %s: %w", s.cert.path, s.key.path, err)
	}
	s.cert.setPair(&pair)
	return &pair, nil
}

var errNoCertificate = errors.New("no PEM certificate in it")

func (s *source) pool() (*x509.CertPool, error) {
	data, err := s.ca.read()
	if err != nil {
		return nil, fmt.Errorf("CA certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("CA certificate %s: %w", s.ca.path, errNoCertificate)
	}
	return pool, nil
}

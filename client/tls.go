package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// transportCredentials does TLS with the certificates as they are when a connection is made, so that rotated files serve
// the next connection while the standing ones go on. It offers h2 only, by which the server knows a gRPC client.
type transportCredentials struct {
	credentials.TransportCredentials // of the configuration at start, for everything but handshakes

	tls func() (*tls.Config, error)
}

func newTransportCredentials(cfg *Config) (*transportCredentials, error) {
	t := &transportCredentials{tls: cfg.TLS()}
	tlsConfig, err := t.current()
	if err != nil {
		return nil, fmt.Errorf("API client: %w", err)
	}
	t.TransportCredentials = credentials.NewTLS(tlsConfig)
	return t, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (t *transportCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	tlsConfig, err := t.current()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(tlsConfig).ClientHandshake(ctx, authority, conn)
}

// Clone implements credentials.TransportCredentials; the value is shared, it is safe for concurrent use.
func (t *transportCredentials) Clone() credentials.TransportCredentials { return t }

// current is the TLS configuration for the next connection.
func (t *transportCredentials) current() (*tls.Config, error) {
	c, err := t.tls()
	if err != nil {
		return nil, err
	}
	c.NextProtos = []string{"h2"}
	return c, nil
}

// TLS returns what makes a TLS configuration of its own for each connection, from the certificates' files as they are then. Which
// protocols are offered is the caller's.
func (c *Config) TLS() func() (*tls.Config, error) {
	t := &tlsFiles{cfg: c, ca: watchedFile{path: c.CAFile}, cert: watchedFile{path: c.CertFile}, key: watchedFile{path: c.KeyFile}}
	return t.config
}

// tlsFiles are the certificates of a configuration.
type tlsFiles struct {
	cfg           *Config
	ca, cert, key watchedFile
}

func (t *tlsFiles) config() (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.cfg.ServerName, InsecureSkipVerify: t.cfg.InsecureSkipTLSVerify}
	ca, err := firstOf(t.cfg.CAData, &t.ca)
	if err != nil {
		return nil, fmt.Errorf("CA certificate: %w", err)
	}
	if ca != nil {
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("CA certificate: no PEM certificate in it")
		}
	}
	cert, err := firstOf(t.cfg.CertData, &t.cert)
	if err != nil {
		return nil, fmt.Errorf("client certificate: %w", err)
	}
	key, err := firstOf(t.cfg.KeyData, &t.key)
	if err != nil {
		return nil, fmt.Errorf("client key: %w", err)
	}
	if cert == nil && key == nil {
		return out, nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("client certificate and key: %w", err)
	}
	out.Certificates = []tls.Certificate{pair}
	return out, nil
}

func firstOf(data []byte, file *watchedFile) ([]byte, error) {
	if len(data) > 0 {
		return data, nil
	}
	return file.read()
}

// watchedFile is a file that is read again only when its size or time of change differ.
type watchedFile struct {
	path string

	mu      sync.Mutex
	size    int64
	modTime time.Time
	data    []byte
}

// read returns the contents; nil without a path. If the file has become unreadable the last contents serve on.
func (f *watchedFile) read() ([]byte, error) {
	if f.path == "" {
		return nil, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err == nil && f.data != nil && info.Size() == f.size && info.ModTime().Equal(f.modTime) {
		return f.data, nil
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(f.path)
	}
	if err != nil {
		if f.data != nil {
			return f.data, nil
		}
		return nil, err
	}
	f.data, f.size, f.modTime = data, info.Size(), info.ModTime()
	return data, nil
}

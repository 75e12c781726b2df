package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"bareboat.dev/apiserver/authn"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

const (
	// dialTimeout bounds how long a kubelet may take to accept a connection and shake hands.
	dialTimeout = 10 * time.Second
	// idlePerKubelet is how many HTTP connections to one kubelet are kept for the next request.
	idlePerKubelet = 2
)

// ErrNotThatNode means that whoever answered at a node's address did not prove to be the node.
var ErrNotThatNode = errors.New("the answer does not come from that node's kubelet")

// Kubelet is the way to one node's kubelet: its gRPC service and its HTTPS endpoints, on one port.
type Kubelet struct {
	name, address string
	conn          *rpc.ClientConn
	http          *http.Transport
}

func newKubelet(name, address string, config func() (*tls.Config, error)) (*Kubelet, error) {
	id := identity{name: name, config: config}
	conn, err := rpc.NewClient("passthrough:///"+address, rpc.WithTransportCredentials(&nodeCredentials{credentials.NewTLS(nil), id}), rpc.WithIdleTimeout(idle))
	if err != nil {
		return nil, err
	}
	// HTTP/1.1 only: the kubelet tells its two servers apart by what a client offers, and upgrades need it.
	web := &http.Transport{DialTLSContext: id.dial, IdleConnTimeout: idle, MaxIdleConnsPerHost: idlePerKubelet, DisableCompression: true}
	return &Kubelet{name: name, address: address, conn: conn, http: web}, nil
}

// Service is the kubelet's gRPC service.
func (k *Kubelet) Service() nodev1.NodeServiceClient { return nodev1.NewNodeServiceClient(k.conn) }

// Address is the kubelet's host and port.
func (k *Kubelet) Address() string { return k.address }

// HTTP reaches the kubelet's HTTPS endpoints with the API server's certificate.
func (k *Kubelet) HTTP() *http.Transport { return k.http }

func (k *Kubelet) close() error {
	k.http.CloseIdleConnections()
	return k.conn.Close()
}

// identity is what a node's kubelet must prove: a certificate for its address, whose subject is the node.
type identity struct {
	name   string
	config func() (*tls.Config, error)
}

// tls is the configuration of one connection. The subject is checked before the server's own certificate is shown.
func (id identity) tls() (*tls.Config, error) {
	cfg, err := id.config()
	if err != nil {
		return nil, err
	}
	cfg = cfg.Clone()
	cfg.VerifyConnection = id.verify
	return cfg, nil
}

// verify: the subject of a kubelet's certificate is that of its client certificate, CN system:node:<name> and O system:nodes,
// as the signer kubernetes.io/kubelet-serving has it.
func (id identity) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return fmt.Errorf("%w: it has no certificate", ErrNotThatNode)
	}
	subject := state.PeerCertificates[0].Subject
	if subject.CommonName != authn.NodeUserPrefix+id.name || !slices.Contains(subject.Organization, authn.Nodes) {
		return fmt.Errorf("%w: the certificate is for %q in %q, not for %q in %q", ErrNotThatNode,
			subject.CommonName, subject.Organization, authn.NodeUserPrefix+id.name, authn.Nodes)
	}
	return nil
}

// dial opens a TLS connection for HTTP/1.1.
func (id identity) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	cfg, err := id.tls()
	if err != nil {
		return nil, err
	}
	if cfg.ServerName, _, err = net.SplitHostPort(address); err != nil {
		return nil, err
	}
	cfg.NextProtos = []string{"http/1.1"}
	raw, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return conn, nil
}

// nodeCredentials are gRPC's towards one node: the files as they are at each handshake, and the node's identity.
type nodeCredentials struct {
	credentials.TransportCredentials
	id identity
}

// ClientHandshake implements credentials.TransportCredentials.
func (c *nodeCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	cfg, err := c.id.tls()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(cfg).ClientHandshake(ctx, authority, conn)
}

// Clone implements credentials.TransportCredentials.
func (c *nodeCredentials) Clone() credentials.TransportCredentials { return c }

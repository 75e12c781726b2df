package client

import (
	"context"
	"net"
)

// Config says where the API is and who is calling. The zero values of its optional fields are good defaults.
type Config struct {
	// Endpoints are the API servers, each "host:port" or "https://host:port"; at least one. A plain "host" means port 6443.
	Endpoints []string

	// CAData or CAFile hold the PEM certificates that the servers' certificates must chain to; without either the
	// system's are used. Data wins over files. Files are read again when they change, for the next connection.
	CAData []byte
	CAFile string
	// CertData and KeyData, or CertFile and KeyFile, are the client's certificate and key in PEM. Optional.
	CertData, KeyData []byte
	CertFile, KeyFile string
	// ServerName is checked against the servers' certificates instead of each endpoint's own host. Optional.
	ServerName string

	// Token or TokenFile is a bearer token, for callers without a certificate. The file is read again when it changes.
	Token     string
	TokenFile string

	// Namespace is the default namespace of the kubeconfig's context; only kctl uses it.
	Namespace string
	// UserAgent names the program, as "kctl/v0.1"; its part up to the slash is the default field manager.
	UserAgent string

	// Insecure speaks without TLS, for tests and unix sockets. A bearer token is refused in that case.
	Insecure bool
	// InsecureSkipTLSVerify accepts any server certificate.
	InsecureSkipTLSVerify bool

	// Dialer replaces the network, for tests; addr is an endpoint as "host:port".
	Dialer func(ctx context.Context, addr string) (net.Conn, error)
}

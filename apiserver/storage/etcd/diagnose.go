package etcd

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"time"
)

// probeTime bounds finding out why one endpoint does not answer.
const probeTime = time.Second

// diagnose says why no endpoint answers: the client library only says that time was up. err is what it said, for when
// nothing else is found.
func (c Config) diagnose(err error) error {
	for _, endpoint := range c.Endpoints {
		if found := c.probe(endpoint); found != nil {
			return fmt.Errorf("%s: %w", endpoint, found)
		}
	}
	return err
}

// probe connects as the client would.
func (c Config) probe(endpoint string) error {
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return fmt.Errorf("not a URL such as https://10.0.0.1:2379")
	}
	address := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "2379"))
	if u.Scheme != "https" {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			conn.Close()
		}
		return err
	}
	conn, err := (&tls.Dialer{Config: c.TLS}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	// With TLS 1.3 a server refuses a client's certificate after the handshake: it is in what is read next.
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetReadDeadline(deadline)
	}
	_, err = conn.Read(make([]byte, 1))
	if e, ok := err.(net.Error); ok && e.Timeout() {
		return nil
	}
	return err
}

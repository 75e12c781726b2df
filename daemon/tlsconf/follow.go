package tlsconf

import "crypto/tls"

// Follow returns a function that makes a client's configuration from the files as they are when it is called: certificate, key
// and authorities may all be rotated, and the next connection uses what is there. The first error is told at once. Each
// configuration is the caller's own, to add checks of its own to.
func Follow(certFile, keyFile, caFile string) (func() (*tls.Config, error), error) {
	src := &source{cert: file{path: certFile}, key: file{path: keyFile}, ca: file{path: caFile}}
	if _, err := src.client(); err != nil {
		return nil, err
	}
	return src.client, nil
}

package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"sync"
)

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

// Authorities are the certificates of a file of authorities, as the file is when they are asked for.
type Authorities struct {
	src source

	mu      sync.Mutex
	version int
	pool    *x509.CertPool
}

// ReadAuthorities reads a file of authorities, and again whenever it changes.
func ReadAuthorities(caFile string) (*Authorities, error) {
	a := &Authorities{src: source{ca: file{path: caFile}}}
	_, err := a.Pool()
	return a, err
}

// PEM is the file's contents.
func (a *Authorities) PEM() ([]byte, error) { return a.src.ca.read() }

// Pool is the authorities. It is the same pool for as long as the file does not change; nobody may add to it.
func (a *Authorities) Pool() (*x509.CertPool, error) {
	version := a.src.ca.currentVersion()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pool != nil && version == a.version {
		return a.pool, nil
	}
	pool, err := a.src.pool()
	if err != nil {
		if a.pool != nil {
			return a.pool, nil
		}
		return nil, err
	}
	a.pool, a.version = pool, version
	return pool, nil
}

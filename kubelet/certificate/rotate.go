// Package certificate gets the kubelet its certificates, by CertificateSigningRequests: the first one as a client for a node that joins
// with a token, the first one as a server, and new ones before the old ones end.
//
// The contract: a certificate and its key are replaced together, for whoever reads them, so that connections made later use the
// new ones and those that exist go on. A kubelet that is killed while it waits for an answer goes on waiting for the same one when
// it starts again. As long as no answer comes the old certificate stays.
package certificate

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/client"
)

const (
	// retry is the pause after a request that failed, and after a watch that ended.
	retry = 30 * time.Second
	// watchRetry is the pause before a watch that ended is begun again.
	watchRetry = time.Second
	// pause is the least time between two rotations, however short certificates live.
	pause = time.Minute
	// longest is how long to sleep at a time, since clocks are set.
	longest = time.Hour
)

// Config is what a Rotator is made of.
type Config struct {
	Client *client.Client
	Node   string
	// CertFile and KeyFile are what the API's client, or the server, reads; they may be one file that holds both.
	CertFile, KeyFile string
	// Names make it a server certificate, for these; nil is a client's.
	Names *Names
	Log   *slog.Logger
}

// Rotator replaces a certificate before it ends, and gets a server's first one.
type Rotator struct {
	cfg Config
	// there is closed when there is a certificate.
	there chan struct{}
	once  sync.Once
}

// New returns a Rotator that does nothing until Run.
func New(cfg Config) *Rotator { return &Rotator{cfg: cfg, there: make(chan struct{})} }

// Wait waits while Run runs until there is a certificate, which may be about to be replaced, or ctx ends.
func (r *Rotator) Wait(ctx context.Context) error {
	select {
	case <-r.there:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run works until ctx ends.
func (r *Rotator) Run(ctx context.Context) error {
	for {
		wait, err := r.step(ctx)
		if err != nil && ctx.Err() == nil {
			r.cfg.Log.Error("certificate not rotated", "signer", r.wanted().signer(), "file", r.cfg.CertFile, "error", err)
			wait = retry
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

func (r *Rotator) wanted() wanted { return wanted{r.cfg.Node, r.cfg.Names} }

// step rotates the certificate if it is time, and returns how long to wait otherwise.
func (r *Rotator) step(ctx context.Context) (time.Duration, error) {
	cert, err := r.current()
	if err != nil {
		return 0, err
	}
	ends := time.Time{}
	if cert != nil {
		r.once.Do(func() { close(r.there) })
		ends = cert.NotAfter
		if wait := time.Until(RotateAt(cert, r.cfg.Node)); wait > 0 && (r.cfg.Names == nil || r.cfg.Names.covered(cert)) {
			return min(wait, longest), nil
		}
	}
	r.cfg.Log.Info("asking for a new certificate", "signer", r.wanted().signer(), "file", r.cfg.CertFile, "ends", ends)
	next, err := obtain(ctx, r.cfg.Client, r.wanted(), r.cfg.KeyFile+".next", func(cert, key []byte) error {
		return install(r.cfg.CertFile, r.cfg.KeyFile, cert, key)
	})
	if err != nil {
		return 0, err
	}
	r.once.Do(func() { close(r.there) })
	r.cfg.Log.Info("certificate rotated", "signer", r.wanted().signer(), "file", r.cfg.CertFile, "ends", next.NotAfter)
	return pause, nil
}

// current is the certificate in use; nil if a server has none yet.
func (r *Rotator) current() (*x509.Certificate, error) {
	data, err := os.ReadFile(r.cfg.CertFile)
	if errors.Is(err, os.ErrNotExist) && r.cfg.Names != nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	cert, err := parseCertificate(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.cfg.CertFile, err)
	}
	return cert, nil
}

// obtain asks for a certificate, waits for it, and hands it to keep with its key. pending holds the key until then.
func obtain(ctx context.Context, c *client.Client, want wanted, pending string, keep func(cert, key []byte) error) (*x509.Certificate, error) {
	key, keyPEM, err := nextKey(pending)
	if err != nil {
		return nil, err
	}
	csr, err := want.request(key)
	if err != nil {
		return nil, err
	}
	requests := client.Of(c, client.CertificateSigningRequests())
	if _, err = requests.Create(ctx, csr); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("ask for a certificate: %w", err)
	}
	var cert []byte
	for cert == nil {
		if cert, err = await(ctx, requests, csr.Name, func(csr *certificatesv1.CertificateSigningRequest) ([]byte, error) { return answer(csr, key) }); err != nil {
			if errors.Is(err, ErrRefused) {
				// The next attempt is another request, with another key.
				return nil, errors.Join(err, os.Remove(pending))
			}
			return nil, err
		}
	}
	parsed, err := parseCertificate(cert)
	if err != nil {
		return nil, err
	}
	if err := keep(cert, keyPEM); err != nil {
		return nil, err
	}
	return parsed, os.Remove(pending)
}

// await watches a request until there is an answer; nil without an error if the watch ended before.
func await(ctx context.Context, requests *client.Resource[*certificatesv1.CertificateSigningRequest], name string, read func(*certificatesv1.CertificateSigningRequest) ([]byte, error)) ([]byte, error) {
	for ev, err := range requests.Watch(ctx, "", client.WatchOptions{FieldSelector: "metadata.name=" + name, InitialEvents: true}) {
		switch {
		case err != nil:
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(watchRetry):
				return nil, nil
			}
		case ev.Type == client.Deleted:
			return nil, fmt.Errorf("%w: it was deleted before it was answered", ErrRefused)
		case ev.Type == client.Bookmark || ev.Object == nil:
			continue
		}
		if cert, err := read(ev.Object); err != nil || cert != nil {
			return cert, err
		}
	}
	return nil, ctx.Err()
}

// install replaces a certificate and its key. In one file both change at once; in two a reader between them finds a key that does
// not match, and reads again.
func install(certFile, keyFile string, cert, key []byte) error {
	if certFile == keyFile {
		return writeFile(certFile, append(append([]byte(nil), cert...), key...))
	}
	if err := writeFile(keyFile, key); err != nil {
		return err
	}
	return writeFile(certFile, cert)
}

// writeFile replaces a file by one that only its owner reads, whole or not at all. A link stays, and what it leads to is replaced.
func writeFile(file string, data []byte) error {
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	next, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(next.Name())
	_, err = next.Write(data)
	if err = errors.Join(err, next.Sync(), next.Close()); err != nil {
		return err
	}
	return os.Rename(next.Name(), file)
}

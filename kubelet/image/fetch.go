package image

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	// maxManifest bounds manifests, indexes and configs: registries accept no manifest beyond 4 MiB.
	maxManifest = 4 << 20
	// blobTries is how often a download goes on after it was cut off; each try that gets at least one byte is not counted.
	blobTries = 5
	// blobRetryPause is doubled with each try: 0.2 + 0.4 + 0.8 + 1.6 = 3 s in all. The kubelet backs off beyond that.
	blobRetryPause = 200 * time.Millisecond
	dialTimeout    = 15 * time.Second
	headerTimeout  = 60 * time.Second
)

// source is one place that has the image: the registry itself or a mirror of it, with one credential.
type source struct {
	base   string // "https://host/v2/[prefix/]repository"
	client *http.Client
	idle   func()
}

// place is where a source would be, before it has been asked.
type place struct {
	registry name.Registry
	prefix   string // of the repository, with a trailing slash, or empty
	plain    bool   // HTTP without TLS is acceptable
	anyCert  bool   // so is any certificate
}

// places lists where to ask for an image, mirrors first.
func places(ref name.Reference, o *PullOptions) ([]place, error) {
	mirrors, ok := o.Mirrors[registryOf(ref)]
	if !ok {
		mirrors = o.Mirrors["_default"]
	}
	var list []place
	for _, m := range mirrors {
		p, err := mirrorPlace(m, o)
		if err != nil {
			return nil, fmt.Errorf("mirror %q of %s: %w", m, registryOf(ref), err)
		}
		list = append(list, p)
	}
	reg := ref.Context().Registry
	insecure := slices.Contains(o.Insecure, reg.RegistryStr())
	if insecure {
		var err error
		if reg, err = name.NewRegistry(reg.RegistryStr(), name.Insecure); err != nil {
			return nil, err
		}
	}
	return append(list, place{registry: reg, plain: insecure || loopback(reg.RegistryStr()), anyCert: insecure}), nil
}

func mirrorPlace(address string, o *PullOptions) (place, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return place{}, errors.New("not an http or https address")
	}
	var options []name.Option
	if u.Scheme == "http" {
		options = append(options, name.Insecure)
	}
	reg, err := name.NewRegistry(u.Host, options...)
	if err != nil {
		return place{}, err
	}
	prefix := strings.Trim(u.Path, "/")
	if prefix != "" {
		prefix += "/"
	}
	return place{registry: reg, prefix: prefix, plain: u.Scheme == "http", anyCert: slices.Contains(o.Insecure, u.Host)}, nil
}

func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// connect makes a place a source, with one credential: it asks the registry how it wants to be authenticated.
func (p place) connect(ctx context.Context, repository string, auth authn.Authenticator, patience time.Duration) (*source, error) {
	base := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout: dialTimeout, ResponseHeaderTimeout: headerTimeout, IdleConnTimeout: headerTimeout,
	}
	if p.anyCert {
		base.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // as the administrator asked for this host
	}
	rt := transport.NewUserAgent(patient{base, patience}, "bareboat")
	if !p.plain {
		rt = onlyTLS{rt}
	}
	repo := p.registry.Repo(p.prefix + repository)
	rt, err := transport.NewWithContext(ctx, p.registry, auth, rt, []string{repo.Scope(transport.PullScope)})
	if err != nil {
		base.CloseIdleConnections()
		return nil, err
	}
	return &source{
		// The transport knows from asking whether it is really https.
		base:   "https://" + p.registry.RegistryStr() + "/v2/" + p.prefix + repository,
		client: &http.Client{Transport: rt},
		idle:   base.CloseIdleConnections,
	}, nil
}

// onlyTLS refuses plain HTTP, to which the library would fall back on private addresses.
type onlyTLS struct{ next http.RoundTripper }

func (o onlyTLS) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, fmt.Errorf("%s speaks plain HTTP: that must be allowed for it explicitly", r.URL.Host)
	}
	return o.next.RoundTrip(r)
}

func (s *source) close() { s.idle() }

// manifest fetches a manifest or index by tag or digest, and verifies it if it is by digest.
func (s *source) manifest(ctx context.Context, identifier string) (data []byte, digest string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/manifests/"+identifier, nil)
	if err != nil {
		return nil, "", err
	}
	for _, t := range []types.MediaType{types.OCIImageIndex, types.DockerManifestList, types.OCIManifestSchema1, types.DockerManifestSchema2} {
		req.Header.Add("Accept", string(t))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return nil, "", err
	}
	data, err = readSmall(resp.Body)
	if err != nil {
		return nil, "", err
	}
	digest = digestOf(data)
	if strings.HasPrefix(identifier, "sha256:") && digest != identifier {
		return nil, "", fmt.Errorf("%w: manifest %s has digest %s", ErrCorrupt, identifier, digest)
	}
	return data, digest, nil
}

// small fetches a blob of known digest into memory.
func (s *source) small(ctx context.Context, digest v1.Hash) ([]byte, error) {
	body, _, err := s.open(ctx, digest, 0, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := readSmall(body)
	if err != nil {
		return nil, err
	}
	if got := digestOf(data); got != digest.String() {
		return nil, fmt.Errorf("%w: blob %s has digest %s", ErrCorrupt, digest, got)
	}
	return data, nil
}

// open starts to read a blob of known size at an offset; from says where the registry really starts.
func (s *source) open(ctx context.Context, digest v1.Hash, offset, size int64) (body io.ReadCloser, from int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/blobs/"+digest.String(), nil)
	if err != nil {
		return nil, 0, err
	}
	if offset > 0 {
		// With its end, which some registries want.
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, size-1))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	if err := transport.CheckError(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		resp.Body.Close()
		return nil, 0, err
	}
	if resp.StatusCode == http.StatusPartialContent && strings.HasPrefix(resp.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(offset, 10)+"-") {
		return resp.Body, offset, nil
	}
	return resp.Body, 0, nil
}

// blob downloads a blob into a file of the store, going on where an earlier attempt stopped, and returns the file when it is whole and
// verified. The caller removes it.
func (s *source) blob(ctx context.Context, path string, want v1.Descriptor, progress func(done int64)) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := s.fill(ctx, f, want, progress); err != nil {
		_ = f.Close()
		if errors.Is(err, ErrCorrupt) {
			_ = os.Remove(path)
		}
		return nil, err
	}
	if err := verifyFile(f, want); err != nil {
		_ = f.Close()
		_ = os.Remove(path)
		return nil, err
	}
	return f, nil
}

// fill appends what is missing, trying again while there is progress.
func (s *source) fill(ctx context.Context, f *os.File, want v1.Descriptor, progress func(done int64)) error {
	pause := blobRetryPause
	for try := 1; ; try++ {
		before, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if before == want.Size {
			return nil
		}
		err = s.fillOnce(ctx, f, want, before, progress)
		if err == nil || ctx.Err() != nil || errors.Is(err, ErrCorrupt) || !transient(err) {
			return err
		}
		if after, _ := f.Seek(0, io.SeekEnd); after > before {
			try, pause = 0, blobRetryPause
		}
		if try >= blobTries {
			return err
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *source) fillOnce(ctx context.Context, f *os.File, want v1.Descriptor, offset int64, progress func(done int64)) error {
	if offset > want.Size {
		offset = 0
	}
	body, from, err := s.open(ctx, want.Digest, offset, want.Size)
	if status, ok := httpStatus(err); ok && offset > 0 && status == http.StatusRequestedRangeNotSatisfiable {
		body, from, err = s.open(ctx, want.Digest, 0, want.Size)
	}
	if err != nil {
		return err
	}
	defer body.Close()
	if err := f.Truncate(from); err != nil {
		return err
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return err
	}
	w := &progressWriter{w: f, done: from, report: progress}
	n, err := io.Copy(w, io.LimitReader(body, want.Size-from+1))
	if err == nil && from+n > want.Size {
		return fmt.Errorf("%w: blob %s is longer than %d bytes", ErrCorrupt, want.Digest, want.Size)
	}
	if err == nil && from+n < want.Size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

type progressWriter struct {
	w      io.Writer
	done   int64
	report func(int64)
}

func (p *progressWriter) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.done += int64(n)
	if p.report != nil {
		p.report(p.done)
	}
	return n, err
}

// verifyFile checks the whole content, also what an earlier attempt wrote.
func verifyFile(f *os.File, want v1.Descriptor) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(hash.Sum(nil)); got != want.Digest.String() {
		return fmt.Errorf("%w: blob %s has digest %s", ErrCorrupt, want.Digest, got)
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}

// transient errors are those that a second request may not meet.
func transient(err error) bool {
	if status, ok := httpStatus(err); ok {
		return status == http.StatusTooManyRequests || status >= http.StatusInternalServerError
	}
	var netErr net.Error
	return errors.As(err, &netErr) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

func httpStatus(err error) (int, bool) {
	var te *transport.Error
	if errors.As(err, &te) {
		return te.StatusCode, true
	}
	return 0, false
}

// classify gives an error from a registry one of the package's meanings.
func classify(ref string, err error) error {
	if err == nil {
		return nil
	}
	for _, known := range []error{ErrCorrupt, ErrUnsafe, ErrTooLarge, ErrNoPlatform, ErrNotFound, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, known) {
			return err
		}
	}
	if status, ok := httpStatus(err); ok {
		switch {
		case status == http.StatusUnauthorized || status == http.StatusForbidden:
			return fmt.Errorf("pull %s: %w: %w", ref, ErrUnauthorized, err)
		case status == http.StatusNotFound:
			return fmt.Errorf("%w: %s: the registry does not have it: %w", ErrNotFound, ref, err)
		}
		return fmt.Errorf("pull %s: %w: %w", ref, ErrUnavailable, err)
	}
	var netErr net.Error
	if errors.As(err, &netErr) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("pull %s: %w: %w", ref, ErrUnavailable, err)
	}
	return fmt.Errorf("pull %s: %w", ref, err)
}

func readSmall(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err == nil && len(data) > maxManifest {
		err = fmt.Errorf("%w: manifest of more than %d bytes", ErrTooLarge, maxManifest)
	}
	return data, err
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

package aggregator

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/version"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/server/relay"
)

const (
	// handshakeTimeout bounds how long the other server may take to shake hands.
	handshakeTimeout = 10 * time.Second
	// idleTime and idlePerService bound the connections that are kept for the next request.
	idleTime       = 90 * time.Second
	idlePerService = 25
)

// The headers in which the caller's identity is passed on.
const (
	headerUser  = "X-Remote-User"
	headerUID   = "X-Remote-Uid"
	headerGroup = "X-Remote-Group"
	headerExtra = "X-Remote-Extra-"
)

// Service is one APIService: another server for one group and version.
type Service struct {
	cfg  Config
	name string
	uid  types.UID
	spec apiregistrationv1.APIServiceSpec
	// end ends its worker.
	end       context.CancelFunc
	transport *http.Transport
	broken    error

	mu        sync.RWMutex
	available bool
	known     discoveryv2.APIVersionDiscovery
	openapi   string // the other server's relative URL of its version 3 document, with its hash
	swagger   swagger
}

func newService(cfg Config, obj *apiregistrationv1.APIService, end context.CancelFunc) *Service {
	s := &Service{cfg: cfg, name: obj.Name, uid: obj.UID, spec: *obj.Spec.DeepCopy(), end: end}
	t := &tls.Config{ServerName: s.host(), InsecureSkipVerify: obj.Spec.InsecureSkipTLSVerify, MinVersion: tls.VersionTLS12}
	if len(obj.Spec.CABundle) > 0 {
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(obj.Spec.CABundle) {
			s.broken = errors.New("spec.caBundle holds no certificate")
		}
	}
	if cfg.Certificate != nil {
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cfg.Certificate() }
	}
	s.transport = &http.Transport{
		DialContext: s.dial, TLSClientConfig: t, TLSHandshakeTimeout: handshakeTimeout, DisableCompression: true,
		IdleConnTimeout: idleTime, MaxIdleConnsPerHost: idlePerService,
	}
	return s
}

// same reports whether an object asks for nothing else than what is being done.
func (s *Service) same(obj *apiregistrationv1.APIService) bool {
	return s.uid == obj.UID && equality.Semantic.DeepEqual(s.spec, obj.Spec)
}

// inherit takes over what is known from the same object as it was before a change: until it has been asked again it is served on as
// it was, as Kubernetes' aggregator does by the condition in the object.
func (s *Service) inherit(before *Service) {
	if s.uid != before.uid {
		return
	}
	before.mu.RLock()
	defer before.mu.RUnlock()
	s.available, s.known, s.openapi, s.swagger = before.available && s.broken == nil, before.known, before.openapi, before.swagger
}

// host is the name that the other server's certificate must be for.
func (s *Service) host() string { return s.spec.Service.Name + "." + s.spec.Service.Namespace + ".svc" }

func (s *Service) port() int32 {
	if p := s.spec.Service.Port; p != nil {
		return *p
	}
	return 443
}

// dial connects to one of the Service's pods, whatever the address says.
func (s *Service) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return s.cfg.Network.Dial(ctx, s.spec.Service.Namespace, s.spec.Service.Name, s.port())
}

func (s *Service) url(path, raw string) *url.URL {
	return &url.URL{Scheme: "https", Host: net.JoinHostPort(s.host(), strconv.Itoa(int(s.port()))), Path: path, RawPath: raw}
}

// ServeHTTP passes a request on in the name of a caller.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request, id *authn.Identity, fail func(http.ResponseWriter, *http.Request, error)) {
	s.mu.RLock()
	available := s.available
	s.mu.RUnlock()
	if !available {
		// In plain text, as Kubernetes' aggregator answers.
		http.Error(w, "service unavailable", http.StatusServiceUnavailable)
		return
	}
	relay.Serve(w, r, relay.Target{URL: s.url(r.URL.Path, r.URL.RawPath), Transport: s.transport, Header: identityHeaders(id)}, fail)
}

// identityHeaders say who a request is from.
func identityHeaders(id *authn.Identity) http.Header {
	h := http.Header{headerUser: {id.Name}}
	if id.UID != "" {
		h[headerUID] = []string{id.UID}
	}
	if len(id.Groups) > 0 {
		h[headerGroup] = id.Groups
	}
	for key, values := range id.Extra {
		h[http.CanonicalHeaderKey(headerExtra+escapeKey(key))] = values
	}
	return h
}

// escapeKey writes an extra's key so that it fits into a header's name (RFC 7230 tokens), with everything else percent-encoded.
func escapeKey(key string) string {
	var b strings.Builder
	for i := range len(key) {
		c := key[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$&'*+-.^_`|~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// OpenAPI is the path and query of the other server's version 3 document, or empty if it has none.
func (s *Service) OpenAPI() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.openapi
}

// Knows reports whether the other server said that it has a resource; others must not become labels of metrics.
func (s *Service) Knows(resource string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := range s.known.Resources {
		if s.known.Resources[i].Resource == resource {
			return true
		}
	}
	return false
}

// discovery is what the other server serves, as it last said; stale while it does not answer.
func (s *Service) discovery() discoveryv2.APIVersionDiscovery {
	s.mu.RLock()
	defer s.mu.RUnlock()
	d := *s.known.DeepCopy()
	d.Version = s.spec.Version
	d.Freshness = discoveryv2.DiscoveryFreshnessCurrent
	if !s.available {
		d.Freshness = discoveryv2.DiscoveryFreshnessStale
	}
	return d
}

func compareVersions(a, b string) int { return version.CompareKubeAwareVersionStrings(a, b) }

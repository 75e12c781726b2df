package podcert

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// API is what is needed of the API server. Errors that apierrors.IsNotFound recognizes mean that there is no such object.
type API interface {
	// Ask creates a request.
	Ask(ctx context.Context, r *certificatesv1.PodCertificateRequest) error
	// Request returns a pod's request as a mirror has it; [Manager.Changed] is to be called when that has changed.
	Request(ctx context.Context, p *corev1.Pod, name string) (*certificatesv1.PodCertificateRequest, error)
	// Identity returns the UIDs of the pod's ServiceAccount and of this node.
	Identity(ctx context.Context, p *corev1.Pod) (account, node types.UID, err error)
}

// Errors to be matched with errors.Is.
var (
	// ErrPending: the signer has not answered yet.
	ErrPending = errors.New("the certificate has not been issued yet")
	// ErrRefused: the signer has denied the request, or failed to sign it.
	ErrRefused = errors.New("the certificate request was refused")
)

const (
	// firstWait is how long a pod that has no certificate yet waits for one before that counts as a failure to make its volume: signers
	// answer within seconds or not at all.
	firstWait = 5 * time.Second
	// firstPause and maxPause bound the pause after a refusal, which doubles.
	firstPause = 5 * time.Minute
	maxPause   = time.Hour
	// retry is the pause after a failure to ask.
	retry = 10 * time.Second
	// lostAfter is when a request that cannot be found counts as deleted rather than as not seen yet.
	lostAfter = time.Minute
)

// Config is what a Manager is made of.
type Config struct {
	API API
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Manager gets certificates. Its methods may be called from any number of goroutines, those about one State one at a time.
type Manager struct {
	c Config

	mu      sync.Mutex
	changed chan struct{}
}

// New makes a manager.
func New(c Config) *Manager {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Manager{c: c, changed: make(chan struct{})}
}

// Changed says that requests have changed: who waits for an answer looks again.
func (m *Manager) Changed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *Manager) change() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// State is what is known of the certificate of one source of a volume; the zero value is nothing.
type State struct {
	have     *Credential
	asked    *asked
	refusals int
	// again is when to ask after a refusal, refused that refusal.
	again   time.Time
	refused error
}

// asked is a request under way.
type asked struct {
	key  crypto.Signer
	name string
	at   time.Time
}

// Have makes a credential that was recovered the one in use.
func (s *State) Have(c Credential) { s.have = &c }

// Empty says whether nothing is known yet.
func (s *State) Empty() bool { return s.have == nil && s.asked == nil && s.refused == nil }

// Next is when [Manager.Credential] is to be called again at the latest, some time after now; zero if never.
func (s *State) Next(now time.Time) time.Time {
	var at time.Time
	switch {
	case s.asked != nil:
		at = now.Add(lostAfter)
	case s.refused != nil:
		at = s.again
	case s.have != nil:
		at = s.have.Renew
	default:
		return time.Time{}
	}
	if soonest := now.Add(retry); at.Before(soonest) {
		return soonest // what is overdue has just failed
	}
	return at
}

// Credential returns the credential to use now, and does what is due to get the next one. Without any it waits a little for the first.
func (m *Manager) Credential(ctx context.Context, p *corev1.Pod, source *corev1.PodCertificateProjection, s *State) (Credential, error) {
	now := m.c.Now()
	if s.have != nil && now.Before(s.have.Renew) {
		return *s.have, nil
	}
	next, err := m.obtain(ctx, p, source, s)
	switch {
	case err == nil:
		*s = State{have: &next}
		return next, nil
	case s.have != nil && now.Before(s.have.Expires):
		return *s.have, nil
	}
	return Credential{}, err
}

// obtain asks for a certificate if none is asked for, and returns the answer.
func (m *Manager) obtain(ctx context.Context, p *corev1.Pod, source *corev1.PodCertificateProjection, s *State) (Credential, error) {
	if s.asked == nil {
		if s.refused != nil && m.c.Now().Before(s.again) {
			return Credential{}, s.refused
		}
		a, err := m.ask(ctx, p, source)
		if err != nil {
			return Credential{}, fmt.Errorf("ask signer %s for a certificate: %w", source.SignerName, err)
		}
		s.asked = a
	}
	wait := time.Duration(0)
	if s.have == nil {
		wait = firstWait
	}
	c, err := m.await(ctx, p, s.asked, wait)
	switch {
	case errors.Is(err, ErrRefused):
		s.refuse(m.c.Now(), err)
	case apierrors.IsNotFound(err):
		s.asked = nil // somebody has deleted it: the next call asks anew
	}
	return c, err
}

// refuse notes a refusal.
func (s *State) refuse(now time.Time, err error) {
	pause := maxPause
	if s.refusals < 4 { // 5, 10, 20, 40 minutes
		pause = firstPause << s.refusals
	}
	s.asked, s.refused, s.again = nil, err, now.Add(pause)
	s.refusals++
}

// ask makes a key and a request for it.
func (m *Manager) ask(ctx context.Context, p *corev1.Pod, source *corev1.PodCertificateProjection) (*asked, error) {
	key, err := newKey(source.KeyType)
	if err != nil {
		return nil, err
	}
	r, err := m.request(ctx, p, source, key)
	if err != nil {
		return nil, err
	}
	if err := m.c.API.Ask(ctx, r); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, err
	}
	return &asked{key, r.Name, m.c.Now()}, nil
}

// maxNamePart bounds what a request's name has of its pod's name, so that the whole is a name: 253 bytes less those of a fingerprint.
const maxNamePart = 253 - 1 - 16

func (m *Manager) request(ctx context.Context, p *corev1.Pod, source *corev1.PodCertificateProjection, key crypto.Signer) (*certificatesv1.PodCertificateRequest, error) {
	account, node, err := m.c.API.Identity(ctx, p)
	if err != nil {
		return nil, err
	}
	id, err := fingerprint(key)
	if err != nil {
		return nil, err
	}
	stub, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	return &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.Namespace, Name: p.Name[:min(len(p.Name), maxNamePart)] + "-" + id,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID}},
		},
		Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: source.SignerName, PodName: p.Name, PodUID: p.UID, ServiceAccountName: p.Spec.ServiceAccountName, ServiceAccountUID: account,
			NodeName: types.NodeName(p.Spec.NodeName), NodeUID: node, MaxExpirationSeconds: source.MaxExpirationSeconds,
			StubPKCS10Request: stub, UnverifiedUserAnnotations: source.UserAnnotations,
		},
	}, nil
}

// await returns the answer to a request. It waits at most so long for it.
func (m *Manager) await(ctx context.Context, p *corev1.Pod, a *asked, wait time.Duration) (Credential, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for over := wait == 0; ; {
		changed := m.change() // before the look: what changes after it is not missed
		r, err := m.c.API.Request(ctx, p, a.name)
		switch {
		case apierrors.IsNotFound(err) && m.c.Now().Before(a.at.Add(lostAfter)):
			// The mirror may not have it yet.
		case err != nil:
			return Credential{}, err
		default:
			if c, err := a.answer(p.UID, r); !errors.Is(err, ErrPending) {
				return c, err
			}
		}
		if over {
			return Credential{}, fmt.Errorf("PodCertificateRequest %s/%s: %w", p.Namespace, a.name, ErrPending)
		}
		select {
		case <-ctx.Done():
			return Credential{}, ctx.Err()
		case <-changed:
		case <-timer.C:
			over = true
		}
	}
}

// answer reads the answer to a request.
func (a *asked) answer(pod types.UID, r *certificatesv1.PodCertificateRequest) (Credential, error) {
	for _, c := range r.Status.Conditions {
		if c.Status != metav1.ConditionTrue {
			continue
		}
		switch c.Type {
		case certificatesv1.PodCertificateRequestConditionTypeDenied, certificatesv1.PodCertificateRequestConditionTypeFailed:
			return Credential{}, fmt.Errorf("%w: PodCertificateRequest %s/%s: %s: %s: %s", ErrRefused, r.Namespace, r.Name, c.Type, c.Reason, c.Message)
		case certificatesv1.PodCertificateRequestConditionTypeIssued:
			return a.issued(pod, r)
		}
	}
	return Credential{}, ErrPending
}

func (a *asked) issued(pod types.UID, r *certificatesv1.PodCertificateRequest) (Credential, error) {
	refuse := func(format string, args ...any) (Credential, error) {
		return Credential{}, fmt.Errorf("%w: PodCertificateRequest %s/%s: %w", ErrRefused, r.Namespace, r.Name, fmt.Errorf(format, args...))
	}
	leaf, chain, err := parseChain([]byte(r.Status.CertificateChain))
	if err != nil {
		return refuse("the certificate that was issued: %w", err)
	}
	if !matches(leaf, a.key) {
		return refuse("the certificate that was issued is for another key")
	}
	key, err := encodeKey(a.key)
	if err != nil {
		return Credential{}, err
	}
	begin := leaf.NotBefore.Add(time.Duration(float64(leaf.NotAfter.Sub(leaf.NotBefore)) * recoveredPart))
	if t := r.Status.BeginRefreshAt; t != nil {
		begin = t.Time
	}
	return Credential{Key: key, Chain: chain, Renew: spread(pod, begin, leaf.NotAfter), Expires: leaf.NotAfter}, nil
}

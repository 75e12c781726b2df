// Package objects keeps what this node's pods refer to, and nothing else: ConfigMaps, Secrets and trust bundles by name, the trust
// bundles of a signer, and a pod's own requests for certificates. There is a mirror for each, for as long as a pod holds it. That is
// all that the node authorizer lets a kubelet read.
//
//	cache := objects.New(client, func(r objects.Ref) { … })
//	cache.Hold(podUID, objects.Refs(pod))
//	m, err := cache.ConfigMap(ctx, "default", "settings")   // NotFound if there is none
//	cache.Drop(podUID)
package objects

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/client"
)

// Kind is a kind of what pods refer to.
type Kind string

const (
	ConfigMap   Kind = "configmaps"
	Secret      Kind = "secrets"
	TrustBundle Kind = "clustertrustbundles"
	// SignerBundles are all trust bundles of the signer that Ref.Name is.
	SignerBundles Kind = "clustertrustbundles by signer"
	// CertificateRequests are all PodCertificateRequests for the pod that Ref.Name is, on the node that Ref.Node is.
	CertificateRequests Kind = "podcertificaterequests"
)

// Ref names an object, or a few.
type Ref struct {
	Kind            Kind
	Namespace, Name string
	Node            string
}

// waitLimit is how long a look-up waits for an object's first snapshot before it fails, to be tried again: long enough for
// a failover between API servers, short enough for a pod's status to say what it waits for.
const waitLimit = 5 * time.Second

// Cache is the objects that are held. Its methods may be called from any number of goroutines.
type Cache struct {
	client   *client.Client
	log      *slog.Logger
	onChange func(Ref)

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	held map[Ref]*entry
	pods map[types.UID][]Ref
}

// entry is one held object.
type entry struct {
	holders int
	cancel  context.CancelFunc
	// get returns the object, or the mirror of those that a Ref of several is about.
	get func(ctx context.Context) (any, error)
}

// New makes an empty cache. onChange is called, from one goroutine per object, when a held object changes.
func New(c *client.Client, log *slog.Logger, onChange func(Ref)) *Cache {
	ctx, cancel := context.WithCancel(context.Background())
	return &Cache{client: c, log: log, onChange: onChange, ctx: ctx, cancel: cancel, held: map[Ref]*entry{}, pods: map[types.UID][]Ref{}}
}

// Close ends all mirrors and returns when they have ended.
func (c *Cache) Close() {
	c.cancel()
	c.wg.Wait()
}

// Hold makes refs the objects that the pod holds.
func (c *Cache) Hold(pod types.UID, refs []Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.pods[pod]
	for _, r := range refs {
		c.takeLocked(r)
	}
	for _, r := range old {
		c.dropLocked(r)
	}
	if len(refs) == 0 {
		delete(c.pods, pod)
		return
	}
	c.pods[pod] = refs
}

// Drop ends a pod's holds.
func (c *Cache) Drop(pod types.UID) { c.Hold(pod, nil) }

func (c *Cache) takeLocked(r Ref) {
	e := c.held[r]
	if e == nil {
		ctx, cancel := context.WithCancel(c.ctx)
		e = &entry{cancel: cancel}
		switch r.Kind {
		case ConfigMap:
			e.get = follow(c, ctx, client.ConfigMaps(), r)
		case Secret:
			e.get = follow(c, ctx, client.Secrets(), r)
		case TrustBundle:
			e.get = follow(c, ctx, client.ClusterTrustBundles(), r)
		case SignerBundles:
			e.get = mirror(c, ctx, client.ClusterTrustBundles(), r, fields.OneTermEqualSelector("spec.signerName", r.Name))
		case CertificateRequests:
			e.get = mirror(c, ctx, client.PodCertificateRequests(), r,
				fields.SelectorFromSet(fields.Set{"spec.nodeName": r.Node, "spec.podName": r.Name}))
		}
		c.held[r] = e
	}
	e.holders++
}

func (c *Cache) dropLocked(r Ref) {
	if e := c.held[r]; e != nil {
		if e.holders--; e.holders == 0 {
			e.cancel()
			delete(c.held, r)
		}
	}
}

// mirror starts a mirror of what a selector selects and returns how to read it.
func mirror[T client.Object](c *Cache, ctx context.Context, k client.Kind[T], r Ref, which fields.Selector) func(context.Context) (any, error) {
	m := client.NewMirror(c.client, k, client.MirrorOptions[T]{Namespace: r.Namespace, FieldSelector: which.String(), Log: c.log})
	m.OnChange(func(client.Change[T]) { c.onChange(r) })
	c.wg.Go(func() { _ = m.Run(ctx) })
	return func(ctx context.Context) (any, error) { return m, m.WaitSynced(ctx) }
}

// follow starts a mirror of one object and returns how to read it.
func follow[T client.Object](c *Cache, ctx context.Context, k client.Kind[T], r Ref) func(context.Context) (any, error) {
	get := mirror(c, ctx, k, r, fields.OneTermEqualSelector("metadata.name", r.Name))
	return func(ctx context.Context) (any, error) {
		m, err := get(ctx)
		if err != nil {
			return nil, err
		}
		obj, ok := m.(*client.Mirror[T]).Get(r.Namespace, r.Name)
		if !ok {
			return nil, notFound(r.Kind, r.Name)
		}
		return obj, nil
	}
}

func notFound(k Kind, name string) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: singular(k)}, name)
}

// singular is the kind as "not found" messages of the kubelet name it.
func singular(k Kind) string { return string(k[:len(k)-1]) }

func (c *Cache) get(ctx context.Context, r Ref) (any, error) {
	c.mu.Lock()
	e := c.held[r]
	c.mu.Unlock()
	if e == nil {
		return nil, fmt.Errorf("%s %s/%s is not held by any pod of this node", singular(r.Kind), r.Namespace, r.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	return e.get(ctx)
}

// ConfigMap returns a held ConfigMap; it is shared and must not be modified.
func (c *Cache) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	obj, err := c.get(ctx, Ref{Kind: ConfigMap, Namespace: namespace, Name: name})
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.ConfigMap), nil
}

// Secret returns a held Secret; it is shared and must not be modified.
func (c *Cache) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	obj, err := c.get(ctx, Ref{Kind: Secret, Namespace: namespace, Name: name})
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.Secret), nil
}

// TrustBundle returns a held trust bundle; it is shared and must not be modified.
func (c *Cache) TrustBundle(ctx context.Context, name string) (*certificatesv1.ClusterTrustBundle, error) {
	obj, err := c.get(ctx, Ref{Kind: TrustBundle, Name: name})
	if err != nil {
		return nil, err
	}
	return obj.(*certificatesv1.ClusterTrustBundle), nil
}

// TrustBundles returns all trust bundles of a signer; they are shared and must not be modified.
func (c *Cache) TrustBundles(ctx context.Context, signer string) ([]*certificatesv1.ClusterTrustBundle, error) {
	m, err := c.get(ctx, Ref{Kind: SignerBundles, Name: signer})
	if err != nil {
		return nil, err
	}
	return m.(*client.Mirror[*certificatesv1.ClusterTrustBundle]).List(), nil
}

// CertificateRequest returns a request for a certificate of a pod; it is shared and must not be modified.
func (c *Cache) CertificateRequest(ctx context.Context, p *corev1.Pod, name string) (*certificatesv1.PodCertificateRequest, error) {
	m, err := c.get(ctx, Ref{Kind: CertificateRequests, Namespace: p.Namespace, Name: p.Name, Node: p.Spec.NodeName})
	if err != nil {
		return nil, err
	}
	r, ok := m.(*client.Mirror[*certificatesv1.PodCertificateRequest]).Get(p.Namespace, name)
	if !ok {
		return nil, notFound(CertificateRequests, name)
	}
	return r, nil
}

package aggregator

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"reflect"
	"slices"
	"testing"
	"time"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"bareboat.dev/apiserver/authn"
)

// proxies returns an authenticator that believes the returned chain.
func proxies(t *testing.T) (*authn.FrontProxy, [][]*x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "front"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authn.FrontProxy{
		Authorities: func() (*x509.CertPool, error) { return pool, nil }, UserHeaders: []string{headerUser}, UIDHeaders: []string{headerUID},
		GroupHeaders: []string{headerGroup}, ExtraPrefixes: []string{headerExtra},
	}, [][]*x509.Certificate{{cert}}
}

// Whoever a request is from, another server reads out of the headers what was written into them, extras with any key included.
func TestIdentityTravels(t *testing.T) {
	p, chains := proxies(t)
	for _, id := range []*authn.Identity{
		{Name: "jane", Groups: []string{"a", "b", authn.AllAuthenticated}, Extra: map[string][]string{}},
		{Name: "system:serviceaccount:n:x", UID: "u-1", Groups: []string{authn.ServiceAccounts, authn.AllAuthenticated}, Extra: map[string][]string{
			"authentication.kubernetes.io/pod-name": {"p"}, "scopes": {"one", "two"}, "odd key%/ü": {"v"},
		}},
		{Name: authn.Anonymous, Groups: []string{authn.Unauthenticated}, Extra: map[string][]string{}},
	} {
		got, ok, err := p.Identity(chains, identityHeaders(id))
		if err != nil || !ok || got.Name != id.Name || got.UID != id.UID || !slices.Equal(got.Groups, id.Groups) || !reflect.DeepEqual(got.Extra, id.Extra) {
			t.Errorf("%+v arrived as %+v, %v %v", id, got, ok, err)
		}
	}
}

// A list of resources in the old form becomes one in the new: subresources within their resources, kinds with their groups.
func TestResources(t *testing.T) {
	got := resources(&metav1.APIResourceList{GroupVersion: "g.example.com/v1", APIResources: []metav1.APIResource{
		{Name: "nodes", Kind: "NodeMetrics", Verbs: []string{"get"}},
		{Name: "boats/scale", Kind: "Scale", Group: "autoscaling", Version: "v1", Verbs: []string{"get"}},
		{Name: "boats", SingularName: "boat", Kind: "Boat", Namespaced: true, Verbs: []string{"get", "list"}},
		{Name: "orphans/status", Kind: "Orphan"},
	}})
	if len(got) != 2 || got[0].Resource != "boats" || got[0].Scope != discoveryv2.ScopeNamespace || got[1].Scope != discoveryv2.ScopeCluster {
		t.Fatalf("%+v", got)
	}
	scale := got[0].Subresources
	if len(scale) != 1 || scale[0].Subresource != "scale" || *scale[0].ResponseKind != (metav1.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}) {
		t.Errorf("%+v", scale)
	}
}

// Groups come by their priority and then their name, versions by their priority and then the newest.
func TestOrder(t *testing.T) {
	service := func(group, version string, g, v int32) *Service {
		return &Service{spec: apiregistrationv1.APIServiceSpec{Group: group, Version: version, GroupPriorityMinimum: g, VersionPriority: v}}
	}
	all := []*Service{service("b", "v1", 5, 1), service("a", "v1beta1", 9, 1), service("a", "v1", 9, 1), service("c", "v2", 9, 1), service("a", "v3alpha1", 9, 7)}
	slices.SortFunc(all, compare)
	got := ""
	for _, s := range all {
		got += s.spec.Group + "/" + s.spec.Version + " "
	}
	if want := "a/v3alpha1 a/v1 a/v1beta1 c/v2 b/v1 "; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// silence is a network where nobody ever answers.
type silence struct{}

func (silence) Ready(ctx context.Context, _, _ string, _ int32) error {
	<-ctx.Done()
	return ctx.Err()
}

func (silence) Dial(ctx context.Context, _, _ string, _ int32) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// An APIService whose spec changes is served on while it is asked anew; another one of the same name is not.
func TestChangedServiceStaysAvailable(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	a := New(Config{Network: silence{}})
	defer a.workers.Wait()
	defer cancel()
	gv := schema.GroupVersion{Group: "g", Version: "v1"}
	apply := func(uid types.UID, priority int32) *Service {
		o := &apiregistrationv1.APIService{}
		o.Name, o.UID = "v1.g", uid
		o.Spec = apiregistrationv1.APIServiceSpec{Group: "g", Version: "v1", VersionPriority: priority, Service: &apiregistrationv1.ServiceReference{Namespace: "n", Name: "s"}}
		a.apply(ctx, []change{{object: o}}, false)
		return a.services[gv]
	}
	first := apply("1", 1)
	if first.available {
		t.Error("a new APIService is available before it was asked")
	}
	first.mu.Lock()
	first.available = true
	first.mu.Unlock()
	if changed := apply("1", 2); changed == first || !changed.available {
		t.Error("a changed APIService is unavailable until it is asked")
	}
	if apply("2", 2).available {
		t.Error("another APIService of the same name is available before it was asked")
	}
}

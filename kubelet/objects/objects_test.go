package objects

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// newCache makes a cache that sends what has changed.
func newCache(t *testing.T, s *clienttest.Server) (*Cache, <-chan Ref) {
	t.Helper()
	changed := make(chan Ref, 100)
	c := New(s.Client(), slog.New(slog.DiscardHandler), func(r Ref) { changed <- r })
	t.Cleanup(c.Close)
	return c, changed
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Data: map[string]string{"k": value}}
}

func create(t *testing.T, s *clienttest.Server, cm *corev1.ConfigMap) *corev1.ConfigMap {
	t.Helper()
	made, err := client.Of(s.Client(), client.ConfigMaps()).Create(t.Context(), cm)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func await(t *testing.T, changed <-chan Ref, want Ref) {
	t.Helper()
	select {
	case r := <-changed:
		if r != want {
			t.Fatalf("%v has changed, want %v", r, want)
		}
	case <-time.After(20 * time.Second): // reached only when something is wrong
		t.Fatalf("nothing told of %v", want)
	}
}

// TestFollow shows that a held object is read as it is now, that its changes are told, and that what nobody holds is not read.
func TestFollow(t *testing.T) {
	s := clienttest.NewServer(t)
	cm := create(t, s, configMap("a", "1"))
	create(t, s, configMap("other", "1"))
	c, changed := newCache(t, s)
	a := Ref{Kind: ConfigMap, Namespace: "ns", Name: "a"}
	c.Hold("pod", []Ref{a, {Kind: ConfigMap, Namespace: "ns", Name: "absent"}})
	await(t, changed, a)
	got, err := c.ConfigMap(t.Context(), "ns", "a")
	if err != nil || got.Data["k"] != "1" {
		t.Fatalf("read %v, %v", got, err)
	}
	if _, err := c.ConfigMap(t.Context(), "ns", "absent"); !apierrors.IsNotFound(err) || err.Error() != `configmap "absent" not found` {
		t.Errorf("an object that is not there: %v", err)
	}
	if _, err := c.ConfigMap(t.Context(), "ns", "other"); err == nil || !strings.Contains(err.Error(), "is not held by any pod") {
		t.Errorf("an object that nobody holds: %v", err)
	}
	cm.Data["k"] = "2"
	if _, err := client.Of(s.Client(), client.ConfigMaps()).Update(t.Context(), cm); err != nil {
		t.Fatal(err)
	}
	await(t, changed, a)
	if got, err = c.ConfigMap(t.Context(), "ns", "a"); err != nil || got.Data["k"] != "2" {
		t.Errorf("after a change: %v, %v", got, err)
	}
	create(t, s, configMap("absent", "3"))
	await(t, changed, Ref{Kind: ConfigMap, Namespace: "ns", Name: "absent"})
}

// TestHolders shows that an object is followed as long as any pod holds it, through changes of what pods hold, and by one mirror only.
func TestHolders(t *testing.T) {
	s := clienttest.NewServer(t)
	create(t, s, configMap("a", "1"))
	c, changed := newCache(t, s)
	a, b := Ref{Kind: ConfigMap, Namespace: "ns", Name: "a"}, Ref{Kind: Secret, Namespace: "ns", Name: "b"}
	c.Hold("one", []Ref{a})
	await(t, changed, a)
	c.Hold("two", []Ref{a, b})
	c.Hold("one", []Ref{b})
	c.Hold("two", []Ref{a}) // it was held throughout
	if _, err := c.ConfigMap(t.Context(), "ns", "a"); err != nil {
		t.Errorf("while the second pod holds it: %v", err)
	}
	c.Drop("two")
	if _, err := c.ConfigMap(t.Context(), "ns", "a"); err == nil {
		t.Error("it is still followed when nobody holds it")
	}
	c.Drop("one")
	c.Drop("one")
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.held) != 0 || len(c.pods) != 0 {
		t.Errorf("held %v by %v, want nothing", c.held, c.pods)
	}
	if len(changed) != 0 {
		t.Errorf("%d changes told of an object that did not change", len(changed))
	}
}

// TestUnreachable shows that a look-up does not wait for ever for an API server that does not answer, and that Close ends everything.
func TestUnreachable(t *testing.T) {
	s := clienttest.NewServer(t)
	s.Fail(func(string, *apiv1.ResourceRef) error { return fmt.Errorf("away") })
	c, _ := newCache(t, s)
	c.Hold("pod", []Ref{{Kind: Secret, Namespace: "ns", Name: "b"}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := c.Secret(ctx, "ns", "b"); err == nil {
		t.Error("something was read")
	}
	c.Close()
	c.Hold("late", []Ref{{Kind: ConfigMap, Namespace: "ns", Name: "x"}}) // a pod's worker may be a little behind
	if _, err := c.ConfigMap(ctx, "ns", "x"); err == nil {
		t.Error("a closed cache reads")
	}
}

// TestRefs shows every place in which a pod refers to something, each named once.
func TestRefs(t *testing.T) {
	p := &corev1.Pod{}
	p.Namespace = "ns"
	err := yaml.UnmarshalStrict([]byte(`
imagePullSecrets: [{name: pull}, {name: ""}]
initContainers: [{name: i, envFrom: [{configMapRef: {name: init-env}}, {secretRef: {name: init-secret}}]}]
containers:
- {name: a, env: [{name: A, value: x}, {name: B, valueFrom: {configMapKeyRef: {name: key, key: k}}}, {name: C, valueFrom: {secretKeyRef: {name: secret-key, key: k}}}]}
- {name: b, env: [{name: B, valueFrom: {configMapKeyRef: {name: key, key: other}}}, {name: D, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}
ephemeralContainers: [{name: e, env: [{name: B, valueFrom: {configMapKeyRef: {name: debug, key: k}}}]}]
volumes:
- {name: a, configMap: {name: volume}}
- {name: b, secret: {secretName: secret-volume}}
- {name: c, projected: {sources: [{configMap: {name: part}}, {secret: {name: secret-part}}, {serviceAccountToken: {path: t}}]}}
- {name: c2, projected: {sources: [{clusterTrustBundle: {name: anchors, path: a}}, {clusterTrustBundle: {signerName: example.com/s, path: b}}, {podCertificate: {signerName: example.com/s, keyType: ED25519}}]}}
- {name: d, emptyDir: {}}
`), &p.Spec)
	if err != nil {
		t.Fatal(err)
	}
	p.Name, p.Spec.NodeName = "web", "n1"
	var got []string
	for _, r := range Refs(p) {
		if cluster := r.Kind == TrustBundle || r.Kind == SignerBundles; cluster != (r.Namespace == "") {
			t.Errorf("%v is of namespace %q", r, r.Namespace)
		}
		got = append(got, string(r.Kind)+"/"+r.Name+r.Node)
	}
	want := []string{"clustertrustbundles by signer/example.com/s", "clustertrustbundles/anchors", "configmaps/debug", "configmaps/init-env", "configmaps/key", "configmaps/part", "configmaps/volume",
		"podcertificaterequests/webn1", "secrets/init-secret", "secrets/pull", "secrets/secret-key", "secrets/secret-part", "secrets/secret-volume"}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
}

// TestTrust shows trust bundles by name and by signer, and a pod's requests for certificates, each as it is now.
func TestTrust(t *testing.T) {
	s := clienttest.NewServer(t)
	put := func(name, signer string) {
		b := &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: name}}
		b.Spec.SignerName = signer
		clienttest.Put(s, client.ClusterTrustBundles(), b)
	}
	ask := func(name, pod, node string) {
		r := &certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
		r.Spec.PodName, r.Spec.NodeName = pod, types.NodeName(node)
		clienttest.Put(s, client.PodCertificateRequests(), r)
	}
	put("plain", "")
	put("s:one", "s")
	put("other:one", "other")
	c, changed := newCache(t, s)
	signer, own := Ref{Kind: SignerBundles, Name: "s"}, Ref{Kind: CertificateRequests, Namespace: "ns", Name: "web", Node: "n1"}
	c.Hold("pod", []Ref{{Kind: TrustBundle, Name: "plain"}})
	await(t, changed, Ref{Kind: TrustBundle, Name: "plain"})
	if b, err := c.TrustBundle(t.Context(), "plain"); err != nil || b.Name != "plain" {
		t.Errorf("%v, %v", b, err)
	}
	c.Hold("pod", []Ref{signer, own})
	await(t, changed, signer)
	put("s:two", "s")
	await(t, changed, signer)
	if all, err := c.TrustBundles(t.Context(), "s"); err != nil || len(all) != 2 {
		t.Errorf("%d bundles, %v", len(all), err)
	}
	ask("mine", "web", "n1")
	await(t, changed, own)
	ask("elsewhere", "web", "n2")
	ask("another", "db", "n1")
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}, Spec: corev1.PodSpec{NodeName: "n1"}}
	if r, err := c.CertificateRequest(t.Context(), p, "mine"); err != nil || r.Name != "mine" {
		t.Errorf("%v, %v", r, err)
	}
	for _, name := range []string{"elsewhere", "another"} {
		if _, err := c.CertificateRequest(t.Context(), p, name); !apierrors.IsNotFound(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

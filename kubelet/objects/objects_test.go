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
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	a := Ref{ConfigMap, "ns", "a"}
	c.Hold("pod", []Ref{a, {ConfigMap, "ns", "absent"}})
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
	await(t, changed, Ref{ConfigMap, "ns", "absent"})
}

// TestHolders shows that an object is followed as long as any pod holds it, through changes of what pods hold, and by one mirror only.
func TestHolders(t *testing.T) {
	s := clienttest.NewServer(t)
	create(t, s, configMap("a", "1"))
	c, changed := newCache(t, s)
	a, b := Ref{ConfigMap, "ns", "a"}, Ref{Secret, "ns", "b"}
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
	c.Hold("pod", []Ref{{Secret, "ns", "b"}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := c.Secret(ctx, "ns", "b"); err == nil {
		t.Error("something was read")
	}
	c.Close()
	c.Hold("late", []Ref{{ConfigMap, "ns", "x"}}) // a pod's worker may be a little behind
	if _, err := c.ConfigMap(ctx, "ns", "x"); err == nil {
		t.Error("a closed cache reads")
	}
}

// TestRefs shows every place in which a pod refers to a ConfigMap or a Secret, each named once.
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
- {name: d, emptyDir: {}}
`), &p.Spec)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range Refs(p) {
		if r.Namespace != "ns" {
			t.Errorf("%v is not of the pod's namespace", r)
		}
		got = append(got, string(r.Kind)+"/"+r.Name)
	}
	want := []string{"configmaps/debug", "configmaps/init-env", "configmaps/key", "configmaps/part", "configmaps/volume",
		"secrets/init-secret", "secrets/pull", "secrets/secret-key", "secrets/secret-part", "secrets/secret-volume"}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

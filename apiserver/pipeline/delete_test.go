package pipeline

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/registry"
)

// graceful is a kind whose deletion waits 30 s unless the request says otherwise.
func graceful() *handle {
	return &handle{res: &registry.Resource{Strategy: registry.Strategy{GracePeriod: func(_ registry.Object, requested *int64) time.Duration {
		if requested != nil {
			return time.Duration(*requested) * time.Second
		}
		return 30 * time.Second
	}}}}
}

func seconds(n int64) *int64 { return &n }

// A deletion removes, marks, shortens or does nothing, by what holds the object and what was asked before.
func TestDecideDelete(t *testing.T) {
	now := time.Unix(1_000, 0)
	marked := func(at int64, grace int64, finalizers ...string) *corev1.Pod {
		when := metav1.NewTime(time.Unix(at, 0))
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &when, DeletionGracePeriodSeconds: &grace, Finalizers: finalizers}}
	}
	foreground := metav1.DeletePropagationForeground
	for _, tc := range []struct {
		name    string
		h       *handle
		old     *corev1.Pod
		options metav1.DeleteOptions
		// what the decision is: "remove", "keep", or the mark that the object gets.
		want       string
		at, grace  int64
		finalizers []string
	}{
		{name: "plain object", h: &handle{res: &registry.Resource{}}, old: &corev1.Pod{}, want: "remove"},
		{name: "finalizers hold it", h: &handle{res: &registry.Resource{}}, old: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Finalizers: []string{"a/b"}}}, want: "mark", at: 1_000, finalizers: []string{"a/b"}},
		{name: "foreground", h: &handle{res: &registry.Resource{}}, old: &corev1.Pod{}, options: metav1.DeleteOptions{PropagationPolicy: &foreground}, want: "mark", at: 1_000, finalizers: []string{"foregroundDeletion"}},
		{name: "foreground where nothing is collected", h: &handle{res: &registry.Resource{Strategy: registry.Strategy{Uncollected: true}}}, old: &corev1.Pod{}, options: metav1.DeleteOptions{PropagationPolicy: &foreground}, want: "remove"},
		{name: "grace", h: graceful(), old: &corev1.Pod{}, want: "mark", at: 1_030, grace: 30},
		{name: "no grace", h: graceful(), old: &corev1.Pod{}, options: metav1.DeleteOptions{GracePeriodSeconds: seconds(0)}, want: "remove"},
		{name: "again, without asking", h: graceful(), old: marked(1_030, 30), want: "keep"},
		{name: "again, longer", h: graceful(), old: marked(1_030, 30), options: metav1.DeleteOptions{GracePeriodSeconds: seconds(60)}, want: "keep"},
		{name: "again, shorter", h: graceful(), old: marked(1_030, 30), options: metav1.DeleteOptions{GracePeriodSeconds: seconds(10)}, want: "mark", at: 1_010, grace: 10},
		{name: "again, now", h: graceful(), old: marked(1_030, 30), options: metav1.DeleteOptions{GracePeriodSeconds: seconds(0)}, want: "remove"},
		{name: "now, but held", h: graceful(), old: marked(1_030, 30, "a/b"), options: metav1.DeleteOptions{GracePeriodSeconds: seconds(0)}, want: "mark", at: 1_000, finalizers: []string{"a/b"}},
	} {
		d := tc.h.decideDelete(tc.old, &tc.options, now)
		got := "mark"
		switch {
		case d.keep:
			got = "keep"
		case d.obj == nil:
			got = "remove"
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
			continue
		}
		if got != "mark" {
			continue
		}
		if at := d.obj.GetDeletionTimestamp().Unix(); at != tc.at || *d.obj.GetDeletionGracePeriodSeconds() != tc.grace || !slices.Equal(d.obj.GetFinalizers(), tc.finalizers) {
			t.Errorf("%s: at %d grace %d %v", tc.name, at, *d.obj.GetDeletionGracePeriodSeconds(), d.obj.GetFinalizers())
		}
	}
}

// Each propagation policy leaves the collector exactly the finalizer that it stands for, and others alone.
func TestCollectorFinalizers(t *testing.T) {
	orphan, foreground, background := metav1.DeletePropagationOrphan, metav1.DeletePropagationForeground, metav1.DeletePropagationBackground
	yes, no := true, false
	for _, tc := range []struct {
		name string
		have []string
		o    metav1.DeleteOptions
		want []string
	}{
		{"nothing asked", []string{"a/b"}, metav1.DeleteOptions{}, []string{"a/b"}},
		{"kept from before", []string{"orphan"}, metav1.DeleteOptions{}, []string{"orphan"}},
		{"orphan", []string{"a/b", "foregroundDeletion"}, metav1.DeleteOptions{PropagationPolicy: &orphan}, []string{"a/b", "orphan"}},
		{"foreground", []string{"orphan"}, metav1.DeleteOptions{PropagationPolicy: &foreground}, []string{"foregroundDeletion"}},
		{"background", []string{"orphan", "a/b"}, metav1.DeleteOptions{PropagationPolicy: &background}, []string{"a/b"}},
		{"old flag", nil, metav1.DeleteOptions{OrphanDependents: &yes}, []string{"orphan"}},
		{"old flag off", []string{"orphan"}, metav1.DeleteOptions{OrphanDependents: &no}, nil},
	} {
		if got := collectorFinalizers(tc.have, &tc.o, ""); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// A continue token survives its encoding; anything else is refused, and nothing reaches outside of its resource.
func TestContinueToken(t *testing.T) {
	token, err := encodeContinue("/registry/pods/", "/registry/pods/ns/p", 7)
	if err != nil {
		t.Fatal(err)
	}
	after, rev, err := decodeContinue("/registry/pods/", token)
	if err != nil || after != "/registry/pods/ns/p" || rev != 7 {
		t.Errorf("%q %d %v", after, rev, err)
	}
	if _, err := encodeContinue("/registry/pods/", "/registry/secrets/ns/s", 7); err == nil {
		t.Error("a key of another resource was encoded")
	}
}

// FuzzContinueToken: no token makes a list start outside of its resource.
func FuzzContinueToken(f *testing.F) {
	f.Add("eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6Nywic3RhcnQiOiIuLi9zZWNyZXRzIn0")
	f.Fuzz(func(t *testing.T, token string) {
		after, _, err := decodeContinue("/registry/pods/", token)
		if err == nil && (len(after) < len("/registry/pods/") || after[:len("/registry/pods/")] != "/registry/pods/") {
			t.Errorf("token %q leads to %q", token, after)
		}
	})
}

// Generated names fit a DNS label whatever the prefix, and have a suffix of five.
func TestGenerateName(t *testing.T) {
	p := &Pipeline{cfg: Config{Rand: func(int) int { return 3 }}}
	if got := p.generateName("web-"); got != "web-fffff" {
		t.Errorf("%s", got)
	}
	long := p.generateName(string(slices.Repeat([]byte("a"), 100)))
	if len(long) != 63 {
		t.Errorf("length %d", len(long))
	}
}

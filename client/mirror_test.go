package client_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// follower checks each change against the contract and keeps what they add up to.
type follower struct {
	t       *testing.T
	objects map[string]*corev1.ConfigMap
	log     []string
}

func (f *follower) change(ch client.Change[*corev1.ConfigMap]) {
	name := ch.Object().Name
	held := f.objects[name]
	switch ch.Type {
	case client.Added:
		if held != nil || ch.Old != nil {
			f.t.Errorf("%s added at %d, but it was held", name, ch.Revision)
		}
		f.objects[name] = ch.New
	case client.Updated:
		if held == nil || held != ch.Old {
			f.t.Errorf("%s updated at %d from a state that was not told before", name, ch.Revision)
		}
		f.objects[name] = ch.New
	case client.Deleted:
		if held == nil || held != ch.Old {
			f.t.Errorf("%s deleted at %d from a state that was not told before", name, ch.Revision)
		}
		delete(f.objects, name)
	}
	if ch.Type != client.Deleted {
		f.log = append(f.log, fmt.Sprintf("%s %s@%s", ch.Type, name, ch.New.ResourceVersion))
	} else {
		f.log = append(f.log, fmt.Sprintf("%s %s@%d", ch.Type, name, ch.Revision))
	}
}

// writer makes random writes and notes what a watch of the selected objects must tell of them.
type writer struct {
	rng      *rand.Rand
	maps     *client.Resource[*corev1.ConfigMap]
	stored   map[string]*corev1.ConfigMap
	expected []string
}

func selected(cm *corev1.ConfigMap) bool { return cm != nil && cm.Labels["in"] == "yes" }

func (w *writer) step(t *testing.T) {
	ctx := t.Context()
	name := "cm-" + strconv.Itoa(w.rng.IntN(6))
	label := []string{"yes", "no"}[w.rng.IntN(2)]
	old := w.stored[name]
	var stored *corev1.ConfigMap
	var err error
	switch {
	case old == nil:
		stored, err = w.maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"in": label}}})
	case w.rng.IntN(3) == 0:
		err = w.maps.Delete(ctx, "default", name, client.DeleteOptions{})
	default:
		next := old.DeepCopy()
		next.Labels = map[string]string{"in": label}
		next.Data = map[string]string{"n": strconv.Itoa(w.rng.IntN(1 << 30))}
		stored, err = w.maps.Update(ctx, next)
	}
	if err != nil {
		t.Fatalf("write: %v", err)
	}
	switch was, is := selected(old), selected(stored); {
	case was && is:
		w.expected = append(w.expected, fmt.Sprintf("MODIFIED %s@%s", name, stored.ResourceVersion))
	case is:
		w.expected = append(w.expected, fmt.Sprintf("ADDED %s@%s", name, stored.ResourceVersion))
	case was:
		w.expected = append(w.expected, "DELETED "+name)
	}
	if stored == nil {
		delete(w.stored, name)
	} else {
		w.stored[name] = stored
	}
}

func (w *writer) want() map[string]*corev1.ConfigMap {
	want := map[string]*corev1.ConfigMap{}
	for name, cm := range w.stored {
		if selected(cm) {
			want[name] = cm
		}
	}
	return want
}

// runHistory makes random writes and failures while a mirror follows, and returns both sides' accounts.
func runHistory(t *testing.T, seed uint64, compact bool) (*follower, *writer, client.MirrorStats) {
	s := clienttest.NewServer(t)
	w := &writer{rng: rand.New(rand.NewPCG(seed, 1)), maps: client.Of(s.NewClient(), client.ConfigMaps()), stored: map[string]*corev1.ConfigMap{}}
	f := &follower{t: t, objects: map[string]*corev1.ConfigMap{}}
	m := client.NewMirror(s.Client(), client.ConfigMaps(), client.MirrorOptions[*corev1.ConfigMap]{LabelSelector: "in=yes"})
	m.OnChange(f.change)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	if err := m.WaitSynced(ctx); err != nil {
		t.Fatal(err)
	}
	for range 300 {
		w.step(t)
		switch w.rng.IntN(20) {
		case 0:
			s.Fail(func(method string, _ *apiv1.ResourceRef) error {
				if method == "Watch" || method == "Watch.Send" {
					return status.Error(codes.Unavailable, "injected")
				}
				return nil
			})
		case 1, 2:
			s.Fail(nil)
		case 3:
			s.Disconnect(s.Client())
		case 4:
			if compact {
				s.Compact()
			}
		case 5:
			time.Sleep(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
		}
	}
	s.Fail(nil)
	if err := m.WaitRevision(ctx, s.Revision()); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	return f, w, m.Stats()
}

// Shows that a mirror tells every matching change exactly once and in order, whatever breaks, as long as history is held.
func TestMirrorExactlyOnce(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			f, w, stats := runHistory(t, seed, false)
			got := slices.Clone(f.log)
			for i, line := range got {
				if len(line) > 7 && line[:7] == "DELETED" { // a deletion's revision is not told to the writer
					got[i] = line[:slices.Index([]byte(line), '@')]
				}
			}
			if !slices.Equal(got, w.expected) {
				t.Errorf("seed %d: told\n%v\nwant\n%v", seed, got, w.expected)
			}
			if stats.Relists != 0 {
				t.Errorf("seed %d: %d relists, want none", seed, stats.Relists)
			}
		})
	}
}

// Shows that after compactions a mirror relists, tells consistent differences, and ends up with exactly what is stored.
func TestMirrorSurvivesCompaction(t *testing.T) {
	relists := int64(0)
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			f, w, stats := runHistory(t, seed, true)
			if want := w.want(); !sameObjects(f.objects, want) {
				t.Errorf("seed %d: mirror has %v, stored are %v", seed, names(f.objects), names(want))
			}
			relists += stats.Relists
		})
	}
	if relists == 0 {
		t.Error("no history made the mirror list again: the test shows nothing")
	}
}

// Shows that a mirror lists again when the server's store is behind what the mirror has seen, as after a backup was restored, and
// goes on with what is there.
func TestMirrorSurvivesRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clienttest.NewServer(t)
		maps := client.Of(s.NewClient(), client.ConfigMaps())
		create := func(name string) {
			t.Helper()
			if _, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}); err != nil {
				t.Fatal(err)
			}
		}
		create("kept")
		m := client.NewMirror(s.Client(), client.ConfigMaps(), client.MirrorOptions[*corev1.ConfigMap]{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		if err := m.WaitSynced(ctx); err != nil {
			t.Fatal(err)
		}
		// The model server cannot go back in time; it says what one that did says to a watch from a revision that it has not got.
		tooLarge := apierrors.NewTimeoutError("Too large resource version", 1)
		tooLarge.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge}}
		refused := 0
		s.Fail(func(method string, _ *apiv1.ResourceRef) error {
			if method == "Watch" && refused < 1 {
				refused++
				return tooLarge
			}
			return nil
		})
		s.Disconnect(s.Client())
		create("new")
		time.Sleep(time.Minute)
		if _, ok := m.Get("default", "new"); !ok || m.Len() != 2 || m.Stats().Relists != 1 {
			t.Errorf("%d objects, %+v", m.Len(), m.Stats())
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func sameObjects(a, b map[string]*corev1.ConfigMap) bool {
	if len(a) != len(b) {
		return false
	}
	for name := range a {
		if b[name] == nil || a[name].ResourceVersion != b[name].ResourceVersion || !reflect.DeepEqual(a[name].Data, b[name].Data) {
			return false
		}
	}
	return true
}

func names(m map[string]*corev1.ConfigMap) []string {
	var out []string
	for name, cm := range m {
		out = append(out, name+"@"+cm.ResourceVersion)
	}
	slices.Sort(out)
	return out
}

// Shows that the copy can be read by key and by index, and that indexes follow updates.
func TestMirrorReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clienttest.NewServer(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		pods := client.Of(s.Client(), client.Pods())
		m := client.NewMirror(s.Client(), client.Pods(), client.MirrorOptions[*corev1.Pod]{
			Indexes: map[string]func(*corev1.Pod) []string{"node": func(p *corev1.Pod) []string { return []string{p.Spec.NodeName} }},
		})
		synced := 0
		m.OnSynced(func() { synced++ })
		go m.Run(ctx)
		if err := m.WaitSynced(ctx); err != nil {
			t.Fatal(err)
		}
		pod, err := pods.Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}})
		if err != nil {
			t.Fatal(err)
		}
		results, err := s.Client().Batch(ctx, client.BindOp(pod, "n1"))
		if err != nil || results[0].Err != nil {
			t.Fatal(err, results)
		}
		if err := m.WaitRevision(ctx, s.Revision()); err != nil {
			t.Fatal(err)
		}
		if got, ok := m.Get("a", "p"); !ok || got.Spec.NodeName != "n1" || got.Kind != "Pod" {
			t.Errorf("Get = %v, %v", got, ok)
		}
		if n := len(m.ByIndex("node", "n1")); n != 1 {
			t.Errorf("%d pods under node n1, want 1", n)
		}
		if n := len(m.ByIndex("node", "")); n != 0 {
			t.Errorf("%d pods under no node, want 0", n)
		}
		if n := len(m.ByIndex("namespace", "a")); n != 1 || m.Len() != 1 || len(m.List()) != 1 || synced != 1 {
			t.Errorf("namespace a has %d, all %d, synced %d times", n, m.Len(), synced)
		}
		cancel()
		synctest.Wait()
	})
}

package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
}

// Shows that the errors of every write and read are what apierrors tells apart.
func TestErrorsAreAPIErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clienttest.NewServer(t)
		maps, ctx := client.Of(s.Client(), client.ConfigMaps()), t.Context()
		if _, err := maps.Get(ctx, "default", "none"); !apierrors.IsNotFound(err) || err.Error() != `configmaps "none" not found` {
			t.Errorf("get of nothing: %v", err)
		}
		first, err := maps.Create(ctx, configMap("a"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := maps.Create(ctx, configMap("a")); !apierrors.IsAlreadyExists(err) {
			t.Errorf("second create: %v", err)
		}
		second := first.DeepCopy()
		second.Data = map[string]string{"k": "v"}
		if _, err := maps.Update(ctx, second); err != nil {
			t.Errorf("update: %v", err)
		}
		if _, err := maps.Update(ctx, second); !apierrors.IsConflict(err) {
			t.Errorf("update from a stale read: %v", err)
		}
		if err := maps.Delete(ctx, "default", "a", client.DeleteOptions{UID: "other"}); !apierrors.IsConflict(err) {
			t.Errorf("delete of another uid: %v", err)
		}
		s.Compact()
		if _, err := maps.Get(ctx, "default", "a", client.At(1)); !client.IsExpired(err) {
			t.Errorf("get at a compacted revision: %v", err)
		}
		s.Fail(func(string, *apiv1.ResourceRef) error { return status.Error(codes.Unavailable, "down") })
		if _, err := maps.Create(ctx, configMap("b")); !client.IsUnavailable(err) {
			t.Errorf("create on a server that is down: %v", err)
		}
		s.Fail(func(string, *apiv1.ResourceRef) error { return status.Error(codes.PermissionDenied, "no") })
		if _, err := maps.Create(ctx, configMap("b")); !apierrors.IsForbidden(err) {
			t.Errorf("create that is forbidden: %v", err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := maps.Get(ended, "default", "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("get with an ended context: %v", err)
		}
	})
}

// Shows that reads are tried again when a server is unavailable for a moment, and that writes are not.
func TestOnlyReadsAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clienttest.NewServer(t)
		maps, ctx := client.Of(s.Client(), client.ConfigMaps()), t.Context()
		if _, err := maps.Create(ctx, configMap("a")); err != nil {
			t.Fatal(err)
		}
		calls := map[string]int{}
		s.Fail(func(method string, _ *apiv1.ResourceRef) error {
			if calls[method]++; calls[method] == 1 {
				return status.Error(codes.Unavailable, "once")
			}
			return nil
		})
		if _, err := maps.Get(ctx, "default", "a"); err != nil || calls["Get"] != 2 {
			t.Errorf("get: %v after %d calls", err, calls["Get"])
		}
		if _, err := maps.Create(ctx, configMap("b")); !client.IsUnavailable(err) || calls["Create"] != 1 {
			t.Errorf("create: %v after %d calls", err, calls["Create"])
		}
	})
}

// Shows that a batch of any size is split, that results keep their order, and that one failure is nobody else's.
func TestBatchSplits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clienttest.NewServer(t)
		batches := 0
		s.Fail(func(method string, ref *apiv1.ResourceRef) error {
			if method == "Batch" {
				batches++
			}
			return nil
		})
		var ops []client.Op
		for i := range 2500 {
			ops = append(ops, client.CreateOp(client.ConfigMaps(), configMap(fmt.Sprintf("cm-%04d", i%2400))))
		}
		big := configMap("big")
		big.Data = map[string]string{"x": strings.Repeat("y", 2<<20)}
		other := big.DeepCopy()
		other.Name = "big2"
		ops = append(ops, client.CreateOp(client.ConfigMaps(), big), client.CreateOp(client.ConfigMaps(), other))
		results, err := s.Client().Batch(t.Context(), ops...)
		if err != nil || batches != 4 {
			t.Fatalf("batch: %v in %d requests, want 4", err, batches)
		}
		for i, res := range results {
			if i >= 2400 && i < 2500 {
				if !apierrors.IsAlreadyExists(res.Err) {
					t.Errorf("result %d: %v, want already exists", i, res.Err)
				}
				continue
			}
			if cm, err := client.ConfigMaps().Decode(res.Object); res.Err != nil || err != nil || (i < 2400 && cm.Name != fmt.Sprintf("cm-%04d", i)) {
				t.Errorf("result %d: %v, %v, %v", i, res.Err, err, cm.GetName())
			}
		}
	})
}

// Shows that a batch that breaks off tells for each operation whether it was answered.
func TestBatchBreaksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clienttest.NewServer(t)
		batches := 0
		s.Fail(func(method string, _ *apiv1.ResourceRef) error {
			if method == "Batch" {
				if batches++; batches == 2 {
					return status.Error(codes.Unavailable, "down")
				}
			}
			return nil
		})
		var ops []client.Op
		for i := range 2500 {
			ops = append(ops, client.CreateOp(client.ConfigMaps(), configMap(fmt.Sprintf("cm-%04d", i))))
		}
		results, err := s.Client().BatchOmit(t.Context(), ops...)
		if !client.IsUnavailable(err) {
			t.Fatalf("batch: %v", err)
		}
		for i, res := range results {
			if (i < 1000) != (res.Err == nil) || res.Object != nil {
				t.Fatalf("result %d: %v, object %v", i, res.Err, res.Object)
			}
		}
	})
}

// Shows that the pages of a limited list are one snapshot although objects are written in between.
func TestListPagesAreOneSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clienttest.NewServer(t)
		maps, ctx := client.Of(s.Client(), client.ConfigMaps()), t.Context()
		for i := range 250 {
			clienttest.Put(s, client.ConfigMaps(), configMap(fmt.Sprintf("cm-%03d", i)))
		}
		var got []string
		opts := client.ListOptions{Limit: 120}
		for {
			page, err := maps.ListPage(ctx, "", opts)
			if err != nil {
				t.Fatal(err)
			}
			for _, cm := range page.Items {
				got = append(got, cm.Name)
			}
			if page.Continue == "" {
				break
			}
			opts.Continue = page.Continue
			clienttest.Put(s, client.ConfigMaps(), configMap(fmt.Sprintf("late-%d", len(got))))
		}
		if len(got) != 250 || got[0] != "cm-000" || got[249] != "cm-249" {
			t.Errorf("%d objects from %s to %s", len(got), got[0], got[len(got)-1])
		}
		if all, rev, err := maps.List(ctx, "default", client.ListOptions{}); err != nil || len(all) != 252 || rev != s.Revision() {
			t.Errorf("full list: %d objects at %d: %v", len(all), rev, err)
		}
	})
}

// Shows that a watch goes on from an event's revision without missing anything, and that leaving the loop ends it.
func TestWatchResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clienttest.NewServer(t)
		maps, ctx := client.Of(s.Client(), client.ConfigMaps()), t.Context()
		for i := range 5 {
			clienttest.Put(s, client.ConfigMaps(), configMap(fmt.Sprintf("cm-%d", i)))
		}
		var from client.Revision = 100
		var got []string
		for len(got) < 5 {
			for ev, err := range maps.Watch(ctx, "default", client.WatchOptions{From: from}) {
				if err != nil {
					t.Fatal(err)
				}
				from = ev.Revision
				if name := ev.Object.Name; len(got) == 0 || got[len(got)-1] < name { // events of one message may repeat
					if got = append(got, name); len(got)%2 == 0 || len(got) == 5 {
						break
					}
				}
			}
		}
		if strings.Join(got, " ") != "cm-0 cm-1 cm-2 cm-3 cm-4" {
			t.Errorf("got %v", got)
		}
	})
}

// Shows binding as the scheduler relies on it: once only, never onto another pod of the same name.
func TestBinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clienttest.NewServer(t)
		pods, ctx := client.Of(s.Client(), client.Pods()), t.Context()
		pod, err := pods.Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}})
		if err != nil {
			t.Fatal(err)
		}
		impostor := pod.DeepCopy()
		impostor.UID = "other"
		results, err := s.Client().Batch(ctx, client.BindOp(impostor, "n1"), client.BindOp(pod, "n2"), client.BindOp(pod, "n3"))
		if err != nil {
			t.Fatal(err)
		}
		if !apierrors.IsConflict(results[0].Err) || results[1].Err != nil || !apierrors.IsConflict(results[2].Err) {
			t.Errorf("results: %v, %v, %v", results[0].Err, results[1].Err, results[2].Err)
		}
		want := `pods default/p spec={"nodeName":"n2"} status={"conditions":[{"status":"True","type":"PodScheduled"}],"phase":"Pending"}` + "\n"
		if got := s.Dump(); got != want {
			t.Errorf("stored:\n%swant:\n%s", got, want)
		}
	})
}

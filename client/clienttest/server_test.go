package clienttest_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
)

func meta(name string, finalizers ...string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "default", Name: name, Finalizers: finalizers}
}

// Shows when a deletion removes an object and when it waits: for finalizers, for a bound pod's grace period, and for dependents.
func TestDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clienttest.NewServer(t)
		ctx, now := t.Context(), new(int64)
		maps, pods := client.Of(s.Client(), client.ConfigMaps()), client.Of(s.Client(), client.Pods())
		exists := func(err error) bool {
			t.Helper()
			if err != nil && !apierrors.IsNotFound(err) {
				t.Fatal(err)
			}
			return err == nil
		}

		cm, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: meta("held", "example.com/hold")})
		if err != nil {
			t.Fatal(err)
		}
		if err := maps.Delete(ctx, "default", "held", client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if cm, err = maps.Get(ctx, "default", "held"); err != nil || cm.DeletionTimestamp == nil {
			t.Fatalf("held object: %v, %v", cm, err)
		}
		cm.Finalizers = nil
		if _, err := maps.Update(ctx, cm); err != nil {
			t.Fatal(err)
		}
		if _, err := maps.Get(ctx, "default", "held"); exists(err) {
			t.Error("an object outlived its last finalizer")
		}

		pod, err := pods.Create(ctx, &corev1.Pod{ObjectMeta: meta("p")})
		if err != nil {
			t.Fatal(err)
		}
		if results, err := s.Client().Batch(ctx, client.BindOp(pod, "n")); err != nil || results[0].Err != nil {
			t.Fatal(err, results)
		}
		if err := pods.Delete(ctx, "default", "p", client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		pod, err = pods.Get(ctx, "default", "p")
		if err != nil || pod.DeletionTimestamp.Sub(time.Now()) != 30*time.Second || *pod.DeletionGracePeriodSeconds != 30 {
			t.Errorf("bound pod under deletion: %+v, %v", pod.ObjectMeta, err)
		}
		if err := pods.Delete(ctx, "default", "p", client.DeleteOptions{GracePeriodSeconds: now}); err != nil {
			t.Fatal(err)
		}
		if _, err := pods.Get(ctx, "default", "p"); exists(err) {
			t.Error("a pod outlived its deletion without grace")
		}

		sets := client.Of(s.Client(), client.ReplicaSets())
		if _, err := sets.Create(ctx, &appsv1.ReplicaSet{ObjectMeta: meta("rs")}); err != nil {
			t.Fatal(err)
		}
		if err := sets.Delete(ctx, "default", "rs", client.DeleteOptions{Propagation: client.PropagateForeground}); err != nil {
			t.Fatal(err)
		}
		rs, err := sets.Get(ctx, "default", "rs")
		if err != nil || fmt.Sprint(rs.Finalizers) != "[foregroundDeletion]" || rs.DeletionTimestamp == nil {
			t.Errorf("set under foreground deletion: %+v, %v", rs.ObjectMeta, err)
		}
	})
}

// Shows the life of a namespace: finalized by its controller, closed to new objects meanwhile.
func TestNamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clienttest.NewServer(t)
		ctx := t.Context()
		spaces := client.Of(s.Client(), client.Namespaces())
		ns, err := spaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
		if err != nil || ns.Status.Phase != corev1.NamespaceActive || len(ns.Spec.Finalizers) != 1 {
			t.Fatal(ns, err)
		}
		if err := spaces.Delete(ctx, "", "shop", client.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		_, err = client.Of(s.Client(), client.ConfigMaps()).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "x"}})
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "because it is being terminated") {
			t.Errorf("create in a terminating namespace: %v", err)
		}
		if ns, err = spaces.Get(ctx, "", "shop"); err != nil || ns.Status.Phase != corev1.NamespaceTerminating {
			t.Fatal(ns, err)
		}
		ns.Spec.Finalizers = nil
		if _, err := spaces.UpdateSubresource(ctx, ns, "finalize"); err != nil {
			t.Fatal(err)
		}
		if _, err := spaces.Get(ctx, "", "shop"); !apierrors.IsNotFound(err) {
			t.Errorf("after finalizing: %v", err)
		}
	})
}

// Shows that spec and status are written apart, that generation counts changes of the spec, and that an update that says nothing
// new writes nothing.
func TestStatusAndGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := clienttest.NewServer(t)
		ctx := t.Context()
		sets := client.Of(s.Client(), client.ReplicaSets())
		three := int32(3)
		rs, err := sets.Create(ctx, &appsv1.ReplicaSet{ObjectMeta: meta("rs"), Status: appsv1.ReplicaSetStatus{Replicas: 9}})
		if err != nil || rs.Generation != 1 || rs.Status.Replicas != 0 || rs.UID == "" {
			t.Fatal(rs, err)
		}
		rs.Spec.Replicas, rs.Status.Replicas = &three, 7
		if rs, err = sets.Update(ctx, rs); err != nil || rs.Generation != 2 || rs.Status.Replicas != 0 {
			t.Fatal(rs, err)
		}
		rs.Spec.Replicas, rs.Status.Replicas = nil, 7
		if rs, err = sets.UpdateStatus(ctx, rs); err != nil || rs.Generation != 2 || rs.Status.Replicas != 7 || *rs.Spec.Replicas != 3 {
			t.Fatal(rs, err)
		}
		before := s.Revision()
		if again, err := sets.Update(ctx, rs); err != nil || again.ResourceVersion != rs.ResourceVersion || s.Revision() != before {
			t.Errorf("an update that changes nothing: %v, %v, revision %d after %d", again, err, s.Revision(), before)
		}
		if rs, err = sets.Patch(ctx, "default", "rs", client.MergePatch, []byte(`{"spec":{"replicas":5}}`), client.PatchOptions{}); err != nil || *rs.Spec.Replicas != 5 || rs.Generation != 3 {
			t.Errorf("patched: %+v, %v", rs, err)
		}
		const want = "replicasets.apps default/rs spec={\"replicas\":5} status={\"replicas\":7}\n"
		if got := s.Dump(); got != want {
			t.Errorf("dump:\n%swant\n%s", got, want)
		}
	})
}

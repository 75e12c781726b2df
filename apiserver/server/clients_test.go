package server_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/pager"
	"k8s.io/client-go/util/retry"

	"k8s.io/apimachinery/pkg/runtime"

	"bareboat.dev/apiserver/authn"
)

func configMaps() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
}

// typed is client-go's typed client, over JSON or protobuf.
func (h *harness) typed(contentType string) kubernetes.Interface {
	h.t.Helper()
	cfg := h.restConfig("kubernetes-admin", authn.Masters)
	cfg.ContentType, cfg.AcceptContentTypes = contentType, contentType+",application/json"
	cfg.QPS = -1
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		h.t.Cleanup(func() {
			if t, ok := rt.(*http.Transport); ok {
				t.CloseIdleConnections()
			}
		})
		return rt
	})
	c, err := kubernetes.NewForConfig(cfg)
	check(h.t, err)
	return c
}

// client-go's typed client creates, reads, changes, applies and deletes, over JSON and over protobuf, and understands errors.
func TestTypedClient(t *testing.T) {
	h := start(t, engines()["memory"](t))
	for _, contentType := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		t.Run(contentType, func(t *testing.T) {
			c, ctx := h.typed(contentType), t.Context()
			maps := c.CoreV1().ConfigMaps("default")
			made, err := maps.Create(ctx, configMap("m", "k", "v"), metav1.CreateOptions{})
			check(t, err)
			if _, err := maps.Create(ctx, configMap("m"), metav1.CreateOptions{}); !errors.IsAlreadyExists(err) {
				t.Errorf("a second creation: %v", err)
			}
			_, err = maps.Patch(ctx, "m", types.StrategicMergePatchType, []byte(`{"data":{"x":"y"}}`), metav1.PatchOptions{})
			check(t, err)
			made.Data["k"] = "stale"
			if _, err := maps.Update(ctx, made, metav1.UpdateOptions{}); !errors.IsConflict(err) {
				t.Errorf("a stale update: %v", err)
			}
			check(t, retry.RetryOnConflict(retry.DefaultRetry, func() error {
				m, err := maps.Get(ctx, "m", metav1.GetOptions{})
				check(t, err)
				m.Data["k"] = "fresh"
				_, err = maps.Update(ctx, m, metav1.UpdateOptions{})
				return err
			}))
			m, err := maps.Apply(ctx, applycore.ConfigMap("m", "default").WithData(map[string]string{"z": "1"}), metav1.ApplyOptions{FieldManager: "t"})
			check(t, err)
			if m.Data["k"] != "fresh" || m.Data["x"] != "y" || m.Data["z"] != "1" {
				t.Errorf("data %v", m.Data)
			}
			uid := types.UID("other")
			if err := maps.Delete(ctx, "m", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); !errors.IsConflict(err) {
				t.Errorf("a deletion of another: %v", err)
			}
			check(t, maps.Delete(ctx, "m", metav1.DeleteOptions{}))
			if _, err := maps.Get(ctx, "m", metav1.GetOptions{}); !errors.IsNotFound(err) {
				t.Errorf("after the deletion: %v", err)
			}
			_, err = c.AppsV1().Deployments("default").Create(ctx, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d"}}, metav1.CreateOptions{})
			var status errors.APIStatus
			if !errors.IsInvalid(err) || !asStatus(err, &status) || len(status.Status().Details.Causes) == 0 {
				t.Errorf("an invalid Deployment: %v", err)
			}
		})
	}
}

func asStatus(err error, into *errors.APIStatus) bool {
	s, ok := err.(errors.APIStatus)
	*into = s
	return ok
}

// Informers of the typed, dynamic and metadata clients, which list by watching (WatchList), see the objects there are and each change.
func TestInformers(t *testing.T) {
	h := start(t, engines()["memory"](t))
	c := h.typed("application/vnd.kubernetes.protobuf")
	cfg := h.restConfig("kubernetes-admin", authn.Masters)
	dyn, err := dynamic.NewForConfig(cfg)
	check(t, err)
	meta, err := metadata.NewForConfig(cfg)
	check(t, err)
	for i := range 5 {
		_, err := c.CoreV1().ConfigMaps("default").Create(t.Context(), configMap(fmt.Sprintf("m%d", i)), metav1.CreateOptions{})
		check(t, err)
	}
	for name, informer := range map[string]cache.SharedIndexInformer{
		"typed":    informers.NewSharedInformerFactory(c, 0).Core().V1().ConfigMaps().Informer(),
		"dynamic":  dynamicinformer.NewDynamicSharedInformerFactory(dyn, 0).ForResource(configMaps()).Informer(),
		"metadata": metadatainformer.NewSharedInformerFactory(meta, 0).ForResource(configMaps()).Informer(),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			changes := make(chan string, 100)
			tell := func(what string, obj any) {
				m, ok := obj.(metav1.Object)
				if ok && m.GetNamespace() == "default" {
					changes <- what + " " + m.GetName()
				}
			}
			_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
				AddFunc: func(obj any) { tell("added", obj) }, UpdateFunc: func(_, obj any) { tell("updated", obj) }, DeleteFunc: func(obj any) { tell("deleted", obj) },
			})
			check(t, err)
			done := make(chan struct{})
			go func() {
				defer close(done)
				informer.Run(ctx.Done())
			}()
			t.Cleanup(func() {
				cancel()
				<-done
			})
			if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
				t.Fatal("the informer did not sync")
			}
			for range 5 {
				<-changes
			}
			maps := c.CoreV1().ConfigMaps("default")
			_, err = maps.Create(ctx, configMap("new"), metav1.CreateOptions{})
			check(t, err)
			_, err = maps.Patch(ctx, "new", types.MergePatchType, []byte(`{"data":{"a":"b"}}`), metav1.PatchOptions{})
			check(t, err)
			check(t, maps.Delete(ctx, "new", metav1.DeleteOptions{}))
			for _, want := range []string{"added new", "updated new", "deleted new"} {
				if got := <-changes; got != want {
					t.Errorf("%s, want %s", got, want)
				}
			}
		})
	}
}

// A paginated list reads each object once, and the dynamic and metadata clients read the same.
func TestPagedAndUntyped(t *testing.T) {
	h := start(t, engines()["memory"](t))
	c := h.typed("application/json")
	for i := range 25 {
		_, err := c.CoreV1().ConfigMaps("default").Create(t.Context(), configMap(fmt.Sprintf("m%02d", i)), metav1.CreateOptions{})
		check(t, err)
	}
	p := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return c.CoreV1().ConfigMaps("default").List(ctx, o)
	})
	p.PageSize = 7
	var names []string
	check(t, p.EachListItem(t.Context(), metav1.ListOptions{}, func(obj runtime.Object) error {
		names = append(names, obj.(*corev1.ConfigMap).Name)
		return nil
	}))
	if len(names) != 25 || names[0] != "m00" || names[24] != "m24" {
		t.Errorf("%v", names)
	}
	cfg := h.restConfig("kubernetes-admin", authn.Masters)
	dyn, err := dynamic.NewForConfig(cfg)
	check(t, err)
	obj := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"generateName": "g-"}}}
	made, err := dyn.Resource(configMaps()).Namespace("default").Create(t.Context(), obj, metav1.CreateOptions{})
	check(t, err)
	meta, err := metadata.NewForConfig(cfg)
	check(t, err)
	seen, err := meta.Resource(configMaps()).Namespace("default").Get(t.Context(), made.GetName(), metav1.GetOptions{})
	check(t, err)
	list, err := meta.Resource(configMaps()).Namespace("default").List(t.Context(), metav1.ListOptions{})
	check(t, err)
	if seen.UID != made.GetUID() || len(list.Items) != 26 {
		t.Errorf("%v of %d", seen, len(list.Items))
	}
	check(t, meta.Resource(configMaps()).Namespace("default").DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	if l, err := dyn.Resource(configMaps()).Namespace("default").List(t.Context(), metav1.ListOptions{}); err != nil || len(l.Items) != 0 {
		t.Errorf("after the deletion: %v %v", l, err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.Discovery()))
	m, err := mapper.RESTMapping(schema.GroupKind{Group: "apps", Kind: "Deployment"})
	check(t, err)
	if m.Resource.Resource != "deployments" || m.Scope.Name() != "namespace" {
		t.Errorf("mapping %+v", m)
	}
}

// Leader election over a Lease: one leads, and when it lets go the other does.
func TestLeaderElection(t *testing.T) {
	h := start(t, engines()["memory"](t))
	c := h.typed("application/json")
	led := make(chan string, 2)
	run := func(name string) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		e, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "t"}, Client: c.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: name},
			},
			LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 50 * time.Millisecond, ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: func(context.Context) { led <- name }, OnStoppedLeading: func() {}},
		})
		check(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			e.Run(ctx)
		}()
		return func() {
			cancel()
			<-done
		}
	}
	stopA := run("a")
	if got := <-led; got != "a" {
		t.Fatalf("%s leads", got)
	}
	stopB := run("b")
	stopA()
	if got := <-led; got != "b" {
		t.Errorf("%s leads", got)
	}
	stopB()
}

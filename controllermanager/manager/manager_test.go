package manager

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	"bareboat.dev/controllermanager/config"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served is what the model server serves, as its discovery would say, and more.
func served(more ...plan.Kind) func(context.Context) ([]engine.Resource, error) {
	kinds := []plan.Kind{
		plan.Pods, plan.Nodes, plan.Namespaces, plan.Services, plan.ConfigMaps, plan.ServiceAccounts, plan.EndpointSlices, plan.Leases, plan.ReplicaSets, plan.Deployments,
		plan.StatefulSets, plan.DaemonSets, plan.ControllerRevision, plan.Jobs, plan.CronJobs, plan.PDBs, plan.PVCs, plan.Secrets, plan.ResourceQuotas, plan.Endpoints,
	}
	return func(context.Context) ([]engine.Resource, error) {
		var out []engine.Resource
		for _, k := range append(more, kinds...) {
			out = append(out, engine.Resource{Kind: k, Verbs: []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}, Preferred: true})
		}
		return out, nil
	}
}

// cluster is a model server with a controller manager and kubelets that run every pod at once.
type cluster struct {
	t   *testing.T
	ctx context.Context
	s   *clienttest.Server
	c   *client.Client
}

func start(t *testing.T, more ...plan.Kind) *cluster {
	t.Helper()
	s := clienttest.NewServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	c := &cluster{t, ctx, s, s.Client()}
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	cfg := config.Default()
	done := make(chan error, 2)
	go func() {
		done <- Run(ctx, Options{
			Client: s.NewClient(), Config: &cfg, RootCA: "pem", Identity: "test", Log: log, Metrics: engine.NewMetrics(prometheus.NewRegistry()),
			Discover: served(more...), Leading: func(bool) {},
		})
	}()
	go func() { done <- c.kubelets(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	return c
}

// kubelets binds every pod, makes it ready, and removes those that are to go.
func (c *cluster) kubelets(ctx context.Context) error {
	own := c.s.NewClient()
	m := client.NewMirror(own, client.Pods(), client.MirrorOptions[*corev1.Pod]{})
	work := make(chan *corev1.Pod, 1000)
	m.OnChange(func(ch client.Change[*corev1.Pod]) {
		if ch.Type != client.Deleted {
			work <- ch.New
		}
	})
	return client.RunAll(ctx, m.Run, func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case pod := <-work:
				c.drive(ctx, own, pod)
			}
		}
	})
}

// drive takes a pod one step. A request that was not answered is sent again; one that loses a race is left to the pod's next
// state.
func (c *cluster) drive(ctx context.Context, own *client.Client, pod *corev1.Pod) {
	r := client.Of(own, client.Pods())
	zero := int64(0)
	for err := client.ErrUnavailable; client.IsUnavailable(err) && ctx.Err() == nil; {
		err = nil
		switch {
		case pod.DeletionTimestamp != nil:
			err = r.Delete(ctx, pod.Namespace, pod.Name, client.DeleteOptions{GracePeriodSeconds: &zero})
		case pod.Spec.NodeName == "":
			var results []client.OpResult
			if results, err = own.Batch(ctx, client.BindOp(pod, nodeFor(pod))); err == nil {
				err = results[0].Err
			}
		case !pods.Ready(pod) && !pods.Finished(pod):
			next := pod.DeepCopy()
			next.Status.Phase, next.Status.PodIP = corev1.PodRunning, "10.244.0.9"
			next.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
			if pod.Spec.RestartPolicy == corev1.RestartPolicyNever { // A Job's pod: it ends at once.
				next.Status = corev1.PodStatus{Phase: corev1.PodSucceeded}
			}
			_, err = r.UpdateStatus(ctx, next)
		}
	}
}

// nodeFor is the node that a daemon's pod asks for, or the one there is.
func nodeFor(pod *corev1.Pod) string {
	if a := pod.Spec.Affinity; a != nil {
		return a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchFields[0].Values[0]
	}
	return "node"
}

// eventually waits until the objects of a kind in a namespace satisfy ok, by watching them.
func eventually[T client.Object](c *cluster, k client.Kind[T], namespace, what string, ok func([]T) bool) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	m := client.NewMirror(c.c, k, client.MirrorOptions[T]{Namespace: namespace})
	changed := make(chan struct{}, 1)
	tell := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	m.OnChange(func(client.Change[T]) { tell() })
	m.OnSynced(tell)
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	defer func() { cancel(); <-done }()
	for {
		select {
		case <-changed:
			if ok(m.List()) {
				return
			}
		case <-c.ctx.Done():
			c.t.Fatalf("%s: not before the test's end\n%s", what, c.s.Dump())
		}
	}
}

func create[T client.Object](c *cluster, k client.Kind[T], obj T) T {
	c.t.Helper()
	out, err := client.Of(c.c, k).Create(c.ctx, obj)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// namespaces creates them with the finalizer that the server would set.
func (c *cluster) namespace(name string) {
	create(c, client.Namespaces(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}},
		Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
	})
}

func web(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	limit, deadline := int32(10), int32(600)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels}, RevisionHistoryLimit: &limit, ProgressDeadlineSeconds: &deadline,
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "v1"}}}},
		},
	}
}

// The whole set through a real client: a Deployment becomes available, its Service gets endpoints, its namespace an account
// and the root CA, its node an address range; deleted, its ReplicaSet and pods are collected; and deleting the namespace
// leaves nothing.
func TestWayOfADeployment(t *testing.T) {
	c := start(t)
	c.namespace("ns")
	create(c, client.Nodes(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}})
	create(c, client.Deployments(), web("web", 3))
	create(c, client.Services(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}},
	})
	eventually(c, client.Deployments(), "ns", "three available", func(ds []*appsv1.Deployment) bool {
		return len(ds) == 1 && ds[0].Status.AvailableReplicas == 3 && ds[0].Annotations["deployment.kubernetes.io/revision"] == "1"
	})
	eventually(c, client.EndpointSlices(), "ns", "three endpoints", func(ss []*discoveryv1.EndpointSlice) bool {
		return len(ss) == 1 && len(ss[0].Endpoints) == 3 && *ss[0].Ports[0].Port == 80
	})
	eventually(c, client.ServiceAccounts(), "ns", "default account", func(a []*corev1.ServiceAccount) bool { return len(a) == 1 })
	eventually(c, client.ConfigMaps(), "ns", "root CA", func(m []*corev1.ConfigMap) bool { return len(m) == 1 && m[0].Data["ca.crt"] == "pem" })
	eventually(c, client.Nodes(), "", "address range", func(n []*corev1.Node) bool { return slices.Equal(n[0].Spec.PodCIDRs, []string{"10.244.0.0/24"}) })

	if err := client.Of(c.c, client.Deployments()).Delete(c.ctx, "ns", "web", client.DeleteOptions{Propagation: client.PropagateBackground}); err != nil {
		t.Fatal(err)
	}
	eventually(c, client.ReplicaSets(), "ns", "no ReplicaSet", func(rs []*appsv1.ReplicaSet) bool { return len(rs) == 0 })
	eventually(c, client.Pods(), "ns", "no pod", func(p []*corev1.Pod) bool { return len(p) == 0 })

	create(c, client.Deployments(), web("more", 2))
	eventually(c, client.Pods(), "ns", "two pods", func(p []*corev1.Pod) bool { return len(p) == 2 })
	if err := client.Of(c.c, client.Namespaces()).Delete(c.ctx, "", "ns", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(c, client.Namespaces(), "", "no namespace", func(n []*corev1.Namespace) bool { return len(n) == 0 })
	// The model server, unlike the real one, lets objects be created in a namespace that is gone: a pod that was under way
	// is then collected with its owner.
	eventually(c, client.Pods(), "ns", "nothing left", func(p []*corev1.Pod) bool { return len(p) == 0 })
	eventually(c, client.Deployments(), "ns", "nothing left", func(d []*appsv1.Deployment) bool { return len(d) == 0 })
	eventually(c, client.Services(), "ns", "nothing left", func(s []*corev1.Service) bool { return len(s) == 0 })
}

// Deleting in the foreground takes dependents first, orphaning leaves them without an owner, and a new Deployment adopts what
// an orphaned one left, without a new pod.
func TestPropagation(t *testing.T) {
	c := start(t)
	c.namespace("ns")
	available := func(ds []*appsv1.Deployment) bool { return len(ds) == 1 && ds[0].Status.AvailableReplicas == 3 }
	create(c, client.Deployments(), web("web", 3))
	eventually(c, client.Deployments(), "ns", "available", available)
	remove := func(how client.Propagation) {
		t.Helper()
		if err := client.Of(c.c, client.Deployments()).Delete(c.ctx, "ns", "web", client.DeleteOptions{Propagation: how}); err != nil {
			t.Fatal(err)
		}
		eventually(c, client.Deployments(), "ns", "Deployment gone", func(ds []*appsv1.Deployment) bool { return len(ds) == 0 })
	}
	names := func() string {
		list, _, err := client.Of(c.c, client.Pods()).List(c.ctx, "ns", client.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, p := range list {
			out = append(out, p.Name)
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	before := names()
	remove(client.PropagateOrphan)
	eventually(c, client.ReplicaSets(), "ns", "an orphan", func(rs []*appsv1.ReplicaSet) bool { return len(rs) == 1 && len(rs[0].OwnerReferences) == 0 })
	create(c, client.Deployments(), web("web", 3))
	eventually(c, client.ReplicaSets(), "ns", "adopted", func(rs []*appsv1.ReplicaSet) bool { return len(rs) == 1 && len(rs[0].OwnerReferences) == 1 })
	eventually(c, client.Deployments(), "ns", "available again", available)
	if after := names(); after != before {
		t.Errorf("pods were %s, are %s", before, after)
	}
	remove(client.PropagateForeground)
	if left := names(); left != "" {
		t.Errorf("the Deployment went before its pods %s", left)
	}
}

// A kind that cannot be listed keeps nothing from being collected, but what its objects might be owned by and waits for them.
func TestOneKindCannotBeListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := plan.Kind{Group: "example.com", Version: "v1", Resource: "widgets", Kind: "Widget", Namespaced: true}
		c := start(t, broken)
		c.namespace("ns")
		create(c, client.Deployments(), web("web", 1))
		eventually(c, client.Deployments(), "ns", "available", func(ds []*appsv1.Deployment) bool { return len(ds) == 1 && ds[0].Status.AvailableReplicas == 1 })
		if err := client.Of(c.c, client.Deployments()).Delete(c.ctx, "ns", "web", client.DeleteOptions{Propagation: client.PropagateBackground}); err != nil {
			t.Fatal(err)
		}
		eventually(c, client.Pods(), "ns", "no pod", func(p []*corev1.Pod) bool { return len(p) == 0 })
	})
}

// A manager that ends gives its lease up and the next acts at once, on what the first left half done.
func TestHandOver(t *testing.T) {
	s := clienttest.NewServer(t)
	acting := make(chan string, 10)
	manage := func(name string) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		cfg := config.Default()
		done := make(chan error, 1)
		go func() {
			done <- Run(ctx, Options{
				Client: s.NewClient(), Config: &cfg, Identity: name, Log: slog.New(slog.DiscardHandler), Metrics: engine.NewMetrics(prometheus.NewRegistry()), Discover: served(),
				Leading: func(is bool) {
					if is {
						acting <- name
					}
				},
			})
		}()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	stopFirst := manage("first")
	if got := <-acting; got != "first" {
		t.Fatalf("%s acts", got)
	}
	stopSecond := manage("second")
	defer stopSecond()
	c := &cluster{t, t.Context(), s, s.Client()}
	c.namespace("ns")
	create(c, client.Deployments(), web("web", 50))
	stopFirst()
	if got := <-acting; got != "second" {
		t.Fatalf("%s acts", got)
	}
	eventually(c, client.ReplicaSets(), "ns", "50 pods", func(rs []*appsv1.ReplicaSet) bool { return len(rs) == 1 && rs[0].Status.Replicas == 50 })
	list, _, err := client.Of(c.c, client.Pods()).List(t.Context(), "ns", client.ListOptions{})
	if err != nil || len(list) != 50 {
		t.Errorf("%d pods, %v; want 50", len(list), err)
	}
}

// Whatever happens to the connection, the history and single requests, the cluster ends as asked: connections break, history is
// compacted so that mirrors must list again, and every third batch of writes is refused.
func TestTroubledServer(t *testing.T) {
	c := start(t)
	c.namespace("ns")
	var writes atomic.Int64
	c.s.Fail(func(method string, _ *apiv1.ResourceRef) error {
		if method == "Batch" && writes.Add(1)%3 == 0 {
			return status.Error(codes.Unavailable, "injected")
		}
		return nil
	})
	create(c, client.Deployments(), web("web", 1))
	for _, want := range []int32{7, 2, 12, 0, 5} {
		scale := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, want)
		admin := c.s.NewClient()
		if _, err := client.Of(admin, client.Deployments()).Patch(c.ctx, "ns", "web", client.MergePatch, scale, client.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		c.s.Disconnect()
		c.s.Compact()
		c.c = c.s.NewClient()
		eventually(c, client.Deployments(), "ns", "as asked", func(ds []*appsv1.Deployment) bool {
			return len(ds) == 1 && ds[0].Status.AvailableReplicas == want && ds[0].Status.Replicas == want
		})
		list, _, err := client.Of(c.c, client.Pods()).List(c.ctx, "ns", client.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		active := int32(0)
		for _, p := range list {
			if pods.Active(p) {
				active++
			}
		}
		if active != want {
			t.Errorf("%d pods, want %d", active, want)
		}
	}
}

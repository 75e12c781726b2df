package server_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

const (
	configMapURL = "k8s.io.api.core.v1.ConfigMap"
	podURL       = "k8s.io.api.core.v1.Pod"
	serviceURL   = "k8s.io.api.core.v1.Service"
)

func configMap(name string, data ...string) *corev1.ConfigMap {
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{}}
	for i := 0; i+1 < len(data); i += 2 {
		m.Data[data[i]] = data[i+1]
	}
	return m
}

func (u *user) create(t testing.TB, obj *corev1.ConfigMap) *corev1.ConfigMap {
	t.Helper()
	resp, err := u.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "configmaps", "default", ""), Object: asProto(t, configMapURL, obj)})
	check(t, err)
	return into(t, resp.GetObject(), &corev1.ConfigMap{})
}

// An object goes through create, read, conditional and unconditional update, unchanged update, and deletion.
func TestObjectLife(t *testing.T) {
	for name, engine := range engines() {
		t.Run(name, func(t *testing.T) {
			u := start(t, engine(t)).admin()
			made := u.create(t, configMap("a", "k", "1"))
			if made.UID == "" || made.ResourceVersion == "" || made.CreationTimestamp.IsZero() || made.Namespace != "default" {
				t.Fatalf("metadata not set up: %+v", made.ObjectMeta)
			}
			got, err := u.Get(t.Context(), &apiv1.GetRequest{Ref: ref("", "configmaps", "default", "a")})
			check(t, err)
			read := into(t, got.GetObject(), &corev1.ConfigMap{})
			if read.ResourceVersion != made.ResourceVersion || read.Data["k"] != "1" {
				t.Fatalf("read %+v", read)
			}
			update := func(obj *corev1.ConfigMap) (*apiv1.UpdateResponse, error) {
				return u.Update(t.Context(), &apiv1.UpdateRequest{Ref: ref("", "configmaps", "default", "a"), Object: asProto(t, configMapURL, obj)})
			}
			same, err := update(read)
			check(t, err)
			if !same.GetUnchanged() || into(t, same.GetObject(), &corev1.ConfigMap{}).ResourceVersion != made.ResourceVersion {
				t.Errorf("an update without a change was written")
			}
			read.Data["k"] = "2"
			_, err = update(read)
			check(t, err)
			read.Data["k"] = "3"
			_, err = update(read)
			if s := apiStatus(t, err); status.Code(err) != codes.Aborted || s.Reason != metav1.StatusReasonConflict ||
				s.Message != `Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again` {
				t.Errorf("stale update: %v", err)
			}
			read.ResourceVersion = ""
			_, err = update(read)
			check(t, err)
			_, err = u.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "configmaps", "default", ""), Object: asProto(t, configMapURL, configMap("a"))})
			if s := apiStatus(t, err); status.Code(err) != codes.AlreadyExists || s.Message != `configmaps "a" already exists` {
				t.Errorf("second create: %v", err)
			}
			gone, err := u.Delete(t.Context(), &apiv1.DeleteRequest{Ref: ref("", "configmaps", "default", "a")})
			check(t, err)
			if !gone.GetDeleted() || into(t, gone.GetObject(), &corev1.ConfigMap{}).Data["k"] != "3" {
				t.Errorf("deletion: %v", gone)
			}
			_, err = u.Get(t.Context(), &apiv1.GetRequest{Ref: ref("", "configmaps", "default", "a")})
			if s := apiStatus(t, err); status.Code(err) != codes.NotFound || s.Message != `configmaps "a" not found` || s.Details.Kind != "configmaps" {
				t.Errorf("read after deletion: %v %+v", err, s)
			}
		})
	}
}

// Names are generated, dry runs store nothing, and a dry run of a taken name fails like the real one.
func TestGenerateNameAndDryRun(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "g-"}}
	a, b := u.create(t, m), u.create(t, m)
	if a.Name == b.Name || !strings.HasPrefix(a.Name, "g-") || len(a.Name) != 7 {
		t.Errorf("generated %q and %q", a.Name, b.Name)
	}
	dry := func(name string) error {
		_, err := u.Create(t.Context(), &apiv1.CreateRequest{
			Ref: ref("", "configmaps", "default", ""), Object: asProto(t, configMapURL, configMap(name)), Options: &apiv1.WriteOptions{DryRun: true},
		})
		return err
	}
	check(t, dry("dry"))
	if _, err := u.Get(t.Context(), &apiv1.GetRequest{Ref: ref("", "configmaps", "default", "dry")}); status.Code(err) != codes.NotFound {
		t.Errorf("the dry run was stored: %v", err)
	}
	if err := dry(a.Name); status.Code(err) != codes.AlreadyExists {
		t.Errorf("dry run of a taken name: %v", err)
	}
}

// What follows from an object's name follows from a generated one, too: the labels of a job's pods and of a namespace.
func TestWhatFollowsFromGeneratedNames(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	job := func(name string) *batchv1.Job {
		pod := corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
		resp, err := u.Create(t.Context(), &apiv1.CreateRequest{
			Ref: ref("batch", "jobs", "default", name),
			Object: asProto(t, "k8s.io.api.batch.v1.Job", &batchv1.Job{
				ObjectMeta: metav1.ObjectMeta{Name: name, GenerateName: "j-"}, Spec: batchv1.JobSpec{Template: pod},
			}),
		})
		check(t, err)
		return into(t, resp.GetObject(), &batchv1.Job{})
	}
	for range 3 {
		j := job("")
		for _, label := range []string{batchv1.JobNameLabel, "job-name"} {
			if got := j.Spec.Template.Labels[label]; got != j.Name {
				t.Errorf("the pods of %s have %s=%q", j.Name, label, got)
			}
		}
	}
	resp, err := u.Create(t.Context(), &apiv1.CreateRequest{
		Ref: ref("", "namespaces", "", ""), Object: asProto(t, "k8s.io.api.core.v1.Namespace", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "n-"}}),
	})
	check(t, err)
	if n := into(t, resp.GetObject(), &corev1.Namespace{}); n.Labels[corev1.LabelMetadataName] != n.Name {
		t.Errorf("namespace %s has labels %v", n.Name, n.Labels)
	}
}

// Finalizers hold a deleted object until the last is taken away; preconditions and propagation policies are kept.
func TestFinalizersAndPreconditions(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	m := configMap("a")
	m.Finalizers = []string{"example.com/hold"}
	made := u.create(t, m)
	del := func(o *apiv1.DeleteOptions) (*apiv1.DeleteResponse, error) {
		return u.Delete(t.Context(), &apiv1.DeleteRequest{Ref: ref("", "configmaps", "default", "a"), Options: o})
	}
	_, err := del(&apiv1.DeleteOptions{Uid: "other"})
	if s := apiStatus(t, err); status.Code(err) != codes.Aborted || !strings.Contains(s.Message, "the UID in the precondition (other) does not match the UID in record") {
		t.Errorf("uid precondition: %v", err)
	}
	resp, err := del(&apiv1.DeleteOptions{Uid: string(made.UID), Propagation: apiv1.Propagation_PROPAGATION_FOREGROUND})
	check(t, err)
	held := into(t, resp.GetObject(), &corev1.ConfigMap{})
	if resp.GetDeleted() || held.DeletionTimestamp == nil || len(held.Finalizers) != 2 || held.Finalizers[1] != metav1.FinalizerDeleteDependents {
		t.Fatalf("held object: %v %+v", resp.GetDeleted(), held.ObjectMeta)
	}
	held.Finalizers = append(held.Finalizers, "example.com/late")
	update := func() (*apiv1.UpdateResponse, error) {
		return u.Update(t.Context(), &apiv1.UpdateRequest{Ref: ref("", "configmaps", "default", "a"), Object: asProto(t, configMapURL, held)})
	}
	_, err = update()
	if s := apiStatus(t, err); s.Reason != metav1.StatusReasonInvalid || !strings.Contains(s.Message, "no new finalizers can be added if the object is being deleted") {
		t.Errorf("new finalizer on a deleted object: %v", err)
	}
	held.Finalizers = nil
	_, err = update()
	check(t, err)
	if _, err := u.Get(t.Context(), &apiv1.GetRequest{Ref: ref("", "configmaps", "default", "a")}); status.Code(err) != codes.NotFound {
		t.Errorf("the object outlived its last finalizer: %v", err)
	}
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "nginx"}}}}
}

func (h *harness) defaultAccount(u *user) {
	h.t.Helper()
	_, err := u.Create(h.t.Context(), &apiv1.CreateRequest{
		Ref: ref("", "serviceaccounts", "default", ""), Object: asJSON(h.t, runtime.ContentTypeJSON, `{"metadata":{"name":"default"}}`),
	})
	check(h.t, err)
}

// A bound pod's deletion waits for its grace period, which may only be shortened; binding is a subresource and happens once.
func TestPodBindingAndGrace(t *testing.T) {
	h := start(t, engines()["memory"](t))
	u := h.admin()
	h.defaultAccount(u)
	_, err := u.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "pods", "default", ""), Object: asProto(t, podURL, pod("p"))})
	check(t, err)
	bind := func() error {
		r := ref("", "pods", "default", "p")
		r.Subresource = "binding"
		_, err := u.Create(t.Context(), &apiv1.CreateRequest{Ref: r, Object: asProto(t, "k8s.io.api.core.v1.Binding",
			&corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}})})
		return err
	}
	check(t, bind())
	if err := bind(); status.Code(err) != codes.Aborted {
		t.Errorf("second binding: %v", err)
	}
	del := func(seconds *wrapperspb.Int64Value) *apiv1.DeleteResponse {
		t.Helper()
		resp, err := u.Delete(t.Context(), &apiv1.DeleteRequest{Ref: ref("", "pods", "default", "p"), Options: &apiv1.DeleteOptions{GracePeriodSeconds: seconds}})
		check(t, err)
		return resp
	}
	first := del(nil)
	p := into(t, first.GetObject(), &corev1.Pod{})
	if first.GetDeleted() || p.DeletionTimestamp == nil || *p.DeletionGracePeriodSeconds != 30 || p.Spec.NodeName != "n1" {
		t.Fatalf("graceful deletion: %+v", p.ObjectMeta)
	}
	again := into(t, del(wrapperspb.Int64(60)).GetObject(), &corev1.Pod{})
	if again.ResourceVersion != p.ResourceVersion {
		t.Errorf("a longer grace period changed the pod")
	}
	shorter := into(t, del(wrapperspb.Int64(5)).GetObject(), &corev1.Pod{})
	if *shorter.DeletionGracePeriodSeconds != 5 || !shorter.DeletionTimestamp.Time.Before(p.DeletionTimestamp.Time) {
		t.Errorf("a shorter grace period: %+v", shorter.ObjectMeta)
	}
	if !del(wrapperspb.Int64(0)).GetDeleted() {
		t.Errorf("a deletion without grace left the pod")
	}
}

// A namespace turns Terminating, refuses new objects, and goes when its finalizer is taken away; the system's stay.
func TestNamespaceLifecycle(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	_, err := u.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "namespaces", "", ""), Object: asJSON(t, runtime.ContentTypeJSON, `{"metadata":{"name":"ns"}}`)})
	check(t, err)
	resp, err := u.Delete(t.Context(), &apiv1.DeleteRequest{Ref: ref("", "namespaces", "", "ns")})
	check(t, err)
	ns := into(t, resp.GetObject(), &corev1.Namespace{})
	if resp.GetDeleted() || ns.Status.Phase != corev1.NamespaceTerminating || ns.DeletionTimestamp == nil {
		t.Fatalf("terminating namespace: %+v", ns)
	}
	_, err = u.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "configmaps", "ns", ""), Object: asProto(t, configMapURL, configMap("a"))})
	if s := apiStatus(t, err); s.Message != `configmaps "a" is forbidden: unable to create new content in namespace ns because it is being terminated` ||
		s.Details.Causes[0].Type != corev1.NamespaceTerminatingCause {
		t.Errorf("create in a terminating namespace: %v", err)
	}
	_, err = u.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "configmaps", "nowhere", ""), Object: asProto(t, configMapURL, configMap("a"))})
	if s := apiStatus(t, err); s.Message != `namespaces "nowhere" not found` {
		t.Errorf("create in no namespace: %v", err)
	}
	ns.Spec.Finalizers = nil
	r := ref("", "namespaces", "", "ns")
	r.Subresource = "finalize"
	_, err = u.Update(t.Context(), &apiv1.UpdateRequest{Ref: r, Object: asProto(t, "k8s.io.api.core.v1.Namespace", ns)})
	check(t, err)
	if _, err := u.Get(t.Context(), &apiv1.GetRequest{Ref: ref("", "namespaces", "", "ns")}); status.Code(err) != codes.NotFound {
		t.Errorf("the finalized namespace is still there: %v", err)
	}
	if _, err := u.Delete(t.Context(), &apiv1.DeleteRequest{Ref: ref("", "namespaces", "", "kube-system")}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("kube-system may be deleted: %v", err)
	}
}

// Two Services never hold one cluster IP; a deleted Service's IP is free again; the server finds free ones by itself.
func TestClusterIPs(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	service := func(name, ip string) (*corev1.Service, error) {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Port: 80}}}}
		resp, err := u.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "services", "default", ""), Object: asProto(t, serviceURL, s)})
		if err != nil {
			return nil, err
		}
		return into(t, resp.GetObject(), s), nil
	}
	_, err := service("a", "10.96.0.50")
	check(t, err)
	_, err = service("b", "10.96.0.50")
	if s := apiStatus(t, err); s.Reason != metav1.StatusReasonInvalid || !strings.Contains(s.Message, "provided IP is already allocated") {
		t.Errorf("taken IP: %v", err)
	}
	seen := map[string]bool{}
	for i := range 20 {
		s, err := service(fmt.Sprintf("auto-%d", i), "")
		check(t, err)
		if s.Spec.ClusterIP == "" || seen[s.Spec.ClusterIP] {
			t.Fatalf("IP %q", s.Spec.ClusterIP)
		}
		seen[s.Spec.ClusterIP] = true
	}
	_, err = u.Delete(t.Context(), &apiv1.DeleteRequest{Ref: ref("", "services", "default", "a")})
	check(t, err)
	_, err = service("b", "10.96.0.50")
	check(t, err)
}

// A batch answers each operation by itself, in order.
func TestBatch(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	u.create(t, configMap("taken"))
	create := func(name string) *apiv1.Operation {
		return &apiv1.Operation{Operation: &apiv1.Operation_Create{Create: &apiv1.CreateRequest{
			Ref: ref("", "configmaps", "default", ""), Object: asProto(t, configMapURL, configMap(name)),
		}}}
	}
	ops := []*apiv1.Operation{create("taken"), {}}
	for i := range 200 {
		ops = append(ops, create(fmt.Sprintf("m-%d", i)))
	}
	resp, err := u.Batch(t.Context(), &apiv1.BatchRequest{Operations: ops})
	check(t, err)
	r := resp.GetResults()
	if codes.Code(r[0].GetError().GetCode()) != codes.AlreadyExists || codes.Code(r[1].GetError().GetCode()) != codes.InvalidArgument {
		t.Errorf("failing operations: %v %v", r[0], r[1])
	}
	for i, res := range r[2:] {
		if res.GetError() != nil || into(t, res.GetObject(), &corev1.ConfigMap{}).Name != fmt.Sprintf("m-%d", i) {
			t.Fatalf("operation %d: %v", i, res)
		}
	}
	count, err := u.DeleteCollection(t.Context(), &apiv1.DeleteCollectionRequest{Ref: ref("", "configmaps", "default", ""), FieldSelector: "metadata.name!=taken"})
	check(t, err)
	if count.GetCount() != 200 {
		t.Errorf("deleted %d", count.GetCount())
	}
}

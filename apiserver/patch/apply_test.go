package patch_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/apiserver/patch"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/apps"
	"bareboat.dev/apiserver/registry/codec"
	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/kindtest"
)

func newFields(t testing.TB) (*patch.Fields, *registry.Set) {
	t.Helper()
	set, err := registry.NewSet(registry.All(core.Resources(), apps.Resources())...)
	if err != nil {
		t.Fatal(err)
	}
	return patch.NewFields(set), set
}

const config = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec: {containers: [{name: c, image: 'nginx:1'}]}
`

// Two managers apply one object: what they disagree on is a conflict that names the other, unless forced; what one no longer
// applies goes away, unless the other owns it too.
func TestApply(t *testing.T) {
	f, set := newFields(t)
	r, _ := set.Lookup("apps", "v1", "deployments")
	apply := func(live registry.Object, manager, config string, force bool) (*appsv1.Deployment, error) {
		t.Helper()
		obj, _, err := f.Apply(r, "", live, []byte(config), patch.ApplyOptions{Manager: manager, Force: force})
		if err != nil {
			return nil, err
		}
		return obj.(*appsv1.Deployment), nil
	}
	d, err := apply(nil, "alice", config, false)
	if err != nil {
		t.Fatal(err)
	}
	if *d.Spec.Replicas != 2 || d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType {
		t.Errorf("applied: %+v", d.Spec)
	}
	if m := d.ManagedFields; len(m) != 1 || m[0].Manager != "alice" || m[0].Operation != "Apply" || m[0].APIVersion != "apps/v1" {
		t.Errorf("fields: %+v", m)
	}
	if again, err := apply(d, "alice", config, false); err != nil || again != d {
		t.Errorf("applying again changed something: %v", err)
	}
	three := strings.Replace(config, "replicas: 2", "replicas: 3", 1)
	_, err = apply(d, "bob", three, false)
	if !apierrors.IsConflict(err) || err.Error() != `Apply failed with 1 conflict: conflict with "alice": .spec.replicas` {
		t.Fatalf("conflict: %v", err)
	}
	if causes := err.(apierrors.APIStatus).Status().Details.Causes; len(causes) != 1 || causes[0].Field != ".spec.replicas" ||
		causes[0].Type != "FieldManagerConflict" {
		t.Errorf("causes: %+v", causes)
	}
	forced, err := apply(d, "bob", three, true)
	if err != nil || *forced.Spec.Replicas != 3 || len(forced.ManagedFields) != 2 {
		t.Fatalf("force: %v %+v", err, forced)
	}
	without, err := apply(forced, "alice", strings.Replace(config, "  replicas: 2\n", "", 1), false)
	if err != nil || *without.Spec.Replicas != 3 {
		t.Errorf("a field that another manager owns went away: %v", err)
	}
	two, err := apply(d, "alice", strings.Replace(config, "[{name: c", "[{name: d, image: e}, {name: c", 1), false)
	if err != nil || len(two.Spec.Template.Spec.Containers) != 2 {
		t.Fatalf("containers merge by name: %v", err)
	}
	one, err := apply(two, "alice", config, false)
	if err != nil || len(one.Spec.Template.Spec.Containers) != 1 || one.Spec.Template.Spec.Containers[0].Name != "c" {
		t.Errorf("what is no longer applied goes away: %v %+v", err, one.Spec.Template.Spec.Containers)
	}
}

// Ordinary updates are recorded as such, per subresource, and an apply conflicts with them.
func TestTrack(t *testing.T) {
	f, set := newFields(t)
	r, _ := set.Lookup("apps", "v1", "deployments")
	made, errs := kindtest.New(t, r, config)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	d := made.(*appsv1.Deployment)
	if err := f.Track(r, "", d, nil, "kubectl-create"); err != nil {
		t.Fatal(err)
	}
	if m := d.ManagedFields; len(m) != 1 || m[0].Manager != "kubectl-create" || m[0].Operation != "Update" || !strings.Contains(string(m[0].FieldsV1.Raw), `"f:replicas":{}`) {
		t.Fatalf("%+v", m)
	}
	same := d.DeepCopy()
	same.ManagedFields = nil
	if err := f.Track(r, "", same, d, "other"); err != nil || len(same.ManagedFields) != 1 {
		t.Errorf("a change of nothing is nobody's: %v %+v", err, same.ManagedFields)
	}
	status := d.DeepCopy()
	status.Status.Replicas = 2
	status.Spec.Replicas = new(int32(9)) // cannot be owned through status
	if err := f.Track(r, "status", status, d, "controller"); err != nil {
		t.Fatal(err)
	}
	recorded := ""
	for _, m := range status.ManagedFields {
		if m.Manager == "controller" && m.Subresource == "status" {
			recorded = string(m.FieldsV1.Raw)
		}
	}
	if recorded != `{"f:status":{"f:replicas":{}}}` {
		t.Errorf("%s", recorded)
	}
	_, _, err := f.Apply(r, "", d, []byte(strings.Replace(config, "replicas: 2", "replicas: 5", 1)), patch.ApplyOptions{Manager: "alice"})
	if err == nil || err.Error() != `Apply failed with 1 conflict: conflict with "kubectl-create" using apps/v1: .spec.replicas` {
		t.Errorf("%v", err)
	}
}

// An object that was kept with client-side apply is taken over by the first server-side apply of kubectl without conflicts.
func TestUpgradeFromClientSideApply(t *testing.T) {
	f, set := newFields(t)
	r, _ := set.Lookup("apps", "v1", "deployments")
	made, _ := kindtest.New(t, r, config)
	d := made.(*appsv1.Deployment)
	d.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"default"},"spec":{"replicas":2,"selector":{"matchLabels":{"app":"a"}},"template":{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"image":"nginx:1","name":"c"}]}}}}`}
	if err := f.Track(r, "", d, nil, "kubectl-client-side-apply"); err != nil {
		t.Fatal(err)
	}
	obj, _, err := f.Apply(r, "", d, []byte(strings.Replace(config, "replicas: 2", "replicas: 4", 1)), patch.ApplyOptions{Manager: "kubectl"})
	if err != nil || *obj.(*appsv1.Deployment).Spec.Replicas != 4 {
		t.Errorf("%v", err)
	}
}

// Configurations that cannot be applied, and what is said of them.
func TestApplyRefused(t *testing.T) {
	f, set := newFields(t)
	r, _ := set.Lookup("apps", "v1", "deployments")
	for _, tc := range []struct {
		name, config, want string
		code               int32
		v                  codec.FieldValidation
	}{
		{"unknown field", strings.Replace(config, "replicas: 2", "replica: 2", 1),
			"failed to create typed patch object (default/web; apps/v1, Kind=Deployment): .spec.replica: field not declared in schema", 500, codec.Warn},
		{"not YAML", "{", "error decoding YAML: ", 400, codec.Warn},
		{"duplicate", config + "kind: Deployment\n", "error strict decoding YAML: ", 400, codec.Strict},
		{"version", strings.Replace(config, "apps/v1", "apps/v1beta1", 1), "", 400, codec.Warn},
		{"managed fields", strings.Replace(config, "{name: web", "{managedFields: [{manager: x}], name: web", 1), "metadata.managedFields must be nil", 400, codec.Warn},
		{"aliases", "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n" + strings.Repeat("", 1) + "d: [" + strings.Repeat("*c,", 1<<18) + "]\n", "", 400, codec.Warn},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := f.Apply(r, "", nil, []byte(tc.config), patch.ApplyOptions{Manager: "m", Validation: tc.v})
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) || err.(apierrors.APIStatus).Status().Code != tc.code {
				t.Errorf("%v", err)
			}
		})
	}
}

// Applying a scale applies the number of replicas to the object behind it.
func TestApplyScale(t *testing.T) {
	f, set := newFields(t)
	r, _ := set.Lookup("apps", "v1", "deployments")
	d, _ := kindtest.New(t, r, config)
	if err := f.Track(r, "", d, nil, "creator"); err != nil {
		t.Fatal(err)
	}
	scale := "apiVersion: autoscaling/v1\nkind: Scale\nmetadata: {name: web, namespace: default}\nspec: {replicas: 7}\n"
	if _, _, err := f.Apply(r, "scale", d, []byte(scale), patch.ApplyOptions{Manager: "hpa"}); !apierrors.IsConflict(err) {
		t.Errorf("%v", err)
	}
	obj, _, err := f.Apply(r, "scale", d, []byte(scale), patch.ApplyOptions{Manager: "hpa", Force: true})
	if err != nil || *obj.(*appsv1.Deployment).Spec.Replicas != 7 {
		t.Fatal(err)
	}
	for _, m := range obj.GetManagedFields() {
		if m.Manager == "hpa" && m.Subresource != "scale" {
			t.Errorf("%+v", m)
		}
	}
}

// Applying a Namespace by its name alone a second time changes nothing, though the first apply left no managed fields.
func TestApplyNameAlone(t *testing.T) {
	f, set := newFields(t)
	r, _ := set.Lookup("", "v1", "namespaces")
	name := []byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: web}\n")
	created, _, err := f.Apply(r, "", nil, name, patch.ApplyOptions{Manager: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	r.Strategy.PrepareCreate(created)
	created.SetLabels(map[string]string{corev1.LabelMetadataName: "web"})
	again, _, err := f.Apply(r, "", created, name, patch.ApplyOptions{Manager: "alice"})
	if err != nil || again != created {
		t.Errorf("applying again changed something: %v %+v", err, again)
	}
	labelled := []byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: web, labels: {a: b}}\n")
	if more, _, err := f.Apply(r, "", created, labelled, patch.ApplyOptions{Manager: "alice"}); err != nil || len(more.GetManagedFields()) != 2 {
		t.Errorf("an apply that owns a field records what was there before: %v %+v", err, more)
	}
}

// Every kind of the set has a schema: its objects can be tracked and applied.
func TestEveryKindIsTracked(t *testing.T) {
	f, set := newFields(t)
	for _, r := range set.All() {
		obj := r.New()
		obj.SetName("x")
		obj.SetLabels(map[string]string{"a": "b"})
		if err := f.Track(r, "", obj, nil, "m"); err != nil || len(obj.GetManagedFields()) != 1 {
			t.Errorf("%s: %v %+v", r.Kind, err, obj.GetManagedFields())
		}
	}
}

// The manager's name is the one given, or begins the user agent, in printable characters and within bounds.
func TestManagerName(t *testing.T) {
	for _, tc := range [][3]string{
		{"me", "kubectl/v1", "me"}, {"", "kubectl/v1.37 (linux)", "kubectl"}, {"", "a\x00b/1", "ab"}, {"", strings.Repeat("x", 200), strings.Repeat("x", 128)},
	} {
		if got := patch.ManagerName(tc[0], tc[1]); got != tc[2] {
			t.Errorf("%q", got)
		}
	}
}

func BenchmarkTrackPodCreate(b *testing.B) {
	f, set := newFields(b)
	r, _ := set.Lookup("", "v1", "pods")
	obj, _ := kindtest.New(b, r, benchPod)
	if err := f.Track(r, "", obj.DeepCopyObject().(registry.Object), nil, "m"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p := obj.DeepCopyObject().(*corev1.Pod)
		if err := f.Track(r, "", p, nil, "m"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTrackPodStatus(b *testing.B) {
	f, set := newFields(b)
	r, _ := set.Lookup("", "v1", "pods")
	obj, _ := kindtest.New(b, r, benchPod)
	if err := f.Track(r, "", obj, nil, "m"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p := obj.DeepCopyObject().(*corev1.Pod)
		p.Status.PodIP = "10.0.0.1"
		if err := f.Track(r, "status", p, obj, "kubelet"); err != nil {
			b.Fatal(err)
		}
	}
}

const benchPod = `
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: default, labels: {app: a, tier: b}}
spec:
  containers:
  - name: c
    image: nginx:1
    ports: [{containerPort: 80, name: http}]
    env: [{name: A, value: b}, {name: B, value: c}]
    resources: {requests: {cpu: 100m, memory: 64Mi}}
    volumeMounts: [{name: v, mountPath: /data}]
    readinessProbe: {httpGet: {path: /, port: http}}
  volumes: [{name: v, emptyDir: {}}]
`

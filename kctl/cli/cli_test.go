package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	"bareboat.dev/kctl/api"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// discovery tells a few resources.
type discovery struct {
	apiv1.UnimplementedDiscoveryServiceServer
}

func (discovery) ListResources(context.Context, *apiv1.ListResourcesRequest) (*apiv1.ListResourcesResponse, error) {
	verbs := []string{"get", "list", "watch", "create", "update", "patch", "delete"}
	r := func(group, version, resource, kind string, namespaced bool, short ...string) *apiv1.ResourceInfo {
		return &apiv1.ResourceInfo{
			Group: group, Version: version, Resource: resource, Kind: kind, Singular: strings.ToLower(kind), Namespaced: namespaced,
			ShortNames: short, Verbs: verbs, Preferred: true, Categories: map[bool][]string{true: {"all"}}[kind == "Pod" || kind == "Deployment"],
		}
	}
	return &apiv1.ListResourcesResponse{Resources: []*apiv1.ResourceInfo{
		r("", "v1", "pods", "Pod", true, "po"), r("", "v1", "namespaces", "Namespace", false, "ns"), r("", "v1", "nodes", "Node", false, "no"),
		r("", "v1", "configmaps", "ConfigMap", true, "cm"), r("", "v1", "services", "Service", true, "svc"), r("", "v1", "events", "Event", true, "ev"),
		r("apps", "v1", "deployments", "Deployment", true, "deploy"), r("apps", "v1", "replicasets", "ReplicaSet", true, "rs"),
	}}, nil
}

// model is kctl on a model of the server.
type model struct {
	t      *testing.T
	server *clienttest.Server
	// config is what kctl takes its kubeconfig for.
	config client.Config
}

func newModel(t *testing.T) model {
	return model{t: t, server: clienttest.NewServer(t, func(r grpc.ServiceRegistrar) { apiv1.RegisterDiscoveryServiceServer(r, discovery{}) })}
}

// run types a command and returns what it printed and its exit code.
func (m model) run(stdin string, args ...string) (out, errOut string, code int) {
	m.t.Helper()
	var o, e strings.Builder
	s := &session{in: strings.NewReader(stdin), out: &o, err: &e}
	s.server = api.New(m.server.NewClient(), s.warn)
	s.config = &m.config
	root := s.root()
	s.namespace = "default"
	root.SetArgs(args)
	root.SetOut(&o)
	root.SetErr(&e)
	code = exitCode(s, root.ExecuteContext(m.t.Context()), &e)
	return o.String(), e.String(), code
}

func (m model) must(args ...string) string {
	m.t.Helper()
	out, errOut, code := m.run("", args...)
	if code != 0 {
		m.t.Fatalf("kctl %s: exit code %d: %s", strings.Join(args, " "), code, errOut)
	}
	return out
}

const twoMaps = `apiVersion: v1
kind: ConfigMap
metadata: {name: a, labels: {app: x}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: b}
data: {k: v}
`

// TestObjectsLife shows apply, get, label, patch and delete of plain objects.
func TestObjectsLife(t *testing.T) {
	m := newModel(t)
	if out, errOut, code := m.run(twoMaps, "apply", "-f", "-"); code != 0 || out != "configmap/a created\nconfigmap/b created\n" {
		t.Errorf("apply: %q %q %d", out, errOut, code)
	}
	if out := m.must("get", "cm", "-o", "name"); out != "configmap/a\nconfigmap/b\n" {
		t.Errorf("get -o name: %q", out)
	}
	if out := m.must("get", "configmaps", "-l", "app=x", "-o", "jsonpath={.items[*].metadata.name}"); out != "a" {
		t.Errorf("get -l: %q", out)
	}
	m.must("label", "cm/b", "app=y")
	if _, errOut, code := m.run("", "label", "cm/b", "app=z"); code != 1 || !strings.Contains(errOut, "--overwrite is false") {
		t.Errorf("label over a label: %q %d", errOut, code)
	}
	m.must("label", "cm/b", "app-")
	m.must("patch", "cm", "b", "--type=merge", "-p", `{"data":{"k":"w"}}`)
	if out := m.must("get", "cm/b", "-o", "jsonpath={.data.k}{.metadata.labels.app}"); out != "w" {
		t.Errorf("after patch and label: %q", out)
	}
	if out := m.must("delete", "cm", "a", "b"); out != "configmap \"a\" deleted from default namespace\nconfigmap \"b\" deleted from default namespace\n" {
		t.Errorf("delete: %q", out)
	}
	if _, errOut, _ := m.run("", "get", "cm"); errOut != "No resources found in default namespace.\n" {
		t.Errorf("get of nothing: %q", errOut)
	}
}

// TestOneBadDocumentDoesNotStopTheRest shows that apply, create and delete do what they can and say what they could not.
func TestOneBadDocumentDoesNotStopTheRest(t *testing.T) {
	m := newModel(t)
	mixed := twoMaps + "---\napiVersion: v1\nkind: Gizmo\nmetadata: {name: g}\n---\napiVersion: v1\nkind: ConfigMap\n---\nx: y: z\n"
	out, errOut, code := m.run(mixed, "apply", "-f", "-")
	if code != 1 || out != "configmap/a created\nconfigmap/b created\n" {
		t.Errorf("apply: %q, exit code %d", out, code)
	}
	for _, want := range []string{`no matches for kind "Gizmo"`, "metadata.name: Required value", "converting YAML to JSON"} {
		if !strings.Contains(errOut, want) {
			t.Errorf("apply: %q is missing in %q", want, errOut)
		}
	}
	if got := strings.Count(errOut, "\n"); got != 3 {
		t.Errorf("apply: %d lines of errors, want one each: %q", got, errOut)
	}
	if out, _, code := m.run(mixed, "delete", "-f", "-"); code != 1 || strings.Count(out, "deleted") != 2 {
		t.Errorf("delete: %q, exit code %d", out, code)
	}
}

// TestCreateFromFlags shows the objects that create's subcommands make.
func TestCreateFromFlags(t *testing.T) {
	m := newModel(t)
	file := filepath.Join(t.TempDir(), "motd")
	if err := os.WriteFile(file, []byte("hi"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.must("create", "cm", "c", "--from-literal=a=b", "--from-file="+file)
	if out := m.must("get", "cm/c", "-o", "jsonpath={.data}"); out != `{"a":"b","motd":"hi"}` {
		t.Errorf("config map: %s", out)
	}
	m.must("create", "deployment", "web", "--image=reg.example/team/web:1", "--replicas=2", "--port=80")
	want := "2 web reg.example/team/web:1 80"
	if out := m.must("get", "deploy/web", "-o", "jsonpath={.spec.replicas} {.spec.template.spec.containers[0].name} {.spec.template.spec.containers[0].image} {.spec.template.spec.containers[0].ports[0].containerPort}"); out != want {
		t.Errorf("deployment: %q, want %q", out, want)
	}
}

// TestMistakesGetOneSentence shows that wrong words are one line on standard error and exit code 1.
func TestMistakesGetOneSentence(t *testing.T) {
	m := newModel(t)
	tests := []struct {
		args string
		want string
	}{
		{"get", "you must name a type of resource"},
		{"get gizmos", `the server doesn't have a resource type "gizmos"`},
		{"get pod x", `Error from server (NotFound): pods "x" not found`},
		{"get pods -o nonsense", "--output: unable to match a printer"},
		{"get pods --nonsense", "unknown flag: --nonsense"},
		{"get pod/x svc", "must have a single resource and name"},
		{"delete pods", "no name was specified"},
		{"delete pods x --cascade=maybe", "--cascade"},
		{"apply", "filename"},
		{"apply -f /does/not/exist", "does not exist"},
		{"apply -f - --dry-run=perhaps", "--dry-run"},
		{"scale deploy/x", "--replicas"},
		{"wait pod/x", "--for"},
		{"wait pod/x --for=conditoin=Ready", "is none of delete, create, condition"},
		{"exec x", "must specify a pod and"},
		{"logs", "expected a POD"},
		{"logs x --since=1m --since-time=2020-01-01T00:00:00Z", "at most one"},
		{"rollout status cm/x", "not found"},
		{"patch cm/x", "must specify -p"},
		{"create pod x", "create pod: not known here"},
		{"nonsense", "unknown command"},
	}
	for _, tt := range tests {
		_, errOut, code := m.run("", strings.Fields(tt.args)...)
		if code != 1 || !strings.Contains(errOut, tt.want) || strings.Count(strings.TrimSpace(errOut), "\n") > 1 {
			t.Errorf("kctl %s: exit code %d, %q; want %q", tt.args, code, errOut, tt.want)
		}
	}
}

// TestWithoutAKubeconfig shows that kctl says where to get one.
func TestWithoutAKubeconfig(t *testing.T) {
	var errOut strings.Builder
	code := Run(t.Context(), []string{"get", "pods", "--kubeconfig=/does/not/exist"}, strings.NewReader(""), &errOut, &errOut)
	if code != 1 || !strings.Contains(errOut.String(), "`kctl up`") {
		t.Errorf("exit code %d: %s", code, errOut.String())
	}
}

// TestWait shows waiting for a condition that comes, for deletion, and the reason when time runs out.
func TestWait(t *testing.T) {
	m := newModel(t)
	pods := client.Of(m.server.Client(), client.Pods())
	pod, err := pods.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}})
	if err != nil {
		t.Fatal(err)
	}
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady"}}
	if pod, err = pods.UpdateStatus(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if _, errOut, code := m.run("", "wait", "pod/p", "--for=condition=Ready", "--timeout=50ms"); code != 1 || !strings.Contains(errOut, "timed out") || !strings.Contains(errOut, "ContainersNotReady") {
		t.Errorf("a wait that times out says %q (%d)", errOut, code)
	}
	done := make(chan string)
	go func() { out, errOut, _ := m.run("", "wait", "pod/p", "--for=condition=Ready"); done <- out + errOut }()
	pod.Status.Conditions[0].Status = corev1.ConditionTrue
	if _, err = pods.UpdateStatus(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if out := <-done; out != "pod/p condition met\n" {
		t.Errorf("wait says %q", out)
	}
	go func() { out, errOut, _ := m.run("", "wait", "pod/p", "--for=delete"); done <- out + errOut }()
	if err := pods.Delete(t.Context(), "default", "p", client.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if out := <-done; !strings.Contains(out, "condition met") && !strings.Contains(out, "not found") {
		t.Errorf("wait for deletion says %q", out)
	}
}

// TestTree shows owners with what they own.
func TestTree(t *testing.T) {
	m := newModel(t)
	d, err := client.Of(m.server.Client(), client.Deployments()).Create(t.Context(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}})
	if err != nil {
		t.Fatal(err)
	}
	owner := func(kind, name string, o metav1.Object) []metav1.OwnerReference {
		return []metav1.OwnerReference{{Kind: kind, Name: name, UID: o.GetUID()}}
	}
	rs, err := client.Of(m.server.Client(), client.ReplicaSets()).Create(t.Context(), &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "web-1", Namespace: "default", OwnerReferences: owner("Deployment", "web", d)}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"web-1-a", "web-1-b"} {
		if _, err := client.Of(m.server.Client(), client.Pods()).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", OwnerReferences: owner("ReplicaSet", "web-1", rs)}}); err != nil {
			t.Fatal(err)
		}
	}
	want := "deployment.apps/web\n└─ replicaset.apps/web-1\n   ├─ pod/web-1-a\n   └─ pod/web-1-b\n"
	if out := m.must("tree", "deploy/web"); out != want {
		t.Errorf("tree prints\n%s\nwant\n%s", out, want)
	}
}

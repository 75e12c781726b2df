package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"bareboat.dev/kctl/pki"
)

// Nothing that --dry-run=client says is sent, and what is printed is what would be.
func TestClientDryRun(t *testing.T) {
	m := newModel(t)
	m.must("create", "deployment", "web", "--image=team/web:1")
	m.must("create", "cm", "kept", "--from-literal=k=v")
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte(twoMaps), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"create -f " + file + " --dry-run=client":                                                "configmap/a created (dry run)\nconfigmap/b created (dry run)\n",
		"apply -f " + file + " --dry-run=client":                                                 "configmap/a created (dry run)\nconfigmap/b created (dry run)\n",
		"create cm c --dry-run=client":                                                           "configmap/c created (dry run)\n",
		"run p --image=i --dry-run=client":                                                       "pod/p created (dry run)\n",
		"delete cm kept --dry-run=client":                                                        "configmap \"kept\" deleted (dry run) from default namespace\n",
		"label cm/kept a=b --dry-run=client":                                                     "configmap/kept labeled (dry run)\n",
		"annotate cm/kept a=b --dry-run=client":                                                  "configmap/kept annotated (dry run)\n",
		"expose deploy/web --port=80 --dry-run=client":                                           "service/web exposed (dry run)\n",
		"set image deploy/web web=team/web:2 --dry-run=client":                                   "deployment.apps/web image updated (dry run)\n",
		"set sa deploy/web bob --dry-run=client":                                                 "deployment.apps/web serviceaccount updated (dry run)\n",
		"rollout restart deploy/web --dry-run=client":                                            "deployment.apps/web restarted (dry run)\n",
		"rollout pause deploy/web --dry-run=client":                                              "deployment.apps/web paused (dry run)\n",
		"patch cm/kept --type=merge -p {\"data\":{\"k\":\"w\"}} --dry-run=client":                "configmap/kept patched (dry run)\n",
		"patch cm/kept -p {\"data\":{\"k\":\"w\"}} --dry-run=client -o jsonpath={.data.k}":       "w",
		"patch cm/kept --type=json -p [{\"op\":\"remove\",\"path\":\"/data\"}] --dry-run=client": "configmap/kept patched (dry run)\n",
	} {
		if out, errOut, _ := m.run("", strings.Fields(args)...); out+errOut != want {
			t.Errorf("kctl %s: %q, want %q", args, out+errOut, want)
		}
	}
	if got := m.must("get", "cm,svc,pods", "-o", "name"); got != "configmap/kept\n" {
		t.Errorf("afterwards there is %q", got)
	}
	got := m.must("get", "cm/kept", "-o", "jsonpath={.data.k}{.metadata.labels}") + m.must("get", "deploy/web", "-o", "jsonpath={.spec.template.spec.containers[0].image}{.spec.paused}")
	if got != "vteam/web:1" {
		t.Errorf("afterwards they have %q", got)
	}
}

// The objects that flags describe, without asking a server, as kubectl makes them.
func TestCreateKinds(t *testing.T) {
	dir := t.TempDir()
	env := filepath.Join(dir, "env")
	if err := os.WriteFile(env, []byte("# comment\nA=1\n\n  B=x=y\nUNSET_HERE\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	store := pki.Store{Dir: dir}
	if _, err := store.CA(time.Now()); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"quota q --hard=cpu=1,pods=2 --scopes=BestEffort":                                    `"spec":{"hard":{"cpu":"1","pods":"2"},"scopes":["BestEffort"]}`,
		"pdb p --selector=app=x --min-available=1":                                           `"spec":{"minAvailable":1,"selector":{"matchLabels":{"app":"x"}}}`,
		"pdb p --selector=app=x --max-unavailable=50%":                                       `"maxUnavailable":"50%"`,
		"priorityclass c --value=10 --preemption-policy=Never":                               `"preemptionPolicy":"Never","value":10`,
		"ingress i --rule=a.b/x*=s:80,tls=c --rule=a.b/y=s:http":                             `"spec":{"rules":[{"host":"a.b","http":{"paths":[{"backend":{"service":{"name":"s","port":{"number":80}}},"path":"/x","pathType":"Prefix"},{"backend":{"service":{"name":"s","port":{"name":"http"}}},"path":"/y","pathType":"Exact"}]}}],"tls":[{"hosts":["a.b"],"secretName":"c"}]}`,
		"ingress i --default-backend=s:80":                                                   `"spec":{"defaultBackend":{"service":{"name":"s","port":{"number":80}}}}`,
		"secret docker-registry r --docker-username=u --docker-password=p --docker-server=s": `"data":{".dockerconfigjson":"eyJhdXRocyI6eyJzIjp7InVzZXJuYW1lIjoidSIsInBhc3N3b3JkIjoicCIsImF1dGgiOiJkVHB3In19fQ=="}`,
		"secret tls t --cert=" + store.CertFile("ca") + " --key=" + store.KeyFile("ca"):      `"type":"kubernetes.io/tls"`,
		"configmap c --from-env-file=" + env:                                                 `"data":{"A":"1","B":"x=y"}`,
		"service nodeport n --tcp=80:web --node-port=30080":                                  `"ports":[{"name":"80-web","nodePort":30080,"port":80,"protocol":"TCP","targetPort":"web"}]`,
		"service externalname e --external-name=x.y":                                         `"spec":{"externalName":"x.y","selector":{"app":"e"},"type":"ExternalName"}`,
		"clusterrole c --verb=get --non-resource-url=/logs/*":                                `"rules":[{"nonResourceURLs":["/logs/*"],"verbs":["get"]}]`,
		"clusterrole c --aggregation-rule=a=b":                                               `"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]}`,
		"rolebinding r --role=a --serviceaccount=d:e -n away":                                `"metadata":{"name":"r","namespace":"away"}`,
		"cronjob c --image=b --schedule=@hourly":                                             `"restartPolicy":"OnFailure"`,
	} {
		var out, errOut strings.Builder
		words := append([]string{"create"}, strings.Fields(args)...)
		code := Run(t.Context(), append(words, "--dry-run=client", "-o", "json", "--kubeconfig=/does/not/exist"), strings.NewReader(""), &out, &errOut)
		var v any
		if code != 0 || json.Unmarshal([]byte(out.String()), &v) != nil {
			t.Errorf("create %s: %d %s", args, code, errOut.String())
			continue
		}
		if flat, _ := json.Marshal(v); !strings.Contains(string(flat), want) {
			t.Errorf("create %s: %s\nwant %s", args, flat, want)
		}
	}
	m := newModel(t)
	if got := m.must("create", "role", "r", "--verb=get", "--resource=deploy,pods/log,rs", "--dry-run=client", "-o", "jsonpath={.rules[*].apiGroups}{.rules[*].resources}"); got != `["apps"] [""]["deployments","replicasets"] ["pods/log"]` {
		t.Errorf("role: %s", got)
	}
	for args, want := range map[string]string{
		"create pdb p --selector=a":                              "one of min-available or max-unavailable",
		"create role r --verb=get":                               "at least one resource must be specified",
		"create role r --resource=pods":                          "at least one verb must be specified",
		"create clusterrole c --aggregation-rule=a=b --verb=get": "aggregation rule must be specified without",
		"create ingress i":                                       "not enough information provided",
		"create ingress i --rule=nonsense":                       "is not HOST/PATH=SERVICE:PORT",
		"create job j":                                           "either --image or --from",
		"create quota q --hard=cpu=much":                         "--hard: cpu=much",
		"create service clusterip c":                             "at least one tcp port",
		"autoscale deploy/x --max=1 --min=2":                     "--max=MAXPODS must be larger or equal",
		"set resources deploy/x":                                 "you must specify an update",
		"set subject rolebinding/x":                              "at least one value of user, group or serviceaccount",
		"certificate approve":                                    "one or more CSRs must be specified",
		"create cm c --dry-run=perhaps":                          "invalid dry-run value (perhaps)",
		"auth can-i --list get":                                  "list option must be specified with no arguments",
	} {
		if _, errOut, code := m.run("", strings.Fields(args)...); code != 1 || !strings.Contains(errOut, want) {
			t.Errorf("kctl %s: %q, want %q", args, errOut, want)
		}
	}
}

// Labels are set, removed and listed in kubectl's words.
func TestLabelWords(t *testing.T) {
	m := newModel(t)
	m.must("create", "cm", "c")
	m.must("create", "cm", "d")
	for _, step := range []struct{ args, want string }{
		{"label cm/c a=b x=y", "configmap/c labeled\n"},
		{"label cm/c a=b", "configmap/c not labeled\n"},
		{"label cm/c a=c", "error: 'a' already has a value (b), and --overwrite is false\n"},
		{"label cm/c a=c --overwrite", "configmap/c labeled\n"},
		{"label cm/c x- z-", "label \"z\" not found.\nconfigmap/c unlabeled\n"},
		{"label cm/c --list", "a=c\n"},
		{"annotate cm/c n=m --list", "n=m\n"},
		{"label cm --all --list", " a=c\nListing labels for ConfigMap./c:\nListing labels for ConfigMap./d:\n"},
	} {
		if out, errOut, _ := m.run("", strings.Fields(step.args)...); out+errOut != step.want {
			t.Errorf("kctl %s: %q, want %q", step.args, out+errOut, step.want)
		}
	}
}

// Resources are set in the containers that are named, and 0 removes one.
func TestSetResources(t *testing.T) {
	m := newModel(t)
	m.must("create", "deployment", "web", "--image=team/web:1", "--image=team/log:1")
	m.must("set", "resources", "deploy/web", "--limits=cpu=1,memory=1Gi")
	m.must("set", "resources", "deploy/web", "-c", "log", "--limits=cpu=0", "--requests=cpu=100m")
	if got := m.must("get", "deploy/web", "-o", "jsonpath={.spec.template.spec.containers[*].resources}"); got != `{"limits":{"cpu":"1","memory":"1Gi"}} {"limits":{"memory":"1Gi"},"requests":{"cpu":"100m"}}` {
		t.Errorf("resources %s", got)
	}
	if _, errOut, code := m.run("", "set", "resources", "deploy/web", "-c", "db", "--limits=cpu=1"); code != 1 || !strings.Contains(errOut, `unable to find container named "db"`) {
		t.Errorf("unknown container: %q", errOut)
	}
}

// A request gets the decision once, with --force again; nothing else is taken for a request.
func TestDecided(t *testing.T) {
	u := &unstructured.Unstructured{Object: object("certificates.k8s.io/v1", "CertificateSigningRequest")}
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for i, step := range []struct {
		force, changed bool
	}{{false, true}, {false, false}, {true, true}} {
		if changed, err := decided(u, certificatesv1.CertificateApproved, step.force, now); err != nil || changed != step.changed {
			t.Errorf("step %d: %t, %v", i, changed, err)
		}
	}
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	if len(conditions) != 1 {
		t.Errorf("conditions %v", conditions)
	}
	if _, err := decided(&unstructured.Unstructured{Object: object("v1", "Pod")}, certificatesv1.CertificateDenied, false, now); err == nil {
		t.Error("a pod was denied")
	}
	if u.GroupVersionKind() != certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest") {
		t.Errorf("the request has become %s", u.GroupVersionKind())
	}
}

// What is allowed comes as a row for every resource, verbs of several rules together, and for every path.
func TestAccessRows(t *testing.T) {
	rows := accessRows(authorizationv1.SubjectRulesReviewStatus{
		ResourceRules: []authorizationv1.ResourceRule{
			{Verbs: []string{"get", "list"}, APIGroups: []string{"apps"}, Resources: []string{"deployments"}},
			{Verbs: []string{"get", "delete"}, APIGroups: []string{"", "apps"}, Resources: []string{"deployments"}},
			{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}, ResourceNames: []string{"p"}},
		},
		NonResourceRules: []authorizationv1.NonResourceRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/a", "/b"}}},
	})
	var got []string
	for _, row := range rows {
		got = append(got, strings.Join(row, "\t"))
	}
	want := []string{"deployments\t[]\t[]\t[get delete]", "deployments.apps\t[]\t[]\t[get list delete]", "pods\t[]\t[p]\t[get]", "\t[/a]\t[]\t[get]", "\t[/b]\t[]\t[get]"}
	if !slices.Equal(got, want) {
		t.Errorf("rows %q, want %q", got, want)
	}
}

// An autoscaler's target is a share or a quantity.
func TestMetricTarget(t *testing.T) {
	for text, want := range map[string]string{"50%": "Utilization", "80": "Utilization", "500m": "AverageValue", "200Mi": "AverageValue", "x%": "", "-1": "", "much": ""} {
		got, err := metricTarget(text)
		if (err != nil) != (want == "") || err == nil && got["type"] != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

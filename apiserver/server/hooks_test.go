package server_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/server"
	"bareboat.dev/apiserver/server/servertest"
)

// hookServer answers reviews: by path, and remembers what it was asked.
type hookServer struct {
	*httptest.Server
	ca string

	mu    sync.Mutex
	asked map[string][]admissionv1.AdmissionReview
}

type answer func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse

func newHookServer(t *testing.T, answers map[string]answer) *hookServer {
	t.Helper()
	p := servertest.NewPKI(t)
	h := &hookServer{ca: base64.StdEncoding.EncodeToString(p.CA()), asked: map[string][]admissionv1.AdmissionReview{}}
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || r.URL.Query().Get("timeout") != "5s" {
			http.Error(w, fmt.Sprintf("%v, %s", err, r.URL), http.StatusBadRequest)
			return
		}
		h.mu.Lock()
		h.asked[r.URL.Path] = append(h.asked[r.URL.Path], *review.DeepCopy())
		h.mu.Unlock()
		give, ok := answers[r.URL.Path]
		if !ok {
			http.Error(w, "boom", http.StatusInternalServerError)
			return
		}
		if review.Response = give(review.Request); review.Response != nil {
			review.Response.UID = review.Request.UID
		}
		review.Request = nil
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(&review); err != nil {
			t.Error(err)
		}
	}))
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.TLS = &tls.Config{Certificates: []tls.Certificate{p.Serve(t, "hook")}}
	h.StartTLS()
	t.Cleanup(h.Close)
	return h
}

// reviews returns what was asked at a path, and forgets it.
func (h *hookServer) reviews(path string) []admissionv1.AdmissionReview {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer delete(h.asked, path)
	return h.asked[path]
}

// webhook writes a webhook at a path down; more are further fields.
func (h *hookServer) webhook(path, rule, more string) string {
	name := strings.Trim(path, "/")
	return fmt.Sprintf("- {name: %s.example.com, sideEffects: None, timeoutSeconds: 5, admissionReviewVersions: [v1], clientConfig: {url: %q, caBundle: %s}, rules: [%s]%s}\n",
		name, h.URL+path, h.ca, rule, more)
}

func configuration(kind, name string, webhooks ...string) *write {
	plural := strings.ToLower(kind) + "s"
	return &write{name: name, at: "admissionregistration.k8s.io/v1/" + plural, body: "metadata: {name: " + name + "}\nwebhooks:\n" + strings.Join(webhooks, "")}
}

const mapsRule = "{operations: ['*'], apiGroups: [''], apiVersions: [v1], resources: [configmaps]}"

func allow(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Allowed: true}
}

func patching(patch string) answer {
	return func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		kind := admissionv1.PatchTypeJSONPatch
		return &admissionv1.AdmissionResponse{Allowed: true, Patch: []byte(patch), PatchType: &kind}
	}
}

// Mutating webhooks change objects one after the other and those that wish are asked again; validating ones refuse, warn and note; what
// cannot be asked fails the write unless it is to be ignored. Either door says the same.
func TestWebhooks(t *testing.T) {
	hook := newHookServer(t, map[string]answer{
		"/allow": allow,
		"/deny": func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			if strings.Contains(string(r.Object.Raw), `"bad"`) { // in quotes: a UID may spell it
				return &admissionv1.AdmissionResponse{Result: &metav1.Status{Code: 403, Reason: metav1.StatusReasonForbidden, Message: "no bad maps"}}
			}
			if r.Operation == admissionv1.Delete {
				return allow(r)
			}
			return &admissionv1.AdmissionResponse{Allowed: true, Warnings: []string{"be careful"}, AuditAnnotations: map[string]string{"k": "v"}}
		},
		"/first":     patching(`[{"op":"add","path":"/data","value":{"first":"1"}}]`),
		"/second":    patching(`[{"op":"add","path":"/data/second","value":"2"}]`),
		"/senseless": patching(`[{"op":"remove","path":"/none"}]`),
		"/silent":    func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { return nil },
	})
	const maps = "v1/configmaps@default"
	drop := func(kind, name string) write {
		return write{name: "drop " + name, verb: "delete", at: "admissionregistration.k8s.io/v1/" + strings.ToLower(kind) + "s:" + name}
	}
	const mutating, validating = "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"
	only := func(label string) string { return ", objectSelector: {matchLabels: {only: " + label + "}}" }
	labeled := func(name, label string) string {
		return "metadata: {name: " + name + ", labels: {only: " + label + "}}\ndata: {a: b}\n"
	}
	agree(t, []write{
		*configuration(validating, "v", hook.webhook("/deny", mapsRule, "")),
		{name: "refused", at: maps, body: "metadata: {name: bad}\n", code: 403, refused: `admission webhook "deny.example.com" denied the request: no bad maps`},
		{name: "warned", at: maps, body: "metadata: {name: good}\n", warned: []string{"be careful"}},
		{name: "updated", verb: "patch", at: maps + ":good", body: `{"data":{"x":"bad"}}`, code: 403, refused: "no bad maps"},
		{name: "deleted", verb: "delete", at: maps + ":good"},
		{name: "another kind", at: "v1/secrets@default", body: "metadata: {name: bad}\n"},
		drop(validating, "v"),
		*configuration(mutating, "m", hook.webhook("/first", mapsRule, ", reinvocationPolicy: IfNeeded"), hook.webhook("/second", mapsRule, "")),
		{name: "changed", at: maps, body: "metadata: {name: made}\n", has: []string{`"data":{"first":"1"}`}},
		drop(mutating, "m"),
		*configuration(mutating, "m", hook.webhook("/first", mapsRule, ""), hook.webhook("/second", mapsRule, "")),
		{name: "changed by two", at: maps, body: "metadata: {name: two}\n", has: []string{`"data":{"first":"1","second":"2"}`}},
		{name: "changed in a dry run", at: maps, dryRun: true, body: "metadata: {name: dry}\n", has: []string{`"data":{"first":"1","second":"2"}`}},
		drop(mutating, "m"),
		*configuration(mutating, "bad", hook.webhook("/senseless", mapsRule, only("senseless")), hook.webhook("/silent", mapsRule, only("silent")), hook.webhook("/none", mapsRule, only("none")),
			hook.webhook("/open", mapsRule, only("open")+", failurePolicy: Ignore")),
		{name: "a patch that does not fit", at: maps, body: labeled("x", "senseless"), code: 500, refused: `Internal error occurred: failed calling webhook "senseless.example.com": `},
		{name: "no answer", at: maps, body: labeled("x", "silent"), code: 500, refused: `Internal error occurred: failed calling webhook "silent.example.com": received invalid webhook response: webhook response was absent`},
		{name: "an error", at: maps, body: labeled("x", "none"), code: 500, refused: `Internal error occurred: failed calling webhook "none.example.com": failed to call webhook: an error on the server ("boom") has prevented the request from succeeding`},
		{name: "an error to ignore", at: maps, body: labeled("x", "open")},
		drop(mutating, "bad"),
		*configuration(validating, "cel", hook.webhook("/none", mapsRule, `, matchConditions: [{name: a, expression: "request.userInfo.username != 'kubernetes-admin'"}]`)),
		{name: "not asked about", at: maps, body: "metadata: {name: by-admin}\n"},
		drop(validating, "cel"),
		*configuration(validating, "ns", hook.webhook("/none", mapsRule, ", namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}}")),
		{name: "in another namespace", at: maps, body: "metadata: {name: elsewhere}\n"},
	})
}

// What a webhook is sent is what upstream sends.
func TestWebhookReview(t *testing.T) {
	hook := newHookServer(t, map[string]answer{"/see": allow})
	var registry *prometheus.Registry
	h := start(t, engines()["memory"](t), func(c *server.Config) { registry = c.Metrics })
	u := h.admin()
	// Not every group: the server itself writes some objects while it starts.
	if out := u.viaREST(t, configuration("ValidatingWebhookConfiguration", "v", hook.webhook("/see", "{operations: ['*'], apiGroups: ['', apps], apiVersions: ['*'], resources: ['*/*']}", ""))); out.status.Code != 0 {
		t.Fatal(out.status.Message)
	}
	see := func(w write) *admissionv1.AdmissionRequest {
		t.Helper()
		if out := u.viaREST(t, &w); out.status.Code != 0 {
			t.Fatal(out.status.Message)
		}
		// A write that was decided from a cache that lags behind is decided, and asked about, again.
		seen := hook.reviews("/see")
		if len(seen) == 0 || seen[len(seen)-1].APIVersion != "admission.k8s.io/v1" {
			t.Fatalf("asked %d times: %+v", len(seen), seen)
		}
		return seen[len(seen)-1].Request
	}
	r := see(write{at: "v1/configmaps@default", body: "metadata: {name: m}\n"})
	if r.UID == "" || r.Operation != "CREATE" || r.Kind.Kind != "ConfigMap" || r.Resource.Resource != "configmaps" || r.Namespace != "default" || r.Name != "m" || r.UserInfo.Username != "kubernetes-admin" ||
		len(r.OldObject.Raw) > 0 || !strings.Contains(string(r.Object.Raw), `"kind":"ConfigMap"`) || !strings.Contains(string(r.Options.Raw), `"kind":"CreateOptions"`) || *r.DryRun {
		t.Errorf("creation: %+v", r)
	}
	r = see(write{verb: "patch", at: "v1/configmaps@default:m", body: `{"data":{"a":"b"}}`})
	if r.Operation != "UPDATE" || !strings.Contains(string(r.Object.Raw), `"data":{"a":"b"}`) || strings.Contains(string(r.OldObject.Raw), `"data"`) || !strings.Contains(string(r.Options.Raw), `"kind":"PatchOptions"`) {
		t.Errorf("patch: %+v", r)
	}
	r = see(write{verb: "delete", at: "v1/configmaps@default:m"})
	if r.Operation != "DELETE" || len(r.Object.Raw) > 0 || !strings.Contains(string(r.OldObject.Raw), `"name":"m"`) || !strings.Contains(string(r.Options.Raw), `"kind":"DeleteOptions"`) {
		t.Errorf("deletion: %+v", r)
	}
	r = see(write{at: "apps/v1/deployments@default", body: webYAML})
	r = see(write{verb: "patch", at: "apps/v1/deployments@default:web:scale", body: `{"spec":{"replicas":5}}`})
	if r.SubResource != "scale" || r.Kind.Kind != "Scale" || !strings.Contains(string(r.Object.Raw), `"replicas":5`) || !strings.Contains(string(r.OldObject.Raw), `"replicas":2`) {
		t.Errorf("scale: %+v %s %s", r, r.Object.Raw, r.OldObject.Raw)
	}
	if n, err := testutil.GatherAndCount(registry, "apiserver_admission_webhook_request_total"); err != nil || n != 3 {
		t.Errorf("%d operations counted, %v", n, err)
	}
}

// Mutating webhooks change what is sent to a subresource that has a form of its own, before it takes effect. Either door says the same.
func TestWebhooksChangeSubresources(t *testing.T) {
	hook := newHookServer(t, map[string]answer{
		"/scale": patching(`[{"op":"replace","path":"/spec/replicas","value":4}]`),
		"/bind":  patching(`[{"op":"replace","path":"/target/name","value":"chosen"}]`),
		"/evict": patching(`[{"op":"add","path":"/deleteOptions","value":{"gracePeriodSeconds":0}}]`),
		"/wrong": patching(`[{"op":"replace","path":"/kind","value":"Pod"}]`),
	})
	rule := func(group, resource string) string {
		return "{operations: ['*'], apiGroups: ['" + group + "'], apiVersions: [v1], resources: [" + resource + "]}"
	}
	const pod = "metadata: {name: p}\nspec: {terminationGracePeriodSeconds: 30, containers: [{name: c, image: i}]}\n"
	agree(t, []write{
		{name: "web", at: "apps/v1/deployments@default", body: webYAML},
		{name: "pod", at: "v1/pods@default", body: pod},
		*configuration("MutatingWebhookConfiguration", "all", hook.webhook("/scale", rule("apps", "deployments/scale"), ""), hook.webhook("/bind", rule("", "pods/binding"), ""),
			hook.webhook("/evict", rule("", "pods/eviction"), ""), hook.webhook("/wrong", rule("apps", "replicasets/scale"), "")),
		{name: "scaled", verb: "patch", at: "apps/v1/deployments@default:web:scale", body: `{"spec":{"replicas":5}}`, has: []string{`"replicas":4`}},
		{name: "kept", verb: "patch", at: "apps/v1/deployments@default:web", body: `{"metadata":{"labels":{"x":"y"}}}`, has: []string{`"replicas":4`, `"generation":2`}},
		{name: "bound", at: "v1/pods@default:p:binding", body: "metadata: {name: p}\ntarget: {kind: Node, name: asked}\n"},
		{name: "elsewhere", verb: "patch", at: "v1/pods@default:p", body: `{"metadata":{"labels":{"x":"y"}}}`, has: []string{`"nodeName":"chosen"`}},
		{name: "evicted at once", at: "v1/pods@default:p:eviction", body: "apiVersion: policy/v1\nkind: Eviction\nmetadata: {name: p}\n"},
		{name: "again", at: "v1/pods@default", body: pod},
		{name: "set", at: "apps/v1/replicasets@default", body: "metadata: {name: r}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}\n"},
		{name: "another kind", verb: "patch", at: "apps/v1/replicasets@default:r:scale", body: `{"spec":{"replicas":2}}`, code: 500, refused: "the patch makes autoscaling/v1, Kind=Pod of autoscaling/v1, Kind=Scale"},
	})
}

package server_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// Streams into pods and requests that are passed on must pass webhooks and policies, by either door; both are told the options.
func TestConnectIsAdmitted(t *testing.T) {
	hook := newHookServer(t, map[string]answer{"/see": func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Allowed: r.SubResource != "attach", Result: &metav1.Status{Code: 403, Message: "no attaching"}}
	}})
	h, plain, _ := withBackends(t)
	u := h.admin()
	put := func(w write) {
		t.Helper()
		if out := u.viaREST(t, &w); out.status.Code != 0 {
			t.Fatal(out.status.Message)
		}
	}
	const rule = "{operations: [CONNECT], apiGroups: [''], apiVersions: [v1], resources: [pods/*, services/*, nodes/*]}"
	put(*configuration("ValidatingWebhookConfiguration", "v", hook.webhook("/see", rule, "")))
	put(write{at: policyAPI + "validatingadmissionpolicies", body: "metadata: {name: shell}\nspec:\n  matchConstraints: {resourceRules: [" + rule + "]}\n" +
		"  validations: [{expression: \"!(has(object.command) && 'sh' in object.command || has(object.path) && object.path == '/secret')\", message: no shells}]\n"})
	put(bind("shell", ""))

	seen := func() *admissionv1.AdmissionRequest {
		t.Helper()
		all := hook.reviews("/see")
		if len(all) != 1 {
			t.Fatalf("asked %d times", len(all))
		}
		return all[0].Request
	}
	ask := func(method, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "https://"+h.address+path, nil)
		check(t, err)
		resp, err := u.http.Do(req)
		check(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		check(t, err)
		return resp.StatusCode, string(body)
	}
	exec := func(start *nodev1.ExecRequest_Start) error {
		s, err := nodev1.NewNodeServiceClient(u.conn).Exec(t.Context())
		check(t, err)
		check(t, s.Send(&nodev1.ExecRequest{Request: &nodev1.ExecRequest_Start_{Start: start}}))
		for err == nil {
			_, err = s.Recv()
		}
		return err
	}
	at := &nodev1.ContainerRef{Namespace: "default", Pod: "p"}

	if code, body := ask("GET", "/api/v1/namespaces/default/pods/p/attach?stdin=true"); code != 403 || !strings.Contains(body, `admission webhook \"see.example.com\" denied the request: no attaching`) {
		t.Errorf("attach: %d %s", code, body)
	}
	if r := seen(); r.Operation != "CONNECT" || r.Kind.Kind != "PodAttachOptions" || r.Resource.Resource != "pods" || r.SubResource != "attach" || r.Name != "p" || r.Namespace != "default" ||
		string(r.Object.Raw) != `{"kind":"PodAttachOptions","apiVersion":"v1","stdin":true}` || len(r.OldObject.Raw)+len(r.Options.Raw) > 0 {
		t.Errorf("reviewed %+v %s", r, r.Object.Raw)
	}
	if code, body := ask("GET", "/api/v1/namespaces/default/pods/p/exec?command=sh&stdout=true"); code != 422 || !strings.Contains(body, "no shells") {
		t.Errorf("exec: %d %s", code, body)
	}
	hook.reviews("/see")
	if err := exec(&nodev1.ExecRequest_Start{Ref: at, Command: []string{"sh"}}); err == nil || !strings.Contains(err.Error(), "no shells") {
		t.Errorf("exec by gRPC: %v", err)
	}
	hook.reviews("/see")
	if err := exec(&nodev1.ExecRequest_Start{Ref: at, Command: []string{"true"}}); err != io.EOF {
		t.Errorf("exec by gRPC: %v", err)
	}
	if r := seen(); string(r.Object.Raw) != `{"kind":"PodExecOptions","apiVersion":"v1","stdout":true,"stderr":true,"command":["true"]}` {
		t.Errorf("reviewed %s", r.Object.Raw)
	}
	if code, body := ask("GET", "/api/v1/namespaces/default/services/web:80/proxy/secret"); code != 422 || !strings.Contains(body, "no shells") {
		t.Errorf("proxy: %d %s", code, body)
	}
	hook.reviews("/see")
	if code, body := ask("POST", "/api/v1/namespaces/default/pods/p:"+plain+"/proxy/open?a=b"); code != 200 || !strings.Contains(body, "POST /open?a=b") {
		t.Errorf("proxy: %d %s", code, body)
	}
	if r := seen(); r.Kind.Kind != "PodProxyOptions" || r.Name != "p:"+plain || string(r.Object.Raw) != `{"kind":"PodProxyOptions","apiVersion":"v1","path":"/open"}` {
		t.Errorf("reviewed %+v %s", r, r.Object.Raw)
	}
	if _, err := nodev1.NewNodeServiceClient(u.conn).ListImages(t.Context(), &nodev1.ListImagesRequest{Node: "n1"}); err == nil || !strings.Contains(err.Error(), "ListImages") {
		t.Errorf("images: %v", err) // the test's kubelet has none
	}
	if r := seen(); r.Kind.Kind != "NodeProxyOptions" || !strings.Contains(string(r.Object.Raw), "NodeService/ListImages") {
		t.Errorf("reviewed %+v %s", r, r.Object.Raw)
	}
}

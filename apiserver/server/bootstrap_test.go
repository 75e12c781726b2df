package server_test

import (
	"net/http"
	"strings"
	"testing"
)

// A new cluster has what clients take for granted: where its API server is, in both forms, and which addresses Services get.
func TestEveryClusterHas(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	for path, want := range map[string]string{
		"/api/v1/namespaces/default/endpoints/kubernetes":                        `"subsets":[{"addresses":[{"ip":"192.0.2.1"}],"ports":[{"name":"https","port":6443,"protocol":"TCP"}]}]`,
		"/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes": `"addresses":["192.0.2.1"]`,
		"/apis/networking.k8s.io/v1/servicecidrs/kubernetes":                     `"spec":{"cidrs":["10.96.0.0/16"]},"status":{"conditions":[{"type":"Ready","status":"True"`,
		"/api/v1/namespaces/default/services/kubernetes":                         `"clusterIP":"10.96.0.1"`,
		"/apis/networking.k8s.io/v1/ipaddresses/10.96.0.1":                       `"parentRef":{"resource":"services","namespace":"default","name":"kubernetes"}`,
		"/apis/scheduling.k8s.io/v1/priorityclasses/system-cluster-critical":     `"value":2000000000`,
		"/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin":          `"resources":["*"]`,
		"/api/v1/namespaces/kube-node-lease":                                     `"phase":"Active"`,
	} {
		if got := string(u.get(t, path, "application/json")); !strings.Contains(got, want) {
			t.Errorf("%s: %s; want %s in it", path, got, want)
		}
	}
}

// A patched status is defaulted as any other body is: an address of a load balancer is a virtual one unless it says otherwise.
func TestPatchedStatusIsDefaulted(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	const services = "/api/v1/namespaces/default/services"
	if code, _, b := u.rest(t, http.MethodPost, services, jsonType, `{"metadata":{"name":"lb"},"spec":{"type":"LoadBalancer","ports":[{"port":80}]}}`); code != http.StatusCreated {
		t.Fatalf("%d %s", code, b)
	}
	code, _, b := u.rest(t, http.MethodPatch, services+"/lb/status", "application/merge-patch+json", `{"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.1"}]}}}`)
	if code != http.StatusOK || !strings.Contains(string(b), `{"ip":"203.0.113.1","ipMode":"VIP"}`) {
		t.Errorf("%d %s", code, b)
	}
}

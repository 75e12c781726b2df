package server_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	networking  = "/apis/networking.k8s.io/v1/"
	services    = "/api/v1/namespaces/default/services"
	ipAddresses = networking + "ipaddresses"
)

// A Service's address can be seen as an IPAddress as long as the Service has it, and from one commit on.
func TestIPAddresses(t *testing.T) {
	u := start(t, engines()["sqlite"](t)).admin()
	u.must(t, http.MethodPost, services, `{"metadata":{"name":"a"},"spec":{"clusterIP":"10.96.0.50","ports":[{"port":80}]}}`, http.StatusCreated)
	var service metav1.PartialObjectMetadata
	check(t, json.Unmarshal(u.get(t, services+"/a", "application/json"), &service))
	var ip networkingv1.IPAddress
	check(t, json.Unmarshal(u.get(t, ipAddresses+"/10.96.0.50", "application/json"), &ip))
	if p := ip.Spec.ParentRef; p == nil || *p != (networkingv1.ParentReference{Resource: "services", Namespace: "default", Name: "a"}) {
		t.Errorf("got %v", p)
	}
	if ip.ResourceVersion != service.ResourceVersion || ip.UID == "" || ip.CreationTimestamp.IsZero() {
		t.Errorf("got %v, the service is of revision %s", ip.ObjectMeta, service.ResourceVersion)
	}
	want := map[string]string{"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
	for label, value := range want {
		if ip.Labels[label] != value {
			t.Errorf("label %s: got %q, want %q", label, ip.Labels[label], value)
		}
	}
	u.must(t, http.MethodPatch, services+"/a", `{"spec":{"type":"ExternalName","externalName":"a.example","clusterIP":null,"clusterIPs":null,"ports":null}}`, http.StatusOK)
	u.must(t, http.MethodGet, ipAddresses+"/10.96.0.50", "", http.StatusNotFound)
	u.must(t, http.MethodPatch, services+"/a", `{"spec":{"type":"ClusterIP","externalName":null,"clusterIP":"10.96.0.51","ports":[{"port":80}]}}`, http.StatusOK)
	u.must(t, http.MethodGet, ipAddresses+"/10.96.0.51", "", http.StatusOK)
	u.must(t, http.MethodDelete, services+"/a", "", http.StatusOK)
	u.must(t, http.MethodGet, ipAddresses+"/10.96.0.51", "", http.StatusNotFound)
}

// An address that somebody else holds is nobody's to take, named or chosen, until it is given back.
func TestForeignIPAddress(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	held := `{"metadata":{"name":"10.96.0.60"},"spec":{"parentRef":{"group":"example.com","resource":"gateways","name":"g"}}}`
	u.must(t, http.MethodPost, ipAddresses, held, http.StatusCreated)
	wanted := `{"metadata":{"name":"a"},"spec":{"clusterIP":"10.96.0.60","ports":[{"port":80}]}}`
	if got := u.must(t, http.MethodPost, services, wanted, http.StatusUnprocessableEntity); !strings.Contains(got, "provided IP is already allocated") {
		t.Errorf("got %s", got)
	}
	u.must(t, http.MethodDelete, ipAddresses+"/10.96.0.60", "", http.StatusOK)
	u.must(t, http.MethodPost, services, wanted, http.StatusCreated)
	u.must(t, http.MethodPost, ipAddresses, held, http.StatusConflict)
}

// Services get addresses from every ServiceCIDR that is ready, and from none that goes.
func TestServiceCIDRs(t *testing.T) {
	u := start(t, engines()["memory"](t)).admin()
	inside := func(name string) string {
		return `{"metadata":{"name":"` + name + `"},"spec":{"clusterIP":"10.9.0.7","ports":[{"port":80}]}}`
	}
	if got := u.must(t, http.MethodPost, services, inside("a"), http.StatusUnprocessableEntity); !strings.Contains(got, "the provided network does not match the current range") {
		t.Errorf("got %s", got)
	}
	u.must(t, http.MethodPost, networking+"servicecidrs", `{"metadata":{"name":"more"},"spec":{"cidrs":["10.9.0.0/28"]}}`, http.StatusCreated)
	u.awaitCIDR(t, "more", metav1.ConditionTrue)
	u.must(t, http.MethodPost, services, inside("a"), http.StatusCreated)
	u.must(t, http.MethodDelete, networking+"servicecidrs/more", "", http.StatusOK)
	c := u.awaitCIDR(t, "more", metav1.ConditionFalse)
	if len(c.Finalizers) != 1 || c.Status.Conditions[0].Reason != networkingv1.ServiceCIDRReasonTerminating {
		t.Errorf("got %v", c)
	}
	u.must(t, http.MethodDelete, services+"/a", "", http.StatusOK)
	u.must(t, http.MethodPost, services, inside("b"), http.StatusUnprocessableEntity)
}

// must asks, and returns the answer's body.
func (u *user) must(t *testing.T, method, path, body string, want int) string {
	t.Helper()
	contentType := jsonType
	if method == http.MethodPatch {
		contentType = "application/merge-patch+json"
	}
	code, _, b := u.rest(t, method, path, contentType, body)
	if code != want {
		t.Fatalf("%s %s %s: got %d %s, want %d", method, path, body, code, b, want)
	}
	return string(b)
}

// awaitCIDR watches a ServiceCIDR until its Ready condition is as wanted.
func (u *user) awaitCIDR(t *testing.T, name string, ready metav1.ConditionStatus) *networkingv1.ServiceCIDR {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u.base+networking+"servicecidrs?watch=true&fieldSelector=metadata.name="+name, nil)
	check(t, err)
	resp, err := u.http.Do(q)
	check(t, err)
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		var event struct{ Object networkingv1.ServiceCIDR }
		check(t, json.Unmarshal(lines.Bytes(), &event))
		for _, c := range event.Object.Status.Conditions {
			if c.Type == networkingv1.ServiceCIDRConditionReady && c.Status == ready {
				return &event.Object
			}
		}
	}
	t.Fatalf("the watch ended before %s was ready: %s", name, ready)
	return nil
}

package networking_test

import (
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	"bareboat.dev/apiserver/registry/kindtest"
	"bareboat.dev/apiserver/registry/networking"
)

const ingress = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i}
spec:
  rules: [{host: a.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: s, port: {number: 80}}}}]}}]
`

// onePath is the ingress with one path in place of its own.
func onePath(path string) string {
	return "spec: {rules: [{http: {paths: [" + path + "]}}]}"
}

// Ingresses that kube-apiserver accepts and refuses, and why.
func TestIngress(t *testing.T) {
	r := kindtest.Kind(t, networking.Resources(), "Ingress")
	const at, backend = "spec.rules[0].http.paths[0]", "backend: {service: {name: s, port: {name: http}}}"
	kindtest.Create(t, r, ingress, []kindtest.Case{
		{Name: "minimal"},
		{Name: "default backend", Edit: "spec: {rules: null, defaultBackend: {resource: {apiGroup: a.b, kind: Bucket, name: b}}}"},
		{Name: "wildcard", Edit: "spec: {rules: [{host: '*.example.com'}], tls: [{hosts: ['*.example.com', a.b], secretName: s}]}"},
		{Name: "as the controller likes", Edit: onePath("{pathType: ImplementationSpecific, " + backend + "}")},
		{Name: "nothing", Edit: "spec: {rules: null}", Want: []string{
			"spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"}},
		{Name: "hosts", Edit: "spec: {rules: [{host: 1.2.3.4}, {host: A.b}, {host: 'a.*.b'}]}", Want: []string{
			`spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address`,
			`spec.rules[1].host: Invalid value: "A.b": a lowercase RFC 1123 subdomain…`,
			`spec.rules[2].host: Invalid value: "a.*.b": a wildcard DNS-1123 subdomain must start with '*.'…`}},
		{Name: "no paths", Edit: onePath(""), Want: []string{"spec.rules[0].http.paths: Required value"}},
		{Name: "no path type", Edit: onePath("{path: /, " + backend + "}"), Want: []string{
			at + ".pathType: Required value: pathType must be specified"}},
		{Name: "path type", Edit: onePath("{path: /, pathType: Regex, " + backend + "}"), Want: []string{
			at + `.pathType: Unsupported value: "Regex": supported values: "Exact", "ImplementationSpecific", "Prefix"`}},
		{Name: "relative", Edit: onePath("{path: a, pathType: Exact, " + backend + "}"), Want: []string{
			at + `.path: Invalid value: "a": must be an absolute path`}},
		{Name: "odd path", Edit: onePath("{path: /a//b/., pathType: Prefix, " + backend + "}"), Want: []string{
			at + `.path: Invalid value: "/a//b/.": must not contain '//'`,
			at + `.path: Invalid value: "/a//b/.": cannot end with '/.'`}},
		{Name: "no backend", Edit: onePath("{path: /, pathType: Exact, backend: {}}"), Want: []string{
			at + `.backend: Invalid value: "": resource or service backend is required`}},
		{Name: "both", Edit: onePath("{path: /, pathType: Exact, backend: {resource: {kind: K, name: nn}, service: {name: s}}}"), Want: []string{
			at + `.backend: Invalid value: "": cannot set both resource and service backends`}},
		{Name: "service", Edit: onePath("{path: /, pathType: Exact, backend: {service: {name: ''}}}"), Want: []string{
			at + ".backend.service.name: Required value",
			at + ".backend: Required value: port name or number is required"}},
		{Name: "port", Edit: onePath("{path: /, pathType: Exact, backend: {service: {name: s, port: {number: 1, name: a}}}}"), Want: []string{
			at + `.backend: Invalid value: "": cannot set both port name & port number`}},
		{Name: "resource", Edit: onePath("{path: /, pathType: Exact, backend: {resource: {kind: '', name: a/b}}}"), Want: []string{
			at + ".backend.resource.kind: Required value: kind is required",
			at + `.backend.resource.name: Invalid value: "a/b": may not contain '/'`}},
		{Name: "class", Edit: "{metadata: {annotations: {kubernetes.io/ingress.class: a}}, spec: {ingressClassName: b}}", Want: []string{
			"annotations.kubernetes.io/ingress.class: Invalid value: \"a\": must match `ingressClassName` when both are specified"}},
	})
	kindtest.Update(t, r, ingress, []kindtest.Case{
		{Name: "everything may change", Edit: "spec: {ingressClassName: c, rules: null, defaultBackend: {service: {name: s, port: {number: 1}}}}"},
	})
}

// Hosts are named up to three; a status holds addresses or names.
func TestIngressStatus(t *testing.T) {
	r := kindtest.Kind(t, networking.Resources(), "Ingress")
	obj, errs := kindtest.New(t, r, kindtest.Edit(t, ingress, "spec: {rules: [{host: a.b}, {host: b.b}, {host: c.b}, {host: d.b}], tls: [{}]}"))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	in := obj.(*networkingv1.Ingress)
	in.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "10.0.0.2"}, {Hostname: "lb"}, {IP: "10.0.0.1"}}
	var cells []string
	for _, c := range r.Columns[:5] {
		cells = append(cells, c.Cell(in, time.Time{}))
	}
	if got, want := strings.Join(cells, "|"), "i|<none>|a.b,b.b,c.b + 1 more...|10.0.0.1,10.0.0.2,lb|80, 443"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	in.Status.LoadBalancer.Ingress[1].Hostname = "1.2.3.4"
	if errs := r.Subresources["status"].Validate(in, obj); len(errs) != 1 || errs[0].Detail != "must be a DNS name, not an IP address" {
		t.Errorf("got %v", errs)
	}
}

// Classes that kube-apiserver accepts and refuses, and why.
func TestIngressClass(t *testing.T) {
	r := kindtest.Kind(t, networking.Resources(), "IngressClass")
	const base = "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: c}\nspec: {controller: example.com/c}\n"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "cluster's parameters", Edit: "spec: {parameters: {kind: K, name: nn}}"},
		{Name: "namespace's parameters", Edit: "spec: {parameters: {kind: K, name: nn, scope: Namespace, namespace: ns}}"},
		{Name: "no controller", Edit: "spec: {controller: null}", Want: []string{"spec.controller: Required value"}},
		{Name: "no domain", Edit: "spec: {controller: c}", Want: []string{
			`spec.controller: Invalid value: "c": must be a domain-prefixed path (such as "acme.io/foo")`}},
		{Name: "scope", Edit: "spec: {parameters: {kind: K, name: nn, scope: World}}", Want: []string{
			`spec.parameters.scope: Unsupported value: "World": supported values: "Cluster", "Namespace"`}},
		{Name: "no namespace", Edit: "spec: {parameters: {kind: K, name: nn, scope: Namespace}}", Want: []string{
			"spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"}},
		{Name: "needless namespace", Edit: "spec: {parameters: {kind: K, name: nn, namespace: ns}}", Want: []string{
			"spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{
		{Name: "parameters", Edit: "spec: {parameters: {kind: K, name: nn}}"},
		{Name: "controller", Edit: "spec: {controller: example.com/d}", Want: []string{
			`spec.controller: Invalid value: "example.com/d": field is immutable`}},
	})
}

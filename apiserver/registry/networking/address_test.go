package networking_test

import (
	"testing"
	"time"

	"bareboat.dev/apiserver/registry/kindtest"
	"bareboat.dev/apiserver/registry/networking"
)

// Addresses that kube-apiserver accepts and refuses, and why.
func TestIPAddress(t *testing.T) {
	r := kindtest.Kind(t, networking.Resources(), "IPAddress")
	const base = "apiVersion: networking.k8s.io/v1\nkind: IPAddress\nmetadata: {name: 10.96.0.1}\nspec: {parentRef: {resource: services, namespace: default, name: s}}\n"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "IPv6", Edit: "metadata: {name: '2001:db8::1'}"},
		{Name: "name", Edit: "metadata: {name: host}", Want: []string{
			`metadata.name: Invalid value: "host": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`}},
		{Name: "form", Edit: "metadata: {name: '2001:DB8::1'}", Want: []string{`metadata.name: Invalid value: "2001:DB8::1": must be in canonical form…`}},
		{Name: "no parent", Edit: "spec: {parentRef: null}", Want: []string{"spec.parentRef: Required value"}},
		{Name: "parent", Edit: "spec: {parentRef: {group: A_b, resource: '', namespace: a/b, name: ''}}", Want: []string{
			`spec.parentRef.group: Invalid value: "A_b": a lowercase RFC 1123 subdomain…`, "spec.parentRef.resource: Required value",
			"spec.parentRef.name: Required value", `spec.parentRef.namespace: Invalid value: "a/b": may not contain '/'`}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{
		{Name: "labels", Edit: "metadata: {labels: {a: b}}"},
		{Name: "parent", Edit: "spec: {parentRef: {name: other}}", Want: []string{"spec.parentRef: Invalid value: {…"}},
	})
	obj, _ := kindtest.New(t, r, base)
	if got := r.Columns[1].Cell(obj, time.Time{}); got != "services/default/s" {
		t.Errorf("parent: %q", got)
	}
}

// Networks that kube-apiserver accepts and refuses, and why.
func TestServiceCIDR(t *testing.T) {
	r := kindtest.Kind(t, networking.Resources(), "ServiceCIDR")
	const base = "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: c}\nspec: {cidrs: [10.0.0.0/16]}\n"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "both families", Edit: "spec: {cidrs: [10.0.0.0/16, '2001:db8::/112']}"},
		{Name: "none", Edit: "spec: {cidrs: []}", Want: []string{"spec.cidrs: Required value: at least one CIDR required"}},
		{Name: "one family twice", Edit: "spec: {cidrs: [10.0.0.0/16, 10.1.0.0/16]}", Want: []string{
			`spec.cidrs: Invalid value: ["10.0.0.0/16","10.1.0.0/16"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96`}},
		{Name: "three", Edit: "spec: {cidrs: [10.0.0.0/16, '2001:db8::/112', 10.1.0.0/16]}", Want: []string{
			`spec.cidrs: Invalid value: ["10.0.0.0/16","2001:db8::/112","10.1.0.0/16"]: may only hold up to 2 values`}},
		{Name: "host bits", Edit: "spec: {cidrs: [10.0.0.1/16]}", Want: []string{`spec.cidrs[0]: Invalid value: "10.0.0.1/16": must not have bits set beyond the prefix length`}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{
		{Name: "second family", Edit: "spec: {cidrs: [10.0.0.0/16, '2001:db8::/112']}"},
		{Name: "another", Edit: "spec: {cidrs: [10.1.0.0/16]}", Want: []string{`spec.cidrs[0]: Invalid value: "10.1.0.0/16": field is immutable`}},
		{Name: "one less", Old: "spec: {cidrs: [10.0.0.0/16, '2001:db8::/112']}", Edit: "spec: {cidrs: [10.0.0.0/16]}", Want: []string{
			`spec.cidrs: Invalid value: ["10.0.0.0/16"]: field is immutable`}},
	})
}

package discovery_test

import (
	"testing"
	"time"

	"bareboat.dev/apiserver/registry/discovery"
	"bareboat.dev/apiserver/registry/kindtest"
)

// Endpoint slices that kube-apiserver accepts and refuses, and how they are printed.
func TestEndpointSlice(t *testing.T) {
	r := kindtest.Kind(t, discovery.Resources(), "EndpointSlice")
	const base = `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1]}]
ports: [{port: 80}]
`
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "type", Edit: "addressType: null", Want: []string{"addressType: Required value"}},
		{Name: "other type", Edit: "addressType: MAC", Want: []string{
			`addressType: Unsupported value: "MAC": supported values: "FQDN", "IPv4", "IPv6"`}},
		{Name: "addresses", Edit: "endpoints: [{addresses: []}, {addresses: ['::2', 127.0.0.1, x]}]", Want: []string{
			"endpoints[0].addresses: Required value: must contain at least 1 address",
			`endpoints[1].addresses: Invalid value: "::2": must be an IPv4 address`,
			`endpoints[1].addresses[1]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)`,
			`endpoints[1].addresses[2]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`}},
		{Name: "names", Edit: "addressType: FQDN\nendpoints: [{addresses: [A.b], hostname: h.x, nodeName: N1}]", Want: []string{
			`endpoints[0].addresses[0]: Invalid value: "A.b": …`, `endpoints[0].nodeName: Invalid value: "N1": …`,
			`endpoints[0].hostname: Invalid value: "h.x": …`}},
		{Name: "v1 drops topology", Edit: "endpoints: [{addresses: [10.0.0.1], deprecatedTopology: {'a b': '-'}}]"},
		{Name: "ports", Edit: "ports: [{port: 0, name: a}, {name: a, protocol: X}]", Want: []string{`ports[1].name: Duplicate value: "a"`,
			`ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"`}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{
		{Name: "endpoints", Edit: "endpoints: [{addresses: [10.0.0.2]}]"},
		{Name: "type", Edit: "addressType: FQDN\nendpoints: [{addresses: [a.b]}]", Want: []string{`addressType: Invalid value: "FQDN": field is immutable`}},
	})
	obj, _ := kindtest.New(t, r, kindtest.Edit(t, base, "endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}, {addresses: [10.0.0.3]}, {addresses: [10.0.0.4]}]"))
	if got := r.Columns[2].Cell(obj, time.Time{}) + " " + r.Columns[3].Cell(obj, time.Time{}); got != "80 10.0.0.1,10.0.0.2,10.0.0.3 + 1 more..." {
		t.Error(got)
	}
}

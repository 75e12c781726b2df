package core_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/kindtest"
)

const service = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: a}, ports: [{port: 80}]}
`

// Services that kube-apiserver accepts and refuses, and why.
func TestServiceCreate(t *testing.T) {
	kindtest.Create(t, kindOf(t, "Service"), service, []kindtest.Case{
		{Name: "minimal"},
		{Name: "headless", Edit: "spec: {clusterIP: None, ports: null}"},
		{Name: "headless without selector", Edit: "spec: {clusterIP: None, selector: null}"},
		{Name: "external name", Edit: "spec: {type: ExternalName, externalName: example.com., ports: null}"},
		{Name: "fixed address", Edit: "spec: {clusterIP: 10.96.0.10}"},
		{Name: "node port", Edit: "spec: {type: NodePort, ports: [{port: 80, nodePort: 30080}]}"},
		{Name: "load balancer", Edit: "spec: {type: LoadBalancer, externalTrafficPolicy: Local, loadBalancerSourceRanges: [' 10.0.0.0/8 ']}"},
		{Name: "no ports", Edit: "spec: {ports: null}", Want: []string{"spec.ports: Required value"}},
		{Name: "names", Edit: "spec: {ports: [{port: 80}, {port: 81, name: a_b}, {port: 82, name: x}, {port: 83, name: x}]}", Want: []string{
			"spec.ports[0].name: Required value",
			`spec.ports[1].name: Invalid value: "a_b": ` + label,
			`spec.ports[3].name: Duplicate value: "x"`}},
		{Name: "ports", Edit: "spec: {ports: [{port: 0, name: a, protocol: HTTP, targetPort: 99999}, {port: 80, name: b}, {port: 80, name: c}]}", Want: []string{
			"spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
			`spec.ports[0].protocol: Unsupported value: "HTTP": supported values: "SCTP", "TCP", "UDP"`,
			"spec.ports[0].targetPort: Invalid value: 99999: must be between 1 and 65535, inclusive",
			`spec.ports[2]: Duplicate value: {"protocol":"TCP","port":80,"targetPort":0}`}},
		{Name: "type", Edit: "spec: {type: Magic}", Want: []string{
			`spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"`}},
		{Name: "node port of a cluster IP", Edit: "spec: {ports: [{port: 80, nodePort: 30080}]}", Want: []string{
			"spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"}},
		{Name: "node port out of range", Edit: "spec: {type: NodePort, ports: [{port: 80, nodePort: 80}]}", Want: []string{
			"spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"}},
		{Name: "headless node port", Edit: "spec: {type: NodePort, clusterIP: None}", Want: []string{
			`spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services`}},
		{Name: "external name with address", Edit: "spec: {type: ExternalName, clusterIP: 10.96.0.9}", Want: []string{
			"spec.clusterIPs: Forbidden: may not be set for ExternalName services", "spec.externalName: Required value"}},
		{Name: "address out of range", Edit: "spec: {clusterIP: 10.97.0.1}", Want: []string{
			`spec.clusterIPs: Invalid value: ["10.97.0.1"]: failed to allocate IP 10.97.0.1: the provided network does not match the current range`}},
		{Name: "not an address", Edit: "spec: {clusterIP: x}", Want: []string{
			`spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`}},
		{Name: "addresses at odds", Edit: "spec: {clusterIP: 10.96.0.9, clusterIPs: [10.96.0.8]}", Want: []string{
			"spec.clusterIPs: Invalid value: [\"10.96.0.8\"]: first value must match `clusterIP`"}},
		{Name: "dual stack", Edit: "spec: {ipFamilyPolicy: RequireDualStack}", Want: []string{
			`spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services`}},
		{Name: "family", Edit: "spec: {ipFamilies: [IPv6]}", Want: []string{
			`spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster`}},
		{Name: "affinity", Edit: "spec: {sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}}", Want: []string{
			"spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400"}},
		{Name: "external IPs", Edit: "spec: {externalIPs: [127.0.0.1, 1.2.3.4, x]}", Want: []string{
			`spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)`,
			`spec.externalIPs[2]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`}},
		{Name: "balancer's fields", Edit: "spec: {loadBalancerClass: a/b, allocateLoadBalancerNodePorts: true, loadBalancerSourceRanges: [10.0.0.0/8], externalTrafficPolicy: Local, healthCheckNodePort: 30000}", Want: []string{
			"spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
			"spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
			"spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
			"spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
			"spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"}},
		{Name: "traffic", Edit: "spec: {internalTrafficPolicy: Nearby, trafficDistribution: Far}", Want: []string{
			`spec.internalTrafficPolicy: Unsupported value: "Nearby": supported values: "Cluster", "Local"`,
			`spec.trafficDistribution: Unsupported value: "Far": supported values: "PreferClose", "PreferSameZone", "PreferSameNode"`}},
	})
}

// What of a service may change, and what is kept when a client leaves it out.
func TestServiceUpdate(t *testing.T) {
	r := kindOf(t, "Service")
	kindtest.Update(t, r, service, []kindtest.Case{
		{Name: "left out", Edit: "metadata: {labels: {x: z}}"},
		{Name: "address", Old: "spec: {clusterIP: 10.96.0.9}", Edit: "spec: {clusterIP: 10.96.0.10}", Want: []string{
			`spec.clusterIPs[0]: Invalid value: ["10.96.0.10"]: may not change once set`}},
		{Name: "to node port", Edit: "spec: {type: NodePort}"},
		{Name: "to external name", Edit: "spec: {type: ExternalName, externalName: example.com}"},
		{Name: "from external name", Old: "spec: {type: ExternalName, externalName: example.com}", Edit: "spec: {type: ClusterIP}"},
		{Name: "class", Old: "spec: {type: LoadBalancer, loadBalancerClass: a/b}", Edit: "spec: {loadBalancerClass: a/c}", Want: []string{
			`spec.loadBalancerClass: Invalid value: "a/c": may not change once set`}},
		{Name: "from load balancer", Old: "spec: {type: LoadBalancer, externalTrafficPolicy: Local, loadBalancerClass: a/b}",
			Edit: "spec: {type: ClusterIP, allocateLoadBalancerNodePorts: null, loadBalancerClass: null, externalTrafficPolicy: ''}"},
	})
	old, _ := kindtest.New(t, r, kindtest.Edit(t, service, "spec: {type: LoadBalancer, externalTrafficPolicy: Local}"))
	was := old.(*corev1.Service)
	obj := kindtest.Decode(t, r, kindtest.Edit(t, service, "spec: {type: LoadBalancer, externalTrafficPolicy: Local}"))
	if errs := kindtest.Change(r, obj, old); len(errs) > 0 {
		t.Fatal(errs)
	}
	s := obj.(*corev1.Service)
	if s.Spec.ClusterIP != was.Spec.ClusterIP || s.Spec.Ports[0].NodePort != was.Spec.Ports[0].NodePort || s.Spec.Ports[0].NodePort == 0 ||
		s.Spec.HealthCheckNodePort != was.Spec.HealthCheckNodePort || s.Spec.HealthCheckNodePort == 0 {
		t.Errorf("%+v was %+v", s.Spec, was.Spec)
	}
}

// Addresses and ports are chosen from the upper part of their ranges, never twice, and claimed.
func TestServiceAllocate(t *testing.T) {
	r := kindtest.Kind(t, core.Resources(core.Config{
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/28"), netip.MustParsePrefix("fd00::/108")},
		NodePorts:    core.PortRange{First: 30000, Last: 30001},
	}), "Service")
	make := func(edit string, held map[string]bool) (*corev1.Service, []string, error) {
		obj := kindtest.Decode(t, r, kindtest.Edit(t, service, edit))
		r.Strategy.Default(obj)
		r.Strategy.PrepareCreate(obj)
		errs := r.Strategy.Allocate(obj, nil, &kindtest.Picker{Held: held})
		var keys []string
		for _, c := range r.Strategy.Claims(obj) {
			keys = append(keys, c.Key)
		}
		return obj.(*corev1.Service), keys, errs.ToAggregate()
	}
	held := map[string]bool{}
	for i := range 14 { // 16 addresses less the network's and the broadcast one
		s, keys, err := make("", held)
		if err != nil || len(keys) != 1 || held[keys[0]] {
			t.Fatalf("%d: %v %v", i, keys, err)
		}
		if ip := netip.MustParseAddr(s.Spec.ClusterIP); !netip.MustParsePrefix("10.0.0.0/28").Contains(ip) {
			t.Error(ip)
		}
		held[keys[0]] = true
	}
	if _, _, err := make("", held); err == nil || !strings.Contains(err.Error(), "range is full") {
		t.Errorf("a full range: %v", err)
	}
	s, keys, err := make("spec: {ipFamilyPolicy: PreferDualStack, type: NodePort, ports: [{port: 53, name: a, protocol: UDP}, {port: 53, name: b}, {port: 80, name: c}]}", nil)
	if err != nil || len(s.Spec.ClusterIPs) != 2 || fmt.Sprint(s.Spec.IPFamilies) != "[IPv4 IPv6]" {
		t.Fatalf("%v %+v", err, s.Spec)
	}
	if s.Spec.Ports[0].NodePort != s.Spec.Ports[1].NodePort || s.Spec.Ports[0].NodePort == s.Spec.Ports[2].NodePort {
		t.Errorf("one port over two protocols shares its node port: %+v", s.Spec.Ports)
	}
	slices.Sort(keys)
	if len(keys) != 4 || keys[0] != "nodeport/30000" || keys[1] != "nodeport/30001" {
		t.Errorf("claims: %v", keys)
	}
}

// A claim's error is what kube-apiserver says of a name that is taken.
func TestServiceClaimErrors(t *testing.T) {
	r := kindOf(t, "Service")
	obj, _ := kindtest.New(t, r, kindtest.Edit(t, service, "spec: {clusterIP: 10.96.0.9, type: NodePort, ports: [{port: 80, nodePort: 30080}]}"))
	var got []string
	for _, c := range r.Strategy.Claims(obj) {
		got = append(got, fmt.Sprintf("%s %s %v %s", c.Key, c.Field, c.Value, c.Detail))
	}
	want := []string{
		"serviceip/10.96.0.9 spec.clusterIPs [10.96.0.9] failed to allocate IP 10.96.0.9: provided IP is already allocated",
		"nodeport/30080 spec.ports[0].nodePort 30080 provided port is already allocated",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

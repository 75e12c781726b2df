package core_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/apiserver/registry/kindtest"
)

// Namespaces that kube-apiserver accepts and refuses, and what becomes of one.
func TestNamespace(t *testing.T) {
	r := kindOf(t, "Namespace")
	const base = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "dots", Edit: "metadata: {name: a.b}", Want: []string{`metadata.name: Invalid value: "a.b": must not contain dots`}},
		{Name: "finalizer", Edit: "spec: {finalizers: [mine]}", Want: []string{
			`spec.finalizers: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified`}},
		{Name: "metadata finalizer", Edit: "metadata: {finalizers: [mine]}", Want: []string{
			`metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified`}},
	})
	obj, _ := kindtest.New(t, r, base)
	n := obj.(*corev1.Namespace)
	if n.Status.Phase != corev1.NamespaceActive || n.Labels[corev1.LabelMetadataName] != "team" || len(n.Spec.Finalizers) != 1 || !r.Strategy.Held(n) {
		t.Errorf("%+v", n)
	}
	r.Strategy.MarkDeleted(n)
	if n.Status.Phase != corev1.NamespaceTerminating {
		t.Error("not terminating")
	}
	empty := n.DeepCopy()
	empty.Spec.Finalizers = nil
	done, err := r.Subresources["finalize"].Apply(n, empty, time.Time{})
	if err != nil || r.Strategy.Held(done) {
		t.Error("finalize")
	}
	kindtest.Update(t, r, base, []kindtest.Case{{Name: "labels", Edit: "metadata: {labels: {a: b}}"}})
}

// Nodes that kube-apiserver accepts and refuses, and why.
func TestNode(t *testing.T) {
	r := kindOf(t, "Node")
	const base = "apiVersion: v1\nkind: Node\nmetadata: {name: n1.example.com}\n"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "taints", Edit: "spec: {taints: [{key: a, effect: NoSchedule}, {key: a, effect: NoSchedule}, {key: '', effect: Never}, {key: b}]}", Want: []string{
			`metadata.taints[1]: Duplicate value: {"key":"a","effect":"NoSchedule"}: taints must be unique by key and effect pair`,
			`metadata.taints[2].key: Invalid value: "": name part must be non-empty`,
			`metadata.taints[2].key: Invalid value: "": name part must consist of …`,
			`metadata.taints[2].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"`,
			"metadata.taints[3].effect: Required value"}},
		{Name: "pod networks", Edit: "spec: {podCIDRs: [10.0.0.0/24, 10.0.1.0/24]}", Want: []string{
			`spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.0.1.0/24"]: may specify no more than one CIDR for each IP family`}},
		{Name: "capacity", Edit: "status: {capacity: {memory: -1}}", Want: []string{
			`status.capacity.memory: Invalid value: "-1": must be greater than or equal to 0`,
			`status.allocatable.memory: Invalid value: "-1": must be greater than or equal to 0`}},
	})
	kindtest.Status(t, r, base, []kindtest.Case{
		{Name: "features", Edit: "status: {declaredFeatures: [AFeature, BFeature/part]}"},
		{Name: "features in disorder", Edit: "status: {declaredFeatures: [BFeature, AFeature, AFeature]}", Want: []string{
			`status.declaredFeatures[1]: Invalid value: "AFeature": list must be sorted alphabetically`,
			`status.declaredFeatures[2]: Duplicate value: "AFeature"`}},
		{Name: "no feature", Edit: "status: {declaredFeatures: [aFeature, b/]}", Want: []string{
			`status.declaredFeatures[0]: Invalid value: "aFeature": invalid feature name "aFeature": must start with an UpperCamelCase segment…`,
			`status.declaredFeatures[1]: Invalid value: "b/": invalid feature name "b/": must start with an UpperCamelCase segment…`}},
	})
	kindtest.Update(t, r, base, []kindtest.Case{
		{Name: "cordon", Edit: "spec: {unschedulable: true}"},
		{Name: "network set", Edit: "spec: {podCIDR: 10.0.0.0/24}"},
		{Name: "network changed", Old: "spec: {podCIDR: 10.0.0.0/24}", Edit: "spec: {podCIDR: 10.0.1.0/24}", Want: []string{
			`spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid`}},
		{Name: "provider changed", Old: "spec: {providerID: a}", Edit: "spec: {providerID: b}", Want: []string{
			`spec.providerID: Invalid value: null: field cannot be modified once set`}},
		{Name: "provider cleared", Old: "spec: {providerID: a}", Edit: "spec: {providerID: null}", Want: []string{
			`spec.providerID: Invalid value: null: field cannot be cleared once set`}},
		{Name: "the singular network is followed", Edit: "spec: {podCIDR: 10.0.0.0/24, podCIDRs: [nonsense]}"},
		{Name: "kubelet configuration of the past", Edit: "spec: {configSource: {}}"},
	})
	obj, _ := kindtest.New(t, r, kindtest.Edit(t, base, "metadata: {labels: {node-role.kubernetes.io/control-plane: '', kubernetes.io/role: x}}\nspec: {unschedulable: true}"))
	n := obj.(*corev1.Node)
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	var cells []string
	for _, c := range r.Columns {
		cells = append(cells, c.Cell(n, time.Time{}))
	}
	if got := strings.Join(cells, "|"); got != "n1.example.com|Ready,SchedulingDisabled|control-plane,x|<unknown>||<none>|<none>|<unknown>|<unknown>|<unknown>" {
		t.Error(got)
	}
}

// Config maps and secrets that kube-apiserver accepts and refuses, and why.
func TestData(t *testing.T) {
	big := strings.Repeat("x", corev1.MaxSecretSize)
	const key = `a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')`
	maps := kindOf(t, "ConfigMap")
	const base = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: b}\n"
	kindtest.Create(t, maps, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "keys", Edit: "data: {a/b: c, x: z}\nbinaryData: {x: eA==}", Want: []string{
			`data[a/b]: Invalid value: "a/b": ` + key, `data[x]: Invalid value: "x": duplicate of key present in binaryData`}},
		{Name: "size", Edit: "data: {big: " + big + "}", Want: []string{"[]: Too long: may not be more than 1048576 bytes"}},
	})
	kindtest.Update(t, maps, base, []kindtest.Case{
		{Name: "data", Edit: "data: {a: c}"},
		{Name: "sealed", Old: "immutable: true", Edit: "data: {a: c}\nimmutable: false", Want: []string{
			"immutable: Forbidden: field is immutable when `immutable` is set", "data: Forbidden: field is immutable when `immutable` is set"}},
	})
	secrets := kindOf(t, "Secret")
	const secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}\n"
	kindtest.Create(t, secrets, secret, []kindtest.Case{
		{Name: "minimal"},
		{Name: "key", Edit: "stringData: {a/b: c}", Want: []string{`data[a/b]: Invalid value: "a/b": ` + key}},
		{Name: "TLS", Edit: "type: kubernetes.io/tls", Want: []string{"data[tls.crt]: Required value", "data[tls.key]: Required value"}},
		{Name: "token", Edit: "type: kubernetes.io/service-account-token", Want: []string{
			"metadata.annotations[kubernetes.io/service-account.name]: Required value"}},
		{Name: "pull secret", Edit: "type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: '{'}", Want: []string{
			`data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": unexpected end of JSON input`}},
		{Name: "basic", Edit: "type: kubernetes.io/basic-auth", Want: []string{"data[username]: Required value", "data[password]: Required value"}},
		{Name: "SSH", Edit: "type: kubernetes.io/ssh-auth", Want: []string{"data[ssh-privatekey]: Required value"}},
	})
	kindtest.Update(t, secrets, secret, []kindtest.Case{
		{Name: "type", Edit: "type: other", Want: []string{`type: Invalid value: "other": field is immutable`}},
		{Name: "sealed", Old: "immutable: true", Edit: "stringData: {a: c}", Want: []string{"data: Forbidden: field is immutable when `immutable` is set"}},
	})
	obj, _ := kindtest.New(t, secrets, secret)
	if s := obj.(*corev1.Secret); s.Type != corev1.SecretTypeOpaque || string(s.Data["a"]) != "b" || s.StringData != nil {
		t.Errorf("%+v", s)
	}
}

// Endpoints that kube-apiserver accepts and refuses, and how they are printed.
func TestEndpoints(t *testing.T) {
	r := kindOf(t, "Endpoints")
	const base = "apiVersion: v1\nkind: Endpoints\nmetadata: {name: e}\nsubsets: [{addresses: [{ip: 10.0.0.1}, {ip: 10.0.0.2}], ports: [{port: 80, name: a}, {port: 81, name: b}]}]\n"
	kindtest.Create(t, r, base, []kindtest.Case{
		{Name: "minimal"},
		{Name: "nothing", Edit: "subsets: [{}]", Want: []string{"subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"}},
		{Name: "addresses", Edit: "subsets: [{addresses: [{ip: x}, {ip: 169.254.0.1}], ports: [{port: 0}]}]", Want: []string{
			`subsets[0].addresses[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`,
			`subsets[0].addresses[1].ip: Invalid value: "169.254.0.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)`,
			"subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"}},
	})
	obj, _ := kindtest.New(t, r, base)
	if got := r.Columns[1].Cell(obj, time.Time{}); got != "10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more..." {
		t.Error(got)
	}
}

// Events that kube-apiserver accepts and refuses, and why.
func TestEvent(t *testing.T) {
	kindtest.Create(t, kindOf(t, "Event"), `
apiVersion: v1
kind: Event
metadata: {name: e, namespace: team}
involvedObject: {kind: Pod, namespace: team, name: p}
`, []kindtest.Case{
		{Name: "minimal"},
		{Name: "cluster-scoped", Edit: "metadata: {namespace: default}\ninvolvedObject: {namespace: null, kind: Node}"},
		{Name: "namespace", Edit: "involvedObject: {namespace: other}", Want: []string{
			`involvedObject.namespace: Invalid value: "other": does not match event.namespace`}},
		{Name: "new", Edit: "eventTime: '2026-01-01T00:00:00.000000Z'", Want: []string{
			"reportingComponent: Required value", "reportingComponent: Invalid value: \"\": name part must be non-empty",
			"reportingComponent: Invalid value: \"\": name part must consist of …", "reportingInstance: Required value",
			"action: Required value", "reason: Required value"}},
	})
}

// Service accounts follow the rules of all names.
func TestServiceAccount(t *testing.T) {
	kindtest.Create(t, kindOf(t, "ServiceAccount"), "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: s}\n", []kindtest.Case{
		{Name: "minimal"},
		{Name: "name", Edit: "metadata: {name: S}", Want: []string{`metadata.name: Invalid value: "S": …`}},
	})
}

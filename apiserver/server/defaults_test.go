package server_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// Claims, Ingresses, pods and nodes get what the cluster's classes say, and claims grow only where these allow it, through either door.
func TestClassesAreApplied(t *testing.T) {
	const claims, ingresses = "v1/persistentvolumeclaims@default", "networking.k8s.io/v1/ingresses@default"
	claim := func(name, more string) string {
		return "metadata: {name: " + name + "}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}" + more + "}\n"
	}
	pod := func(name, more string) string {
		return "metadata: {name: " + name + "}\nspec: {runtimeClassName: kata, containers: [{name: c, image: i}]" + more + "}\n"
	}
	agree(t, []write{
		{name: "no default class", at: claims, body: claim("a", ""), has: []string{`"finalizers":["kubernetes.io/pvc-protection"]`}},
		{name: "class", at: "storage.k8s.io/v1/storageclasses", body: "metadata: {name: fast, annotations: {storageclass.kubernetes.io/is-default-class: 'true'}}\nprovisioner: x/y\nallowVolumeExpansion: false\n"},
		{name: "default class", at: claims, body: claim("b", ""), has: []string{`"storageClassName":"fast"`}},
		{name: "no class wanted", at: claims, body: claim("c", ", storageClassName: ''"), has: []string{`"storageClassName":""`}},
		{name: "bound", verb: "patch", at: claims + ":b", body: `{"spec":{"volumeName":"v"}}`},
		{name: "unbound", verb: "patch", at: claims + ":b", body: `{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}`, code: 422, refused: "spec"},
		{name: "is bound", verb: "patch", at: claims + ":b:status", body: `{"status":{"phase":"Bound"}}`},
		{name: "not growing", verb: "patch", at: claims + ":b", body: `{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}`, code: 403,
			refused: `persistentvolumeclaims "b" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize`},
		{name: "class that grows", at: "storage.k8s.io/v1/storageclasses:fast", verb: "patch", body: `{"allowVolumeExpansion":true}`},
		{name: "growing", verb: "patch", at: claims + ":b", body: `{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}`},
		{name: "volume", at: "v1/persistentvolumes", body: "metadata: {name: v}\nspec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /x}}\n", has: []string{`"kubernetes.io/pv-protection"`}},
		{name: "ingress class", at: "networking.k8s.io/v1/ingressclasses", body: "metadata: {name: web, annotations: {ingressclass.kubernetes.io/is-default-class: 'true'}}\nspec: {controller: x/y}\n"},
		{name: "ingress", at: ingresses, body: "metadata: {name: i}\nspec: {defaultBackend: {service: {name: s, port: {number: 80}}}}\n", has: []string{`"ingressClassName":"web"`}},
		{name: "no such runtime", at: "v1/pods@default", body: pod("p", ""), code: 403, refused: `pods "p" is forbidden: pod rejected: RuntimeClass "kata" not found`},
		{name: "runtime class", at: "node.k8s.io/v1/runtimeclasses", body: "metadata: {name: kata}\nhandler: kata\noverhead: {podFixed: {cpu: 100m}}\nscheduling: {nodeSelector: {vm: 'yes'}, tolerations: [{key: vm, operator: Exists}]}\n"},
		{name: "runtime", at: "v1/pods@default", body: pod("p", ""), has: []string{`"overhead":{"cpu":"100m"}`, `"nodeSelector":{"vm":"yes"}`, `{"key":"vm","operator":"Exists"}`}},
		{name: "another overhead", at: "v1/pods@default", body: pod("q", ", overhead: {cpu: 1}"), refused: `pods "q" is forbidden: pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead`},
		{name: "elsewhere", at: "v1/pods@default", body: pod("q", ", nodeSelector: {vm: 'no'}"), refused: `conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no`},
		{name: "overhead without a class", at: "v1/pods@default", body: "metadata: {name: q}\nspec: {overhead: {cpu: 1}, containers: [{name: c, image: i}]}\n", refused: "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"},
		{name: "node", at: "v1/nodes", body: "metadata: {name: node-1}\n", has: []string{`"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/not-ready"}]`}},
	})
}

// request makes a certificate request for the given groups.
func request(t *testing.T, groups ...string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane", Organization: groups}}, key)
	check(t, err)
	var b bytes.Buffer
	check(t, pem.Encode(&b, &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// Nobody asks for the group that may everything, and only those approve who may for the signer.
func TestCertificateRequests(t *testing.T) {
	const at = "certificates.k8s.io/v1/certificatesigningrequests"
	body := func(name string, groups ...string) string {
		return "metadata: {name: " + name + "}\nspec: {signerName: kubernetes.io/kube-apiserver-client, usages: [client auth], request: " + request(t, groups...) + "}\n"
	}
	agree(t, []write{
		{name: "masters", at: at, body: body("m", "system:masters"), code: 403, refused: `is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed`},
		{name: "others", at: at, body: body("d", "dev")},
	})
	h := start(t, engines()["memory"](t))
	admin, dev := h.admin(), h.as("dev")
	if out := admin.viaREST(t, &write{at: at, body: body("d", "dev")}); out.status.Code != 0 {
		t.Fatal(out.status.Message)
	}
	check(t, admin.createRBAC(t, "clusterroles", "", `{"metadata":{"name":"approver"},"rules":[{"apiGroups":["certificates.k8s.io"],"resources":["certificatesigningrequests/approval"],"verbs":["patch","update"]}]}`))
	check(t, admin.createRBAC(t, "clusterrolebindings", "", `{"metadata":{"name":"approver"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"approver"},"subjects":[{"kind":"User","name":"dev","apiGroup":"rbac.authorization.k8s.io"}]}`))
	approve := &write{at: at + ":d:approval", verb: "patch", body: `{"status":{"conditions":[{"type":"Approved","status":"True","reason":"r","message":"m"}]}}`}
	const refused = `certificatesigningrequests.certificates.k8s.io "d" is forbidden: user not permitted to approve requests with signerName "kubernetes.io/kube-apiserver-client"`
	eventually(t, "the answer of somebody who may not approve for the signer", func() bool { return dev.viaREST(t, approve).status.Message == refused })
	check(t, admin.createRBAC(t, "clusterroles", "", `{"metadata":{"name":"signers"},"rules":[{"apiGroups":["certificates.k8s.io"],"resources":["signers"],"resourceNames":["kubernetes.io/*"],"verbs":["approve"]}]}`))
	check(t, admin.createRBAC(t, "clusterrolebindings", "", `{"metadata":{"name":"signers"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"signers"},"subjects":[{"kind":"User","name":"dev","apiGroup":"rbac.authorization.k8s.io"}]}`))
	eventually(t, "the approval", func() bool { return dev.viaGRPC(t, approve).status.Code == 0 })
}

// A node registers with addresses and a provider's identity, and changes neither later.
func TestNodeKeepsItsAddresses(t *testing.T) {
	h := start(t, engines()["memory"](t))
	kubelet := h.as("system:node:n", "system:nodes")
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	_, err := kubelet.Create(t.Context(), &apiv1.CreateRequest{Ref: ref("", "nodes", "", ""), Object: asProto(t, "k8s.io.api.core.v1.Node", node)})
	check(t, err)
	for body, want := range map[string]string{
		`{"spec":{"podCIDR":"10.1.0.0/24","podCIDRs":["10.1.0.0/24"]}}`: `nodes "n" is forbidden: node "n" is not allowed to modify pod CIDRs`,
		`{"spec":{"providerID":"x://y"}}`:                               `nodes "n" is forbidden: node "n" is not allowed to modify providerID`,
		`{"spec":{"taints":null}}`:                                      `nodes "n" is forbidden: node "n" is not allowed to modify taints`,
	} {
		if out := kubelet.viaREST(t, &write{at: "v1/nodes:n", verb: "patch", body: body}); out.status.Message != want {
			t.Errorf("%s: %q, want %q", body, out.status.Message, want)
		}
	}
}

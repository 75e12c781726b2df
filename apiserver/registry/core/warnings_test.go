package core_test

import (
	"testing"

	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/kindtest"
)

// What kube-apiserver warns of when it accepts a pod.
func TestPodWarnings(t *testing.T) {
	r := kindtest.Kind(t, core.Resources(), "Pod")
	const base = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i}]}\n"
	container := func(s string) string { return "spec: {containers: [{name: c, image: i, " + s + "}]}" }
	kindtest.Warnings(t, r, base, []kindtest.Case{
		{Name: "nothing"},
		{Name: "name", Edit: "metadata: {name: a.b}", Want: []string{
			"metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]"}},
		{Name: "labels of nodes", Edit: `spec:
  nodeSelector: {beta.kubernetes.io/os: linux}
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: beta.kubernetes.io/arch, operator: Exists}]}]}}}
  topologySpreadConstraints: [{maxSkew: 1, topologyKey: failure-domain.beta.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule}]`, Want: []string{
			`spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead`,
			`spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/arch is deprecated since v1.14; use "kubernetes.io/arch" instead`,
			`spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use "topology.kubernetes.io/zone" instead`,
			"spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod"}},
		{Name: "volumes", Edit: `spec: {volumes: [{name: g, gitRepo: {repository: r}}, {name: s, configMap: {name: m, items: [{key: a, path: p}, {key: b, path: p/q}]}},
{name: q, projected: {sources: [{secret: {name: x, items: [{key: a, path: p}]}}, {secret: {name: z, items: [{key: a, path: p/q}]}}]}}]}`, Want: []string{
			"spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
			`volume "s" (ConfigMap "m"): overlapping paths: "p/q" with "p"`,
			`volume "q" (Projected Secret "z"): overlapping paths: "p/q" with "p"`}},
		{Name: "duplicates", Edit: "spec: {hostAliases: [{ip: 1.1.1.1}, {ip: 1.1.1.1}], imagePullSecrets: [{name: a}, {name: a}, {name: ''}]}", Want: []string{
			`spec.hostAliases[1].ip: duplicate ip "1.1.1.1"`, `spec.imagePullSecrets[1].name: duplicate name "a"`,
			`spec.imagePullSecrets[2].name: invalid empty name ""`}},
		{Name: "amounts", Edit: container("resources: {limits: {memory: 100m}}"), Want: []string{
			`spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer`,
			`spec.containers[0].resources.requests[memory]: fractional byte value "100m" is invalid, must be an integer`}},
		{Name: "variables", Edit: container("env: [{name: A, value: x}, {name: A, value: 'x$(A)'}, {name: A, value: z}]"), Want: []string{
			`spec.containers[0].env[2]: hides previous definition of "A", which may be dropped when using apply`}},
		{Name: "ports", Edit: container("ports: [{containerPort: 80}, {containerPort: 80}, {containerPort: 80, hostPort: 81}]"), Want: []string{
			"spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
			"spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[0]",
			"spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[1]"}},
		{Name: "annotations", Edit: "metadata: {annotations: {scheduler.alpha.kubernetes.io/critical-pod: ''}}", Want: []string{
			`metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the "priorityClassName" field instead`}},
		{Name: "affinity", Edit: "spec: {affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: k}]}}}", Want: []string{
			"spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod"}},
	})
}

// What kube-apiserver warns of when it accepts Services, claims, volumes and accounts.
func TestWarnings(t *testing.T) {
	kind := func(name string) func(base string, cases ...kindtest.Case) {
		return func(base string, cases ...kindtest.Case) {
			kindtest.Warnings(t, kindtest.Kind(t, core.Resources(), name), base, cases)
		}
	}
	kind("Service")("apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}]}\n",
		kindtest.Case{Name: "plain service"},
		kindtest.Case{Name: "headless", Edit: "spec: {clusterIP: None, externalIPs: [192.0.2.1], sessionAffinity: ClientIP}", Want: []string{
			"spec.externalIPs is ignored for headless services", "spec.SessionAffinity is ignored for headless services"}},
		kindtest.Case{Name: "external addresses", Edit: "spec: {externalIPs: [192.0.2.1]}", Want: []string{
			"spec.externalIPs is deprecated and may no longer be implemented in some clusters"}},
		kindtest.Case{Name: "external name", Edit: "spec: {externalName: x.example.com, trafficDistribution: PreferClose}", Want: []string{
			`spec.externalName is ignored when spec.type is not "ExternalName"`, `spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"`}})
	kind("PersistentVolumeClaim")("apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: c}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n",
		kindtest.Case{Name: "plain claim"},
		kindtest.Case{Name: "old", Edit: "{metadata: {annotations: {volume.beta.kubernetes.io/storage-class: s}}, spec: {resources: {requests: {storage: 100m}}}}", Want: []string{
			`metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use "storageClassName" attribute instead`,
			`spec.resources.requests[storage]: fractional byte value "100m" is invalid, must be an integer`}})
	kind("PersistentVolume")("apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: v}\nspec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, hostPath: {path: /x}}\n",
		kindtest.Case{Name: "plain volume"},
		kindtest.Case{Name: "recycled", Edit: "spec: {persistentVolumeReclaimPolicy: Recycle}", Want: []string{
			"spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning."}})
	kind("Secret")("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n",
		kindtest.Case{Name: "plain secret"},
		kindtest.Case{Name: "no certificate", Edit: "{type: kubernetes.io/tls, data: {tls.crt: YQ==, tls.key: YQ==}}", Want: []string{
			"tls: failed to find any PEM data in certificate input"}})
	kind("Node")("apiVersion: v1\nkind: Node\nmetadata: {name: node}\n",
		kindtest.Case{Name: "plain node"},
		kindtest.Case{Name: "old node", Edit: "spec: {externalID: x}", Want: []string{
			"spec.externalID: this field is deprecated, and is unused by Kubernetes"}})
	kind("Endpoints")("apiVersion: v1\nkind: Endpoints\nmetadata: {name: e}\n",
		kindtest.Case{Name: "endpoints", Want: []string{"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"}},
		kindtest.Case{Name: "long form", Edit: "subsets: [{addresses: [{ip: '2001:db8:0:0:0:0:0:1'}]}]", Want: []string{
			"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
			`subsets[0].addresses[0].ip: IPv6 address "2001:db8:0:0:0:0:0:1" should be in RFC 5952 canonical format ("2001:db8::1")`}})
	kind("ServiceAccount")("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a}\n",
		kindtest.Case{Name: "enforcing", Edit: "metadata: {annotations: {kubernetes.io/enforce-mountable-secrets: 'true'}}", Want: []string{
			"metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"}})
}

package core_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/kindtest"
)

const pod = `
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: a}}
spec: {containers: [{name: c, image: 'nginx:1'}]}
`

func kindOf(t testing.TB, kind string) *registry.Resource {
	return kindtest.Kind(t, core.Resources(), kind)
}

func container(fields string) string {
	return "spec: {containers: [{name: c, image: i, " + fields + "}]}"
}

const label = `a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`

// Pods that kube-apiserver accepts and refuses, and why: containers.
func TestPodContainers(t *testing.T) {
	kindtest.Create(t, kindOf(t, "Pod"), pod, []kindtest.Case{
		{Name: "minimal"},
		{Name: "no containers", Edit: "spec: {containers: null}", Want: []string{"spec.containers: Required value"}},
		{Name: "name", Edit: "spec: {containers: [{name: C_1, image: i}]}", Want: []string{`spec.containers[0].name: Invalid value: "C_1": ` + label}},
		{Name: "two of a name", Edit: "spec: {containers: [{name: c, image: i}, {name: c, image: i}]}", Want: []string{
			`spec.containers[1].name: Duplicate value: "c"`}},
		{Name: "init of a name", Edit: "spec: {initContainers: [{name: c, image: i}]}", Want: []string{
			`spec.initContainers[0].name: Duplicate value: "c"`}},
		{Name: "blank image", Edit: "spec: {containers: [{name: c, image: ' i'}]}", Want: []string{
			`spec.containers[0].image: Invalid value: " i": must not have leading or trailing whitespace`}},
		{Name: "pull policy", Edit: container("imagePullPolicy: Sometimes"), Want: []string{
			`spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"`}},
		{Name: "ports", Edit: container("ports: [{containerPort: 80, name: http}, {containerPort: 0}, {containerPort: 70000}, {containerPort: 81, name: http, protocol: ICMP}]"), Want: []string{
			"spec.containers[0].ports[1].containerPort: Required value",
			"spec.containers[0].ports[2].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
			`spec.containers[0].ports[3].name: Duplicate value: "http"`,
			`spec.containers[0].ports[3].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"`}},
		{Name: "host ports", Edit: container("ports: [{containerPort: 80, hostPort: 80}, {containerPort: 81, hostPort: 80}]"), Want: []string{
			`spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//80"`}},
		{Name: "host network ports", Edit: "spec: {hostNetwork: true, containers: [{name: c, image: i, ports: [{containerPort: 80, hostPort: 81}]}]}", Want: []string{
			"spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"}},
		{Name: "relaxed env", Edit: container("env: [{name: a.b-c}, {name: ''}, {name: 'a=b'}]"), Want: []string{
			"spec.containers[0].env[1].name: Required value",
			`spec.containers[0].env[2].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='`}},
		{Name: "env sources", Edit: container("env: [{name: a, valueFrom: {}}, {name: b, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: c, valueFrom: {fieldRef: {fieldPath: metadata.nope}}}, {name: d, valueFrom: {configMapKeyRef: {name: m}}}]"), Want: []string{
			"spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
			"spec.containers[0].env[1].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
			`spec.containers[0].env[2].valueFrom.fieldRef.fieldPath: Invalid value: "metadata.nope": error converting fieldPath: field label not supported: metadata.nope`,
			"spec.containers[0].env[3].valueFrom.configMapKeyRef.key: Required value"}},
		{Name: "env field of volumes", Edit: container("env: [{name: a, valueFrom: {fieldRef: {fieldPath: metadata.labels}}}, {name: b, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['x']\"}}}, {name: c, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 2m}}}]"), Want: []string{
			`spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "metadata.labels": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"`,
			`spec.containers[0].env[2].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor's values 1m and 1 are supported with the cpu resource`}},
		{Name: "mounts", Edit: container("volumeMounts: [{name: v, mountPath: /a}]"), Want: []string{
			`spec.containers[0].volumeMounts[0].name: Not found: "v"`}},
		{Name: "mounts of one path", Edit: "spec: {volumes: [{name: v}], containers: [{name: c, image: i, volumeMounts: [{name: v, mountPath: /a}, {name: v, mountPath: /a, subPath: ../x}]}]}", Want: []string{
			`spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique`,
			`spec.containers[0].volumeMounts.subPath: Invalid value: "../x": must not contain '..'`}},
		{Name: "resources", Edit: container("resources: {requests: {cpu: 2, memory: -1, nope: 1, example.com/gpu: 1}, limits: {cpu: 1}}"), Want: []string{
			`spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1`,
			`spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0`,
			`spec.containers[0].resources.requests[nope]: Invalid value: "nope": must be a standard resource type or fully qualified`,
			`spec.containers[0].resources.requests[nope]: Invalid value: "nope": must be a standard resource for containers`,
			`spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources`}},
		{Name: "huge pages", Edit: container("resources: {limits: {hugepages-2Mi: 3Mi}}"), Want: []string{
			`spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi`,
			`spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi`,
			"spec.containers[0].resources: Forbidden: HugePages require cpu or memory"}},
		{Name: "probe", Edit: container("livenessProbe: {httpGet: {port: 80}, tcpSocket: {port: 80}, successThreshold: 2, periodSeconds: -1}"), Want: []string{
			"spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
			"spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
			"spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"}},
		{Name: "probe of nothing", Edit: container("readinessProbe: {terminationGracePeriodSeconds: 4}, startupProbe: {exec: {}}"), Want: []string{
			"spec.containers[0].readinessProbe: Required value: must specify a handler type",
			"spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 4: must not be set for readinessProbes",
			"spec.containers[0].startupProbe.exec.command: Required value"}},
		{Name: "probe ports", Edit: container("livenessProbe: {httpGet: {port: 0, scheme: FTP, httpHeaders: [{name: 'a b'}]}}, readinessProbe: {tcpSocket: {port: too-long-a-name-for-a-port}}"), Want: []string{
			"spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
			`spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS"`,
			`spec.containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')`,
			`spec.containers[0].readinessProbe.tcpSocket.port: Invalid value: "too-long-a-name-for-a-port": must be no more than 15 characters`}},
		{Name: "hooks", Edit: container("lifecycle: {preStop: {sleep: {seconds: 40}}, postStart: {}}"), Want: []string{
			"spec.containers[0].lifecycle.preStop.sleep: Invalid value: 40: must be non-negative and less than terminationGracePeriodSeconds (30)",
			"spec.containers[0].lifecycle.postStart: Required value: must specify a handler type"}},
		{Name: "init container with a probe", Edit: "spec: {initContainers: [{name: i, image: i, livenessProbe: {exec: {command: [a]}}}]}", Want: []string{
			"spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"}},
		{Name: "sidecar", Edit: "spec: {initContainers: [{name: i, image: i, restartPolicy: Always, livenessProbe: {exec: {command: [a]}}}]}"},
		{Name: "restart rules", Edit: container("restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}, {action: Retry}]"), Want: []string{
			`spec.containers[0].restartPolicyRules[1].action: Unsupported value: "Retry": supported values: "Restart", "RestartAllContainers"`,
			"spec.containers[0].restartPolicyRules[1].exitCodes: Required value: must be specified"}},
		{Name: "restart rules of a sidecar", Edit: "spec: {initContainers: [{name: i, image: i, restartPolicy: Always, restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [42]}}]}]}"},
		{Name: "security", Edit: container("securityContext: {runAsUser: -1, allowPrivilegeEscalation: false, privileged: true, seccompProfile: {type: Localhost}}"), Want: []string{
			"spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
			"spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
			"spec.containers[0].securityContext: Invalid value: {\"privileged\":true,\"runAsUser\":-1,\"allowPrivilegeEscalation\":false,\"seccompProfile\":{\"type\":\"Localhost\"}}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"}},
		{Name: "ephemeral container", Edit: "spec: {ephemeralContainers: [{name: e, image: i}]}", Want: []string{
			"spec.ephemeralContainers: Forbidden: cannot be set on create"}},
	})
}

// Pods that kube-apiserver accepts and refuses, and why: the rest of the spec.
func TestPodSpec(t *testing.T) {
	kindtest.Create(t, kindOf(t, "Pod"), pod, []kindtest.Case{
		{Name: "policies", Edit: "spec: {restartPolicy: Maybe, dnsPolicy: Mine}", Want: []string{
			`spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never"`,
			`spec.dnsPolicy: Unsupported value: "Mine": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"`}},
		{Name: "dns", Edit: "spec: {dnsPolicy: None}", Want: []string{
			"spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"}},
		{Name: "dns config", Edit: "spec: {dnsConfig: {nameservers: [1.1.1.1, x, 1.1.1.2, 1.1.1.3], searches: [a_b.c., '.', '-x'], options: [{value: '1'}]}}", Want: []string{
			`spec.dnsConfig.nameservers: Invalid value: ["1.1.1.1","x","1.1.1.2","1.1.1.3"]: must not have more than 3 nameservers`,
			`spec.dnsConfig.nameservers[1]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`,
			`spec.dnsConfig.searches[2]: Invalid value: "-x": …`,
			"spec.dnsConfig.options[0]: Required value: must not be empty"}},
		{Name: "names", Edit: "spec: {nodeName: N1, serviceAccountName: A, hostname: h.x, subdomain: S, priorityClassName: P, runtimeClassName: R}", Want: []string{
			"spec.nodeName: Invalid value: \"N1\": …", "spec.serviceAccountName: Invalid value: \"A\": …", "spec.hostname: Invalid value: \"h.x\": …",
			"spec.subdomain: Invalid value: \"S\": …", "spec.priorityClassName: Invalid value: \"P\": …", "spec.runtimeClassName: Invalid value: \"R\": …"}},
		{Name: "deadline", Edit: "spec: {activeDeadlineSeconds: 0}", Want: []string{
			"spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"}},
		{Name: "tolerations", Edit: "spec: {tolerations: [{operator: Equal, value: x}, {key: k, operator: Exists, value: v}, {key: k, effect: NoSchedule, tolerationSeconds: 3}, {key: k, effect: Never}, {key: k, operator: Gt, value: '007'}, {operator: Exists}]}", Want: []string{
			"spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
			"spec.tolerations[1].operator: Invalid value: \"v\": value must be empty when `operator` is 'Exists'",
			"spec.tolerations[2].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set",
			`spec.tolerations[3].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"`,
			`spec.tolerations[4].value: Invalid value: "007": must be a valid integer for numeric operators`}},
		{Name: "node affinity", Edit: "spec: {affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: k, operator: In}, {key: k, operator: Exists, values: [x]}, {key: k, operator: Gt, values: ['1', '2']}, {key: k, operator: Like}], matchFields: [{key: metadata.uid, operator: In, values: [x]}]}]}, preferredDuringSchedulingIgnoredDuringExecution: [{weight: 101, preference: {}}]}}}", Want: []string{
			"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
			"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
			"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[2].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'",
			`spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[3].operator: Invalid value: "Like": not a valid selector operator`,
			`spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].key: Invalid value: "metadata.uid": not a valid field selector key`,
			"spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100"}},
		{Name: "pod affinity", Edit: "spec: {affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {a: b}}, topologyKey: ''}]}}}", Want: []string{
			"spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty",
			"spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: \"\": name part must be non-empty",
			"spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: \"\": name part must consist of …"}},
		{Name: "spread", Edit: "spec: {topologySpreadConstraints: [{maxSkew: 0, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, minDomains: 1}, {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}, {maxSkew: 1, whenUnsatisfiable: Ignore}]}", Want: []string{
			"spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
			`spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "{zone, ScheduleAnyway}"`,
			"spec.topologySpreadConstraints[0].minDomains: Invalid value: 1: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
			"spec.topologySpreadConstraints[2].topologyKey: Required value: can not be empty",
			`spec.topologySpreadConstraints[2].whenUnsatisfiable: Unsupported value: "Ignore": supported values: "DoNotSchedule", "ScheduleAnyway"`}},
		{Name: "spread by a label of its own", Edit: "spec: {topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, matchLabelKeys: [app], labelSelector: {matchLabels: {x: z}}}]}"},
		{Name: "gates", Edit: "spec: {nodeName: n1, schedulingGates: [{name: a/b}, {name: a/b}]}", Want: []string{
			`spec.schedulingGates[1]: Duplicate value: "a/b"`,
			"spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"}},
		{Name: "security", Edit: "spec: {hostNetwork: true, hostPID: true, shareProcessNamespace: true, securityContext: {fsGroup: -1, sysctls: [{name: net.ipv4.ip_forward, value: '1'}, {name: A, value: '1'}], supplementalGroupsPolicy: Loose}}", Want: []string{
			"spec.securityContext.fsGroup: Invalid value: -1: must be between 0 and 2147483647, inclusive",
			"spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
			`spec.securityContext.sysctls[0].name: Invalid value: "net.ipv4.ip_forward": may not be specified when 'hostNetwork' is true`,
			`spec.securityContext.sysctls[1].name: Invalid value: "A": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`,
			`spec.securityContext.supplementalGroupsPolicy: Unsupported value: "Loose": supported values: "Merge", "Strict"`}},
		{Name: "user namespace", Edit: "spec: {hostUsers: false, hostIPC: true}", Want: []string{"spec.HostIPC: Forbidden: when `hostUsers` is false"}},
		{Name: "windows", Edit: "spec: {os: {name: windows}, securityContext: {runAsUser: 1}}", Want: []string{
			"spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod"}},
		{Name: "os", Edit: "spec: {os: {name: plan9}}", Want: []string{`spec.os: Unsupported value: "plan9": supported values: "linux", "windows"`}},
		{Name: "pod resources", Edit: "spec: {resources: {requests: {cpu: 1}, limits: {cpu: 2}}, containers: [{name: c, image: i, resources: {requests: {cpu: 2}}}]}", Want: []string{
			`spec.resources.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate container requests of 2`}},
		{Name: "aliases", Edit: "spec: {hostAliases: [{ip: 1.2.3, hostnames: [A]}]}", Want: []string{
			"spec.hostAliases[0].ip: Invalid value: \"1.2.3\": …", "spec.hostAliases[0].hostnames[0]: Invalid value: \"A\": …"}},
		{Name: "deletion cost", Edit: "metadata: {annotations: {controller.kubernetes.io/pod-deletion-cost: '+1'}}", Want: []string{
			`metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "+1": must be a 32bit integer`}},
		{Name: "claims", Edit: "spec: {resourceClaims: [{name: r}], containers: [{name: c, image: i, resources: {claims: [{name: q}]}}]}", Want: []string{
			"spec.resourceClaims[0]: Invalid value: {\"name\":\"r\"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
			`spec.containers[0].resources.claims[0]: Not found: "q": must be one of the names in pod.spec.resourceClaims: r`}},
	})
}

// Pods that kube-apiserver accepts and refuses, and why: volumes.
func TestPodVolumes(t *testing.T) {
	kindtest.Create(t, kindOf(t, "Pod"), pod, []kindtest.Case{
		{Name: "empty is emptyDir", Edit: "spec: {volumes: [{name: v}]}"},
		{Name: "two of a name", Edit: "spec: {volumes: [{name: v}, {name: v}]}", Want: []string{`spec.volumes[1].name: Duplicate value: "v"`}},
		{Name: "two sources", Edit: "spec: {volumes: [{name: v, emptyDir: {}, hostPath: {path: /}}]}", Want: []string{
			"spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"}},
		{Name: "host path", Edit: "spec: {volumes: [{name: v, hostPath: {path: /a/../b, type: Dir}}]}", Want: []string{
			`spec.volumes[0].hostPath.path: Invalid value: "/a/../b": must not contain '..'`,
			`spec.volumes[0].hostPath.type: Unsupported value: "Dir": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"`}},
		{Name: "secret", Edit: "spec: {volumes: [{name: v, secret: {defaultMode: 512, items: [{key: a, path: ..b}]}}]}", Want: []string{
			"spec.volumes[0].secret.secretName: Required value",
			"spec.volumes[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
			`spec.volumes[0].secret.items[0].path: Invalid value: "..b": must not start with '..'`}},
		{Name: "projected", Edit: "spec: {volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t, expirationSeconds: 5}}, {configMap: {name: m, items: [{key: a, path: x}]}}, {secret: {name: s, items: [{key: a, path: x}]}}]}}]}", Want: []string{
			"spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
			`spec.volumes[0].projected: Invalid value: "s": conflicting duplicate paths`,
			"spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set"}},
		{Name: "certificates", Edit: "spec: {volumes: [{name: v, projected: {sources: [{podCertificate: {signerName: example.com/s, keyType: ED25519, maxExpirationSeconds: 3599, keyPath: a, certificateChainPath: b}}, {podCertificate: {signerName: example.com/s, keyType: ED25519, maxExpirationSeconds: 7862401, keyPath: c, certificateChainPath: d}}, {podCertificate: {signerName: x.kubernetes.io/s, keyType: ED25519, maxExpirationSeconds: 86401, keyPath: e, certificateChainPath: f}}]}}]}", Want: []string{
			"spec.volumes[0].projected.sources[0].podCertificate.maxExpirationSeconds: Invalid value: 3599: if provided, maxExpirationSeconds must be >= 3600",
			"spec.volumes[0].projected.sources[1].podCertificate.maxExpirationSeconds: Invalid value: 7862401: if provided, maxExpirationSeconds must be <= 7862400",
			"spec.volumes[0].projected.sources[2].podCertificate.maxExpirationSeconds: Invalid value: 86401: if provided, maxExpirationSeconds must be <= 86400"}},
		{Name: "downward", Edit: "spec: {volumes: [{name: v, downwardAPI: {items: [{path: a}, {path: b, fieldRef: {fieldPath: status.podIP}}]}}]}", Want: []string{
			"spec.volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
			`spec.volumes[0].downwardAPI.fieldRef.fieldPath: Unsupported value: "status.podIP": supported values: "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"`}},
		{Name: "ephemeral", Edit: "spec: {volumes: [{name: v, ephemeral: {volumeClaimTemplate: {metadata: {name: x}, spec: {accessModes: [ReadWriteOncePod, ReadWriteOnce]}}}}, {name: w, persistentVolumeClaim: {claimName: p-v}}]}", Want: []string{
			"spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set",
			"spec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
			"spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value",
			`spec.volumes[1].persistentVolumeClaim.claimName: Invalid value: "p-v": must not reference a PVC that gets created for an ephemeral volume`}},
		{Name: "nfs and iscsi", Edit: "spec: {volumes: [{name: v, nfs: {server: s, path: p}}, {name: w, iscsi: {targetPortal: p, iqn: x, lun: 256}}]}", Want: []string{
			`spec.volumes[0].nfs.path: Invalid value: "p": must be an absolute path`,
			`spec.volumes[1].iscsi.iqn: Invalid value: "x": must be valid format starting with iqn, eui, or naa`,
			"spec.volumes[1].iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive"}},
		{Name: "csi", Edit: "spec: {volumes: [{name: v, csi: {driver: ''}}]}", Want: []string{
			"spec.volumes[0].csi.driver: Required value", "spec.volumes[0].csi.driver: Invalid value: \"\": …"}},
	})
}

// What of a pod may change after it was created.
func TestPodUpdate(t *testing.T) {
	kindtest.Update(t, kindOf(t, "Pod"), pod, []kindtest.Case{
		{Name: "image", Edit: "spec: {containers: [{name: c, image: 'nginx:1.2'}]}", Want: nil},
		{Name: "labels", Edit: "metadata: {labels: {x: z}}"},
		{Name: "tolerations", Edit: "spec: {tolerations: [{key: k, operator: Exists}]}"},
		{Name: "toleration removed", Old: "spec: {tolerations: [{key: k, operator: Exists}]}", Edit: "spec: {tolerations: null}", Want: []string{
			"spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"}},
		{Name: "deadline set", Edit: "spec: {activeDeadlineSeconds: 9}"},
		{Name: "deadline raised", Old: "spec: {activeDeadlineSeconds: 9}", Edit: "spec: {activeDeadlineSeconds: 10}", Want: []string{
			"spec.activeDeadlineSeconds: Invalid value: 10: must be less than or equal to previous value"}},
		{Name: "deadline unset", Old: "spec: {activeDeadlineSeconds: 9}", Edit: "spec: {activeDeadlineSeconds: null}", Want: []string{
			"spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"}},
		{Name: "container added", Edit: "spec: {containers: [{name: c, image: i}, {name: d, image: i}]}", Want: []string{
			"spec.containers: Forbidden: pod updates may not add or remove containers"}},
		{Name: "node", Edit: "spec: {nodeName: n1}", Want: []string{
			"spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n…"}},
		{Name: "gate added", Edit: "spec: {schedulingGates: [{name: a/b}]}", Want: []string{
			"spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'a/b'"}},
		{Name: "gated pod narrowed", Old: "spec: {schedulingGates: [{name: a/b}]}", Edit: "spec: {schedulingGates: null, nodeSelector: {a: b}}"},
		{Name: "gated pod widened", Old: "spec: {schedulingGates: [{name: a/b}], nodeSelector: {a: b}}", Edit: "spec: {nodeSelector: {a: c}}", Want: []string{
			`spec.nodeSelector: Invalid value: {"a":"c"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)`}},
	})
}

// A new pod is pending, knows its quality of service, and has what a manifest leaves out.
func TestPodCreated(t *testing.T) {
	r := kindOf(t, "Pod")
	for _, tc := range []struct {
		edit string
		want corev1.PodQOSClass
	}{
		{"", corev1.PodQOSBestEffort},
		{container("resources: {limits: {cpu: 1, memory: 1Gi}}"), corev1.PodQOSGuaranteed},
		{container("resources: {limits: {cpu: 1}}"), corev1.PodQOSBurstable},
		{container("resources: {requests: {cpu: 1, memory: 1Gi}, limits: {cpu: 2, memory: 1Gi}}"), corev1.PodQOSBurstable},
		{"spec: {resources: {requests: {cpu: 1, memory: 1Gi}, limits: {cpu: 1, memory: 1Gi}}}", corev1.PodQOSGuaranteed},
	} {
		obj, errs := kindtest.New(t, r, kindtest.Edit(t, pod, tc.edit))
		p := obj.(*corev1.Pod)
		if len(errs) > 0 || p.Status.QOSClass != tc.want || p.Status.Phase != corev1.PodPending || !*p.Spec.EnableServiceLinks {
			t.Errorf("%s: %v %+v", tc.edit, errs, p.Status)
		}
	}
	obj, _ := kindtest.New(t, r, kindtest.Edit(t, pod, "spec: {schedulingGates: [{name: a/b}]}"))
	if c := obj.(*corev1.Pod).Status.Conditions; len(c) != 1 || c[0].Reason != "SchedulingGated" {
		t.Errorf("%+v", c)
	}
}

// Binding gives a pod its node once, and only while it may have one.
func TestBinding(t *testing.T) {
	r := kindOf(t, "Pod")
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	bind := func(obj registry.Object, b *corev1.Binding) (*corev1.Pod, error) {
		bound, err := r.Subresources["binding"].Apply(obj, b, now)
		if err != nil {
			return nil, err
		}
		return bound.(*corev1.Pod), nil
	}
	to := func(node string) *corev1.Binding {
		return &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: node}}
	}
	obj, _ := kindtest.New(t, r, pod)
	p, err := bind(obj, to("n1"))
	if err != nil {
		t.Fatal(err)
	}
	c := p.Status.Conditions[0]
	if p.Spec.NodeName != "n1" || c.Type != corev1.PodScheduled || c.Status != corev1.ConditionTrue || !c.LastTransitionTime.Time.Equal(now.Truncate(time.Second)) {
		t.Errorf("%s %+v", p.Spec.NodeName, c)
	}
	if r.Strategy.SpecChanged(p, obj) {
		t.Error("binding raised the generation")
	}
	gone := p.DeepCopy()
	gone.Spec.NodeName, gone.DeletionTimestamp = "", &metav1.Time{Time: now}
	gated := p.DeepCopy()
	gated.Spec.NodeName, gated.Spec.SchedulingGates = "", []corev1.PodSchedulingGate{{Name: "a/b"}}
	other := to("n2")
	other.UID = "another"
	for _, tc := range []struct {
		pod  *corev1.Pod
		b    *corev1.Binding
		want string
	}{
		{p, to("n2"), `Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1"`},
		{gone, to("n2"), `Operation cannot be fulfilled on pods/binding "p": pod p is being deleted, cannot be assigned to a host`},
		{gated, to("n2"), `Operation cannot be fulfilled on pods/binding "p": pod p has non-empty .spec.schedulingGates`},
		{obj.(*corev1.Pod), other, `Operation cannot be fulfilled on pods/binding "p": Precondition failed: UID in precondition: another, UID in object meta: 6ec9c0c6-8d36-4fcd-a03f-000000000001`},
	} {
		if _, err := bind(tc.pod, tc.b); !apierrors.IsConflict(err) || err.Error() != tc.want {
			t.Errorf("got %v", err)
		}
	}
	if _, err := bind(obj, &corev1.Binding{}); !apierrors.IsInvalid(err) {
		t.Error(err)
	}
}

// How long a pod's deletion waits.
func TestPodGracePeriod(t *testing.T) {
	r := kindOf(t, "Pod")
	obj, _ := kindtest.New(t, r, pod)
	p := obj.(*corev1.Pod)
	if hasty, errs := kindtest.New(t, r, kindtest.Edit(t, pod, "spec: {terminationGracePeriodSeconds: -5}")); len(errs) > 0 || *hasty.(*corev1.Pod).Spec.TerminationGracePeriodSeconds != 1 {
		t.Errorf("a negative period: %v", errs)
	}
	grace := r.Strategy.GracePeriod
	if grace(p, nil) != 0 {
		t.Error("unbound")
	}
	p.Spec.NodeName = "n"
	if grace(p, nil) != 30*time.Second || grace(p, new(int64(5))) != 5*time.Second || grace(p, new(int64(0))) != 0 || grace(p, new(int64(-3))) != time.Second {
		t.Error("bound")
	}
	p.Status.Phase = corev1.PodSucceeded
	if grace(p, nil) != 0 {
		t.Error("finished")
	}
}

// What `get pods` says of pods in various states.
func TestPodColumns(t *testing.T) {
	r := kindOf(t, "Pod")
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
	ended := func(code, signal int32, reason string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Signal: signal, Reason: reason, FinishedAt: metav1.NewTime(now.Add(-time.Minute))}}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	for _, tc := range []struct {
		name string
		set  func(*corev1.Pod)
		want string
	}{
		{"pending", func(*corev1.Pod) {}, "p|0/1|Pending|0|60s|<none>|<none>|<none>|<none>"},
		{"running", func(p *corev1.Pod) {
			p.Status.Phase, p.Spec.NodeName, p.Status.PodIP = corev1.PodRunning, "n1", "10.0.0.1"
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", Ready: true, State: running, RestartCount: 2, LastTerminationState: ended(1, 0, "Error")}}
		}, "p|1/1|Running|2 (60s ago)|60s|10.0.0.1|n1|<none>|<none>"},
		{"crashing", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: waiting("CrashLoopBackOff"), RestartCount: 3}}
		}, "p|0/1|CrashLoopBackOff|3|60s|…"},
		{"signalled", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: ended(137, 9, "")}}
		}, "p|0/1|Signal:9|0|60s|…"},
		{"initializing", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "a"}, {Name: "b"}}
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "a", State: ended(0, 0, "Completed")}, {Name: "b", State: waiting("ImagePullBackOff")}}
		}, "p|0/1|Init:ImagePullBackOff|0|60s|…"},
		{"init progress", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "a"}, {Name: "b"}}
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "a", State: ended(0, 0, "Completed")}, {Name: "b", State: running}}
		}, "p|0/1|Init:1/2|0|60s|…"},
		{"sidecar", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "a", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}
			p.Status.Phase = corev1.PodRunning
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "a", State: running, Started: new(true), Ready: true}}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: running, Ready: true}}
		}, "p|2/2|Running|0|60s|…"},
		{"terminating", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} }, "p|0/1|Terminating|0|60s|…"},
		{"gated", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "SchedulingGated"}}
			p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "x"}}
		}, "p|0/1|SchedulingGated|0|60s|<none>|<none>|<none>|0/1"},
	} {
		obj, _ := kindtest.New(t, r, pod)
		p := obj.(*corev1.Pod)
		p.CreationTimestamp = metav1.NewTime(now.Add(-time.Minute))
		tc.set(p)
		line := ""
		for _, c := range r.Columns {
			line += "|" + c.Cell(p, now)
		}
		line = line[1:]
		if want, isPrefix := strings.CutSuffix(tc.want, "…"); line != tc.want && !(isPrefix && strings.HasPrefix(line, want)) {
			t.Errorf("%s: %s", tc.name, line)
		}
	}
}

// Containers of a pod that may restart all of them come back to life, whatever their own policies say.
func TestPodStatusRestartingAll(t *testing.T) {
	r := kindOf(t, "Pod")
	obj, errs := kindtest.New(t, r, kindtest.Edit(t, pod, `spec: {restartPolicy: Never, initContainers: [{name: i, image: i}, {name: s, image: s, restartPolicy: Always,
		restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [42]}}]}]}`))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	old := obj.(*corev1.Pod)
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
	old.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: ended}}
	old.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "i", State: ended}}
	body := old.DeepCopy()
	for _, s := range []*corev1.ContainerStatus{&body.Status.ContainerStatuses[0], &body.Status.InitContainerStatuses[0]} {
		s.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	}
	sub := r.Subresources["status"]
	changed, err := sub.Apply(old, body, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if errs := sub.Validate(changed, old); len(errs) > 0 {
		t.Error(errs)
	}
}

// A status update may not bring an ended container back to life, nor change the quality of service.
func TestPodStatus(t *testing.T) {
	r := kindOf(t, "Pod")
	obj, _ := kindtest.New(t, r, kindtest.Edit(t, pod, "spec: {restartPolicy: OnFailure}"))
	old := obj.(*corev1.Pod)
	old.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}}
	body := old.DeepCopy()
	body.Spec.NodeName = "ignored"
	body.Status.QOSClass = corev1.PodQOSGuaranteed
	body.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	body.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "10.0.0.2"}}
	sub := r.Subresources["status"]
	changed, err := sub.Apply(old, body, time.Time{})
	if err != nil || changed.(*corev1.Pod).Spec.NodeName != "" {
		t.Fatalf("%v %+v", err, changed)
	}
	got := strings.Join(kindtest.Texts(sub.Validate(changed, old)), "\n")
	want := `status.qosClass: Invalid value: "Guaranteed": field is immutable
status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state
status.podIPs: Invalid value: [{"ip":"10.0.0.1"},{"ip":"10.0.0.2"}]: may specify no more than one IP for each IP family`
	if got != want {
		t.Error(got)
	}
}

package authz

import (
	rbacv1 "k8s.io/api/rbac/v1"

	"bareboat.dev/apiserver/authn"
)

const (
	schedulerUser         = "system:kube-scheduler"
	controllerManagerUser = "system:kube-controller-manager"
	proxyUser             = "system:kube-proxy"
	dnsUser               = "system:bareboat:dns"
)

// leading is what a component needs to elect its leader with a Lease of its own name.
func leading(name string) []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule(verbs("create", "list", "watch"), "coordination.k8s.io", "leases"),
		named(rule(verbs("get", "update", "patch"), "coordination.k8s.io", "leases"), name),
	}
}

func (p *Policy) components() {
	p.role("system:kube-scheduler", append(leading("kube-scheduler"),
		events(),
		rule(read, "", "nodes"),
		rule(verbs("delete", "get", "list", "watch"), "", "pods"),
		rule(verbs("create"), "", "bindings", "pods/binding"),
		rule(verbs("patch", "update"), "", "pods/status"),
		rule(read, "", "replicationcontrollers", "services", "namespaces"),
		rule(read, "apps", "replicasets", "statefulsets"),
		rule(read, "policy", "poddisruptionbudgets"),
		rule(read, "", "persistentvolumeclaims", "persistentvolumes"),
		rule(read, "scheduling.k8s.io", "priorityclasses"),
		rule(verbs("create"), "authentication.k8s.io", "tokenreviews"),
		rule(verbs("create"), "authorization.k8s.io", "subjectaccessreviews"),
		rule(read, "storage.k8s.io", "csidrivers", "csinodes", "csistoragecapacities"),
		rule(verbs("get", "list", "patch", "update", "watch"), "resource.k8s.io", "resourceclaims", "resourceclaims/status"),
		rule(read, "resource.k8s.io", "deviceclasses", "devicetaintrules", "resourceslices"),
	)...)
	p.bind("system:kube-scheduler", user(schedulerUser))
	p.role("system:volume-scheduler",
		rule(verbs("get", "list", "patch", "update", "watch"), "", "persistentvolumes"),
		rule(read, "storage.k8s.io", "storageclasses"),
		rule(verbs("get", "list", "patch", "update", "watch"), "", "persistentvolumeclaims"))
	p.bind("system:volume-scheduler", user(schedulerUser))

	p.role("system:node-proxier",
		rule(verbs("list", "watch"), "", "services", "endpoints"),
		rule(read, "", "nodes"),
		events(),
		rule(verbs("list", "watch"), "discovery.k8s.io", "endpointslices"),
		rule(verbs("list", "watch"), "networking.k8s.io", "servicecidrs", "networkpolicies"),
		rule(verbs("list", "watch"), "", "pods", "namespaces"))
	p.bind("system:node-proxier", user(proxyUser))

	p.role(dnsUser,
		rule(verbs("list", "watch"), "", "endpoints", "services", "pods", "namespaces", "nodes"),
		rule(verbs("list", "watch"), "discovery.k8s.io", "endpointslices"),
		events())
	p.bind(dnsUser, user(dnsUser))

	p.role("system:auth-delegator",
		rule(verbs("create"), "authentication.k8s.io", "tokenreviews"),
		rule(verbs("create"), "authorization.k8s.io", "subjectaccessreviews"))
	p.role("system:kubelet-api-admin",
		rule(read, "", "nodes"), rule(verbs("proxy"), "", "nodes"),
		rule(verbs("*"), "", "nodes/log", "nodes/metrics", "nodes/proxy", "nodes/stats"))
	p.role("system:node-bootstrapper", rule(verbs("create", "get", "list", "watch"), "certificates.k8s.io", "certificatesigningrequests"))
	p.bind("system:node-bootstrapper", group("system:bootstrappers:bareboat:default-node-token"))
	p.role("system:certificates.k8s.io:certificatesigningrequests:nodeclient", rule(verbs("create"), "certificates.k8s.io", "certificatesigningrequests/nodeclient"))
	p.bind("system:certificates.k8s.io:certificatesigningrequests:nodeclient", group("system:bootstrappers:bareboat:default-node-token"))
	p.role("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", rule(verbs("create"), "certificates.k8s.io", "certificatesigningrequests/selfnodeclient"))
	p.bind("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", group(authn.Nodes))
	p.role("system:persistent-volume-provisioner",
		rule(verbs("create", "delete", "get", "list", "watch"), "", "persistentvolumes"),
		rule(verbs("get", "list", "update", "watch"), "", "persistentvolumeclaims"),
		rule(read, "storage.k8s.io", "storageclasses"), rule(verbs("watch"), "", "events"), events())
}

// controllers makes the roles of the controllers.
func (p *Policy) controllers() {
	p.role("system:kube-controller-manager", append(leading("kube-controller-manager"),
		events(),
		rule(verbs("create"), "", "secrets", "serviceaccounts"),
		rule(verbs("delete"), "", "secrets"),
		rule(verbs("get"), "", "configmaps", "namespaces", "secrets", "serviceaccounts"),
		rule(verbs("update"), "", "secrets", "serviceaccounts"),
		rule(verbs("create"), "authentication.k8s.io", "tokenreviews"),
		rule(verbs("create"), "authorization.k8s.io", "subjectaccessreviews"),
		rule(verbs("list", "watch"), "*", "*"),
		rule(verbs("create"), "", "serviceaccounts/token"),
		paths("/api", "/api/*", "/apis", "/apis/*"),
	)...)
	p.bind("system:kube-controller-manager", user(controllerManagerUser))
	for _, c := range controllerRoles() {
		name := "system:controller:" + c.name
		p.role(name, c.rules...)
		p.bind(name, serviceAccount("kube-system", c.name), user(controllerManagerUser))
	}
}

type controllerRole struct {
	name  string
	rules []rbacv1.PolicyRule
}

func controllerRoles() []controllerRole {
	full := verbs("create", "delete", "get", "list", "patch", "update", "watch")
	change := verbs("get", "list", "patch", "update", "watch")
	scaleAll := rbacv1.PolicyRule{Verbs: verbs("get", "update", "patch"), APIGroups: []string{"*"}, Resources: []string{"*/scale"}}
	return []controllerRole{
		{"deployment-controller", rules(events(),
			rule(change, "apps", "deployments"), rule(verbs("patch", "update"), "apps", "deployments/status", "deployments/finalizers"),
			rule(full, "apps", "replicasets"), rule(verbs("get", "list", "update", "watch"), "", "pods"))},
		{"replicaset-controller", rules(events(),
			rule(change, "apps", "replicasets"), rule(verbs("patch", "update"), "apps", "replicasets/status", "replicasets/finalizers"),
			rule(full, "", "pods"))},
		{"replication-controller", rules(events(),
			rule(change, "", "replicationcontrollers"), rule(verbs("patch", "update"), "", "replicationcontrollers/status", "replicationcontrollers/finalizers"),
			rule(full, "", "pods"))},
		{"statefulset-controller", rules(events(),
			rule(change, "apps", "statefulsets"), rule(verbs("patch", "update"), "apps", "statefulsets/status", "statefulsets/finalizers"),
			rule(full, "", "pods"), rule(full, "apps", "controllerrevisions"), rule(full, "", "persistentvolumeclaims"))},
		{"daemon-set-controller", rules(events(),
			rule(change, "apps", "daemonsets"), rule(verbs("patch", "update"), "apps", "daemonsets/status", "daemonsets/finalizers"),
			rule(read, "", "nodes"), rule(full, "", "pods"), rule(verbs("create"), "", "pods/binding"), rule(full, "apps", "controllerrevisions"))},
		{"job-controller", rules(events(),
			rule(change, "batch", "jobs"), rule(verbs("patch", "update"), "batch", "jobs/status", "jobs/finalizers"), rule(full, "", "pods"))},
		{"cronjob-controller", rules(events(),
			rule(change, "batch", "cronjobs"), rule(verbs("patch", "update"), "batch", "cronjobs/status", "cronjobs/finalizers"),
			rule(full, "batch", "jobs"), rule(verbs("delete", "list"), "", "pods"))},
		{"node-controller", rules(events(),
			rule(verbs("delete", "get", "list", "patch", "update", "watch"), "", "nodes"), rule(verbs("patch", "update"), "", "nodes/status"),
			rule(verbs("patch", "update"), "", "pods/status"), rule(verbs("delete", "get", "list", "watch"), "", "pods"),
			rule(read, "coordination.k8s.io", "leases"))},
		{"endpoint-controller", rules(events(),
			rule(read, "", "pods", "services"), rule(full, "", "endpoints"), rule(verbs("create"), "", "endpoints/restricted"))},
		{"endpointslice-controller", rules(events(),
			rule(read, "", "nodes", "pods", "services"), rule(verbs("update"), "", "services/finalizers"), rule(full, "discovery.k8s.io", "endpointslices"),
			rule(verbs("create"), "discovery.k8s.io", "endpointslices/restricted"))},
		{"endpointslicemirroring-controller", rules(events(),
			rule(read, "", "endpoints", "services"), rule(verbs("update"), "", "endpoints/finalizers"), rule(full, "discovery.k8s.io", "endpointslices"),
			rule(verbs("create"), "discovery.k8s.io", "endpointslices/restricted"))},
		{"namespace-controller", rules(
			rule(verbs("delete", "get", "list", "watch"), "", "namespaces"), rule(verbs("update", "patch"), "", "namespaces/finalize", "namespaces/status"),
			rule(verbs("delete", "deletecollection", "get", "list"), "*", "*"))},
		{"generic-garbage-collector", rules(events(), rule(verbs("delete", "get", "list", "patch", "update", "watch"), "*", "*"))},
		{"pod-garbage-collector", rules(rule(verbs("delete", "list", "watch"), "", "pods"), rule(verbs("get", "list"), "", "nodes"), rule(verbs("patch"), "", "pods/status"))},
		{"service-account-controller", rules(events(), rule(verbs("create", "get", "list", "watch"), "", "serviceaccounts"), rule(read, "", "namespaces"))},
		{"root-ca-cert-publisher", rules(events(), rule(full, "", "configmaps"), rule(read, "", "namespaces"))},
		{"certificate-controller", rules(events(),
			rule(verbs("delete", "get", "list", "watch"), "certificates.k8s.io", "certificatesigningrequests"),
			rule(verbs("update"), "certificates.k8s.io", "certificatesigningrequests/approval", "certificatesigningrequests/status"),
			named(rule(verbs("approve"), "certificates.k8s.io", "signers"), "kubernetes.io/kube-apiserver-client-kubelet"),
			named(rule(verbs("sign"), "certificates.k8s.io", "signers"), "kubernetes.io/kube-apiserver-client", "kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving", "kubernetes.io/legacy-unknown"),
			rule(verbs("create"), "authorization.k8s.io", "subjectaccessreviews"))},
		{"podcertificaterequestcleaner-controller", rules(rule(verbs("delete", "get", "list", "watch"), "certificates.k8s.io", "podcertificaterequests"))},
		{"storage-version-migrator-controller", rules(
			rule(verbs("list", "patch"), "*", "*"), rule(verbs("update"), "storagemigration.k8s.io", "storageversionmigrations/status"),
			rule(verbs("get"), "apiextensions.k8s.io", "customresourcedefinitions"), rule(verbs("update"), "apiextensions.k8s.io", "customresourcedefinitions/status"))},
		{"disruption-controller", rules(events(),
			rule(read, "policy", "poddisruptionbudgets"), rule(verbs("patch", "update"), "policy", "poddisruptionbudgets/status"),
			rule(read, "", "pods", "replicationcontrollers"), rule(read, "apps", "deployments", "replicasets", "statefulsets"), rule(verbs("patch", "update"), "", "pods/status"))},
		{"resourcequota-controller", rules(events(), rule(verbs("list", "watch"), "*", "*"), rule(verbs("patch", "update"), "", "resourcequotas/status"))},
		{"horizontal-pod-autoscaler", rules(events(), scaleAll,
			rule(read, "autoscaling", "horizontalpodautoscalers"), rule(verbs("patch", "update"), "autoscaling", "horizontalpodautoscalers/status"),
			rule(verbs("list"), "", "pods"), rule(verbs("list"), "metrics.k8s.io", "pods"),
			rule(verbs("get", "list"), "custom.metrics.k8s.io", "*"), rule(verbs("get", "list"), "external.metrics.k8s.io", "*"))},
		{"persistent-volume-binder", rules(events(),
			rule(full, "", "persistentvolumes"), rule(verbs("patch", "update"), "", "persistentvolumes/status", "persistentvolumeclaims/status"),
			rule(change, "", "persistentvolumeclaims"), rule(full, "", "pods"), rule(read, "storage.k8s.io", "storageclasses"), rule(read, "", "nodes"))},
		{"local-path-provisioner", rules(events(),
			rule(full, "", "persistentvolumes"), rule(change, "", "persistentvolumeclaims"), rule(verbs("patch", "update"), "", "persistentvolumeclaims/status"),
			rule(verbs("create", "get", "list", "watch"), "storage.k8s.io", "storageclasses"), rule(read, "", "nodes"))},
		{"attachdetach-controller", rules(events(),
			rule(read, "", "persistentvolumes", "persistentvolumeclaims", "pods", "nodes"), rule(read, "storage.k8s.io", "csidrivers", "csinodes"),
			rule(full, "storage.k8s.io", "volumeattachments"))},
		{"ephemeral-volume-controller", rules(events(),
			rule(read, "", "pods"), rule(verbs("update"), "", "pods/finalizers"), rule(verbs("create", "get", "list", "watch"), "", "persistentvolumeclaims"))},
		{"resource-claim-controller", rules(events(),
			rule(read, "", "pods"), rule(verbs("update"), "", "pods/finalizers"), rule(verbs("patch", "update"), "", "pods/status"),
			rule(read, "resource.k8s.io", "resourceclaimtemplates"), rule(full, "resource.k8s.io", "resourceclaims"),
			rule(verbs("patch", "update"), "resource.k8s.io", "resourceclaims/status"))},
		{"device-taint-eviction-controller", rules(events(),
			rule(verbs("delete", "get", "list", "watch"), "", "pods"), rule(verbs("patch", "update"), "", "pods/status"),
			rule(read, "resource.k8s.io", "resourceclaims", "resourceslices", "devicetaintrules"), rule(verbs("patch", "update"), "resource.k8s.io", "devicetaintrules/status"))},
		{"pvc-protection-controller", rules(events(), rule(change, "", "persistentvolumeclaims"), rule(read, "", "pods"))},
		{"pv-protection-controller", rules(events(), rule(change, "", "persistentvolumes"))},
		{"ttl-after-finished-controller", rules(events(), rule(verbs("delete", "get", "list", "watch"), "batch", "jobs"))},
		{"clusterrole-aggregation-controller", rules(rule(verbs("escalate", "get", "list", "patch", "update", "watch"), "rbac.authorization.k8s.io", "clusterroles"))},
		{"service-controller", rules(events(), rule(read, "", "services", "nodes"), rule(verbs("patch", "update"), "", "services/status", "services"))},
		{"route-controller", rules(events(), rule(verbs("list", "watch"), "", "nodes"), rule(verbs("patch"), "", "nodes/status"))},
		{"legacy-service-account-token-cleaner", rules(rule(verbs("get", "delete", "list", "patch", "watch"), "", "secrets"), rule(read, "", "pods", "serviceaccounts"))},
		{"token-cleaner", rules(events(), rule(verbs("delete", "get", "list", "watch"), "", "secrets"))},
		{"bootstrap-signer", rules(events(), rule(read, "", "secrets", "configmaps"), rule(verbs("update"), "", "configmaps"))},
	}
}

func rules(r ...rbacv1.PolicyRule) []rbacv1.PolicyRule { return r }

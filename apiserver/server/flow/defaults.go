package flow

import (
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/authn"
)

// Levels are the priority levels that Kubernetes makes in every cluster: two that must be there, and those it suggests.
func Levels() []*flowcontrolv1.PriorityLevelConfiguration {
	zero := int32(0)
	exempt := level("exempt")
	exempt.Spec = flowcontrolv1.PriorityLevelConfigurationSpec{
		Type: flowcontrolv1.PriorityLevelEnablementExempt, Exempt: &flowcontrolv1.ExemptPriorityLevelConfiguration{NominalConcurrencyShares: &zero, LendablePercent: &zero},
	}
	reject := limited("catch-all", 5, 0)
	reject.Spec.Limited.LimitResponse = flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject}
	return []*flowcontrolv1.PriorityLevelConfiguration{
		exempt, reject,
		queueing(limited("node-high", 40, 25), 64, 6), queueing(limited("system", 30, 33), 64, 6), queueing(limited("leader-election", 10, 0), 16, 4),
		queueing(limited("workload-high", 40, 50), 128, 6), queueing(limited("workload-low", 100, 90), 128, 6), queueing(limited("global-default", 20, 50), 128, 6),
	}
}

func level(name string) *flowcontrolv1.PriorityLevelConfiguration {
	return &flowcontrolv1.PriorityLevelConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: autoUpdate()}}
}

func limited(name string, shares, lendable int32) *flowcontrolv1.PriorityLevelConfiguration {
	l := level(name)
	l.Spec = flowcontrolv1.PriorityLevelConfigurationSpec{
		Type: flowcontrolv1.PriorityLevelEnablementLimited, Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{NominalConcurrencyShares: &shares, LendablePercent: &lendable},
	}
	return l
}

// queueLength is how many requests wait in each queue, everywhere.
const queueLength = 50

func queueing(l *flowcontrolv1.PriorityLevelConfiguration, queues, hand int32) *flowcontrolv1.PriorityLevelConfiguration {
	l.Spec.Limited.LimitResponse = flowcontrolv1.LimitResponse{
		Type: flowcontrolv1.LimitResponseTypeQueue, Queuing: &flowcontrolv1.QueuingConfiguration{Queues: queues, HandSize: hand, QueueLengthLimit: queueLength},
	}
	return l
}

func autoUpdate() map[string]string {
	return map[string]string{flowcontrolv1.AutoUpdateAnnotationKey: "true"}
}

// Schemas are the FlowSchemas that Kubernetes makes in every cluster.
func Schemas() []*flowcontrolv1.FlowSchema {
	all := []string{"*"}
	anything := flowcontrolv1.ResourcePolicyRule{Verbs: all, APIGroups: all, Resources: all, Namespaces: all, ClusterScope: true}
	anywhere := flowcontrolv1.NonResourcePolicyRule{Verbs: all, NonResourceURLs: all}
	leases := func(namespaces ...string) flowcontrolv1.ResourcePolicyRule {
		return flowcontrolv1.ResourcePolicyRule{Verbs: []string{"get", "create", "update"}, APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Namespaces: namespaces}
	}
	rules := func(subjects []flowcontrolv1.Subject, resources []flowcontrolv1.ResourcePolicyRule, paths ...flowcontrolv1.NonResourcePolicyRule) flowcontrolv1.PolicyRulesWithSubjects {
		return flowcontrolv1.PolicyRulesWithSubjects{Subjects: subjects, ResourceRules: resources, NonResourceRules: paths}
	}
	whole := func(subjects ...flowcontrolv1.Subject) flowcontrolv1.PolicyRulesWithSubjects {
		return rules(subjects, []flowcontrolv1.ResourcePolicyRule{anything}, anywhere)
	}
	everybody := []flowcontrolv1.Subject{group(authn.Unauthenticated), group(authn.AllAuthenticated)}
	probes := flowcontrolv1.NonResourcePolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz", "/readyz", "/livez"}}
	nodeHigh := []flowcontrolv1.ResourcePolicyRule{
		{Verbs: all, APIGroups: []string{""}, Resources: []string{"nodes", "nodes/status"}, Namespaces: all, ClusterScope: true},
		{Verbs: all, APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Namespaces: all},
	}
	const byUser, byNamespace = flowcontrolv1.FlowDistinguisherMethodByUserType, flowcontrolv1.FlowDistinguisherMethodByNamespaceType
	manager, scheduler := user("system:kube-controller-manager"), user("system:kube-scheduler")
	return []*flowcontrolv1.FlowSchema{
		schema("exempt", 1, "exempt", "", whole(group(authn.Masters))),
		schema("probes", 2, "exempt", "", rules(everybody, nil, probes)),
		schema("system-leader-election", 100, "leader-election", byUser, rules([]flowcontrolv1.Subject{manager, scheduler}, []flowcontrolv1.ResourcePolicyRule{leases(metav1.NamespaceSystem)})),
		schema("workload-leader-election", 200, "leader-election", byUser,
			rules([]flowcontrolv1.Subject{serviceAccount(metav1.NamespaceSystem, "*")}, []flowcontrolv1.ResourcePolicyRule{leases(all...)})),
		schema("system-node-high", 400, "node-high", byUser, rules([]flowcontrolv1.Subject{group(authn.Nodes)}, nodeHigh)),
		schema("system-nodes", 500, "system", byUser, whole(group(authn.Nodes))),
		schema("kube-controller-manager", 800, "workload-high", byNamespace, whole(manager)),
		schema("kube-scheduler", 800, "workload-high", byNamespace, whole(scheduler)),
		schema("kube-system-service-accounts", 900, "workload-high", byNamespace, whole(serviceAccount(metav1.NamespaceSystem, "*"))),
		schema("service-accounts", 9000, "workload-low", byUser, whole(group(authn.ServiceAccounts))),
		schema("global-default", 9900, "global-default", byUser, whole(everybody...)),
		schema("catch-all", 10000, "catch-all", byUser, whole(everybody...)),
	}
}

func schema(name string, precedence int32, level string, method flowcontrolv1.FlowDistinguisherMethodType, rules ...flowcontrolv1.PolicyRulesWithSubjects) *flowcontrolv1.FlowSchema {
	s := &flowcontrolv1.FlowSchema{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: autoUpdate()}, Spec: flowcontrolv1.FlowSchemaSpec{
		PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: level}, MatchingPrecedence: precedence, Rules: rules,
	}}
	if method != "" {
		s.Spec.DistinguisherMethod = &flowcontrolv1.FlowDistinguisherMethod{Type: method}
	}
	return s
}

func user(name string) flowcontrolv1.Subject {
	return flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: name}}
}

func group(name string) flowcontrolv1.Subject {
	return flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindGroup, Group: &flowcontrolv1.GroupSubject{Name: name}}
}

func serviceAccount(namespace, name string) flowcontrolv1.Subject {
	return flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindServiceAccount, ServiceAccount: &flowcontrolv1.ServiceAccountSubject{Namespace: namespace, Name: name}}
}

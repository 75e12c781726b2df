package server

import (
	"fmt"
	"slices"

	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/admission/expression"
	"bareboat.dev/apiserver/admission/hooks"
	"bareboat.dev/apiserver/admission/limitrange"
	"bareboat.dev/apiserver/admission/podsecurity"
	"bareboat.dev/apiserver/admission/policies"
	"bareboat.dev/apiserver/admission/quota"
	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/server/metrics"
)

// plugins are the built-in admission plugins, in the order in which Kubernetes runs them.
func (s *Server) plugins(authorizer authz.Authorizer) ([]admission.Plugin, error) {
	known := admission.Remember(s.pipeline, schema.GroupResource{Resource: "namespaces"}, schema.GroupResource{Resource: "serviceaccounts"},
		schema.GroupResource{Group: schedulingv1.GroupName, Resource: "priorityclasses"})
	podSecurity, err := podsecurity.Plugin(known, s.pipeline, s.cfg.Admission.PodSecurity, s.cfg.Now)
	if err != nil {
		return nil, fmt.Errorf("PodSecurity: %w", err)
	}
	compiler := expression.NewCompiler()
	counts := metrics.NewAdmission(s.cfg.Metrics)
	asked := hooks.Config{Reader: s.pipeline, Client: s.webhooks, Authorizer: authorizer, Compiler: compiler, ID: s.pipeline.NewID, Observe: counts.Asked, Now: s.cfg.Now}
	held := policies.Config{Reader: s.pipeline, Authorizer: authorizer, Compiler: compiler, Types: s.pipeline.Types, Observe: counts.Checked, Now: s.cfg.Now}
	all := []admission.Plugin{
		admission.NamespaceLifecycle(known),
		limitrange.Plugin(s.pipeline),
		admission.ServiceAccount(admission.ServiceAccountConfig{
			Reader: known, MountTokens: s.cfg.Tokens.Signer != nil, Suffix: s.pipeline.Suffix,
		}),
		admission.NodeRestriction(s.pipeline, authorizer),
		admission.TaintNodesByCondition(),
		podSecurity,
		admission.Priority(admission.PriorityClasses(known)),
		admission.DefaultTolerationSeconds(),
		admission.CertificateApproval(authorizer),
		admission.CertificateSigning(authorizer),
		admission.CertificateSubjectRestriction(),
		admission.ClusterTrustBundleAttest(authorizer),
		admission.DefaultIngressClass(s.pipeline),
		admission.StorageObjectInUseProtection(),
		admission.DefaultStorageClass(s.pipeline),
		admission.PersistentVolumeClaimResize(s.pipeline),
		admission.RuntimeClass(s.pipeline),
		admission.PodTopologyLabels(s.pipeline),
		policies.Mutating(held),
		hooks.Mutating(asked),
		policies.Validating(held),
		hooks.Validating(asked),
		admission.Escalation(&s.rules.rbac, s.pipeline, authorizer),
		policies.Readable(s.pipeline, authorizer),
		admission.AdminAccess(s.pipeline),
		quota.Plugin(s.pipeline, s.cfg.Now),
	}
	return slices.DeleteFunc(all, func(p admission.Plugin) bool { return slices.Contains(s.cfg.Disabled, p.Name) }), nil
}

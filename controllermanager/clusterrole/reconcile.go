// Package clusterrole fills aggregated ClusterRoles with the rules of those that their selectors match.
package clusterrole

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/plan"
)

func kind() client.Kind[*rbacv1.ClusterRole] {
	return client.Kind[*rbacv1.ClusterRole]{
		Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles", KindName: "ClusterRole", New: func() *rbacv1.ClusterRole { return new(rbacv1.ClusterRole) },
	}
}

// Reconcile plans the rules of an aggregated role: those of every other role that one of its selectors matches, in the order of
// the roles' names, each once.
func Reconcile(role *rbacv1.ClusterRole, all []*rbacv1.ClusterRole) plan.Plan {
	var p plan.Plan
	if role.AggregationRule == nil || role.DeletionTimestamp != nil {
		return p
	}
	var rules []rbacv1.PolicyRule
	for _, other := range slices.SortedFunc(slices.Values(all), func(a, b *rbacv1.ClusterRole) int { return strings.Compare(a.Name, b.Name) }) {
		if other.Name == role.Name || !selected(role.AggregationRule, other) {
			continue
		}
		for _, rule := range other.Rules {
			if !slices.ContainsFunc(rules, func(have rbacv1.PolicyRule) bool { return apiequality.Semantic.DeepEqual(have, rule) }) {
				rules = append(rules, rule)
			}
		}
	}
	if apiequality.Semantic.DeepEqual(rules, role.Rules) {
		return p
	}
	next := role.DeepCopy()
	next.Rules = rules
	p.Add(plan.Update(plan.Of(kind()), next))
	return p
}

func selected(rule *rbacv1.AggregationRule, role *rbacv1.ClusterRole) bool {
	for i := range rule.ClusterRoleSelectors {
		sel, err := metav1.LabelSelectorAsSelector(&rule.ClusterRoleSelectors[i])
		if err == nil && sel.Matches(labels.Set(role.Labels)) {
			return true
		}
	}
	return false
}

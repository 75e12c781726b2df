package clusterrole

import (
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
)

// An aggregated role has the rules of what it selects, each once, also through another aggregated role, and no others.
func TestReconcile(t *testing.T) {
	k := plan.Of(kind())
	w := plantest.New()
	rule := func(resource string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: []string{"get"}, Resources: []string{resource}}
	}
	put := func(name, label, from string, rules ...rbacv1.PolicyRule) {
		role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"to": label}}, Rules: rules}
		if from != "" {
			role.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"to": from}}}}
		}
		plantest.Put(w, k, role)
	}
	put("view", "edit", "view", rule("stale"))
	put("edit", "", "edit")
	put("a", "view", "", rule("pods"), rule("services"))
	put("b", "view", "", rule("pods"))
	put("c", "edit", "", rule("secrets"))
	story := plantest.Story{Writes: Controller().Writes, Start: w, Plans: func(w *plantest.World) map[string]plan.Plan {
		out := map[string]plan.Plan{}
		all := plantest.List[*rbacv1.ClusterRole](w, k)
		for _, role := range all {
			out[role.Name] = Reconcile(role, all)
		}
		return out
	}}
	end := story.Run(t)
	for name, want := range map[string]int{"view": 2, "edit": 3, "a": 2} {
		if got := plantest.Get[*rbacv1.ClusterRole](end, k, "", name).Rules; len(got) != want {
			t.Errorf("%s has %v, want %d rules", name, got, want)
		}
	}
	story.Crash(t)
	story.Stale(t, 1, 2)
}

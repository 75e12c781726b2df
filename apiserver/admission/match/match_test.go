package match

import (
	"context"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/registry"
)

// world has one namespace and three resources, of which two are the same objects.
type world struct{ set *registry.Set }

func (w world) Set() *registry.Set { return w.set }
func (world) Object(_ context.Context, _, _, _, name string, _ bool) (registry.Object, bool, error) {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"env": "prod"}}}, true, nil
}
func (world) Objects(context.Context, string, string, string) ([]registry.Object, error) {
	return nil, nil
}
func (world) Collection(string, string) (admission.Collection, bool) { return nil, false }

func resource(group, version, plural string, namespaced bool, prefix string) *registry.Resource {
	return &registry.Resource{
		Kind: schema.GroupVersionKind{Group: group, Version: version, Kind: plural}, Plural: plural, Namespaced: namespaced, KeyPrefix: prefix,
		New:          func() registry.Object { return &autoscalingv1.HorizontalPodAutoscaler{} },
		Subresources: map[string]registry.Subresource{"status": {Verbs: []string{"get", "update"}}, "binding": {Verbs: []string{"create"}}},
	}
}

// TestMatch shows what each part of the criteria selects.
func TestMatch(t *testing.T) {
	pods, nodes := resource("", "v1", "pods", true, "/pods/"), resource("", "v1", "nodes", false, "/nodes/")
	one, two := resource("autoscaling", "v1", "scalers", true, "/scalers/"), resource("autoscaling", "v2", "scalers", true, "/scalers/")
	set, err := registry.NewSet(pods, nodes, one, two)
	if err != nil {
		t.Fatal(err)
	}
	labeled := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: map[string]string{"app": "web"}}}
	plain := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}}
	rule := func(op, group, version string, resources ...string) admissionregistrationv1.NamedRuleWithOperations {
		return admissionregistrationv1.NamedRuleWithOperations{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
			Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.OperationType(op)},
			Rule:       admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{version}, Resources: resources},
		}}
	}
	scope := func(r admissionregistrationv1.NamedRuleWithOperations, s admissionregistrationv1.ScopeType) admissionregistrationv1.NamedRuleWithOperations {
		r.Scope = &s
		return r
	}
	named := func(r admissionregistrationv1.NamedRuleWithOperations, names ...string) admissionregistrationv1.NamedRuleWithOperations {
		r.ResourceNames = names
		return r
	}
	type rules = []admissionregistrationv1.NamedRuleWithOperations
	selects := func(key, value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
	exact := admissionregistrationv1.Exact
	create := func(r *registry.Resource, obj registry.Object) *admission.Attributes {
		return &admission.Attributes{Operation: admission.Create, Resource: r, Namespace: "ns", Name: "p", Object: obj}
	}
	update := func(sub string, obj, old registry.Object) *admission.Attributes {
		return &admission.Attributes{Operation: admission.Update, Resource: pods, Subresource: sub, Namespace: "ns", Name: "p", Object: obj, Old: old}
	}
	node := &admission.Attributes{Operation: admission.Create, Resource: nodes, Object: plain}
	tests := map[string]struct {
		match admissionregistrationv1.MatchResources
		write *admission.Attributes
		as    *registry.Resource
	}{
		"pods":                 {admissionregistrationv1.MatchResources{ResourceRules: rules{rule("CREATE", "", "v1", "pods")}}, create(pods, plain), pods},
		"everything":           {admissionregistrationv1.MatchResources{ResourceRules: rules{rule("*", "*", "*", "*/*")}}, update("status", plain, plain), pods},
		"another operation":    {admissionregistrationv1.MatchResources{ResourceRules: rules{rule("UPDATE", "", "v1", "pods")}}, create(pods, plain), nil},
		"another group":        {admissionregistrationv1.MatchResources{ResourceRules: rules{rule("*", "apps", "v1", "pods")}}, create(pods, plain), nil},
		"no subresources":      {admissionregistrationv1.MatchResources{ResourceRules: rules{rule("*", "", "v1", "*")}}, update("status", plain, plain), nil},
		"a subresource":        {admissionregistrationv1.MatchResources{ResourceRules: rules{rule("*", "", "v1", "*/status")}}, update("status", plain, plain), pods},
		"a command":            {admissionregistrationv1.MatchResources{ResourceRules: rules{rule("CREATE", "", "v1", "pods/binding")}}, update("binding", plain, plain), pods},
		"namespaced only":      {admissionregistrationv1.MatchResources{ResourceRules: rules{scope(rule("*", "", "v1", "*"), admissionregistrationv1.NamespacedScope)}}, node, nil},
		"cluster only":         {admissionregistrationv1.MatchResources{ResourceRules: rules{scope(rule("*", "", "v1", "*"), admissionregistrationv1.ClusterScope)}}, node, nodes},
		"a name":               {admissionregistrationv1.MatchResources{ResourceRules: rules{named(rule("*", "", "v1", "pods"), "p")}}, create(pods, plain), pods},
		"another name":         {admissionregistrationv1.MatchResources{ResourceRules: rules{named(rule("*", "", "v1", "pods"), "q")}}, create(pods, plain), nil},
		"excluded":             {admissionregistrationv1.MatchResources{ResourceRules: rules{rule("*", "*", "*", "*")}, ExcludeResourceRules: rules{rule("*", "", "v1", "pods")}}, create(pods, plain), nil},
		"labels":               {admissionregistrationv1.MatchResources{ResourceRules: rules{rule("*", "", "v1", "pods")}, ObjectSelector: selects("app", "web")}, create(pods, labeled), pods},
		"no labels":            {admissionregistrationv1.MatchResources{ResourceRules: rules{rule("*", "", "v1", "pods")}, ObjectSelector: selects("app", "web")}, create(pods, plain), nil},
		"labels taken off":     {admissionregistrationv1.MatchResources{ResourceRules: rules{rule("*", "", "v1", "pods")}, ObjectSelector: selects("app", "web")}, update("", plain, labeled), pods},
		"namespace":            {admissionregistrationv1.MatchResources{ResourceRules: rules{rule("*", "", "v1", "pods")}, NamespaceSelector: selects("env", "prod")}, create(pods, plain), pods},
		"another namespace":    {admissionregistrationv1.MatchResources{ResourceRules: rules{rule("*", "", "v1", "pods")}, NamespaceSelector: selects("env", "test")}, create(pods, plain), nil},
		"no namespace":         {admissionregistrationv1.MatchResources{ResourceRules: rules{rule("*", "", "v1", "nodes")}, NamespaceSelector: selects("env", "test")}, node, nodes},
		"equivalent":           {admissionregistrationv1.MatchResources{ResourceRules: rules{rule("*", "autoscaling", "v1", "scalers")}}, create(two, plain), one},
		"equivalent, exactly":  {admissionregistrationv1.MatchResources{ResourceRules: rules{rule("*", "autoscaling", "v1", "scalers")}, MatchPolicy: &exact}, create(two, plain), nil},
		"equivalent, excluded": {admissionregistrationv1.MatchResources{ResourceRules: rules{rule("*", "*", "*", "*")}, ExcludeResourceRules: rules{rule("*", "autoscaling", "v1", "scalers")}}, create(two, plain), nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := New(&tt.match)
			if err != nil {
				t.Fatal(err)
			}
			as, ok, err := c.Match(t.Context(), NewSource(world{set}).Write(tt.write))
			if err != nil || ok != (tt.as != nil) || as != tt.as && ok {
				t.Errorf("matched %t as %v, %v", ok, as, err)
			}
		})
	}
}

// Copies of copies end before they fill the memory.
func TestPatchIsBounded(t *testing.T) {
	text := `[{"op":"add","path":"/a","value":["0123456789"]}`
	for range 40 {
		text += `,{"op":"copy","from":"/a","path":"/a/-"}`
	}
	patch, err := jsonpatch.DecodePatch([]byte(text + "]"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Patch([]byte("{}"), patch); err == nil {
		t.Error("40 copies were made, each twice as large as the one before")
	}
	patch, err = jsonpatch.DecodePatch([]byte(`[{"op":"add","path":"/a","value":1},{"op":"copy","from":"/a","path":"/b"}]`))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Patch([]byte("{}"), patch); err != nil || string(got) != `{"a":1,"b":1}` {
		t.Errorf("%s, %v", got, err)
	}
}

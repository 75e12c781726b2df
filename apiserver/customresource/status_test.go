package customresource

import (
	"slices"
	"testing"
	"time"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	registryext "bareboat.dev/apiserver/registry/apiextensions"
)

// named is a definition with names.
func named(name, group string, names v1.CustomResourceDefinitionNames) *v1.CustomResourceDefinition {
	return &v1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1.CustomResourceDefinitionSpec{Group: group, Names: names},
	}
}

func a() *v1.CustomResourceDefinition {
	return named("as.x.com", "x.com", v1.CustomResourceDefinitionNames{Plural: "as", Singular: "a", Kind: "A", ListKind: "AList", ShortNames: []string{"aa"}})
}

var now = metav1.NewTime(time.Unix(1e9, 0))

// A definition's names are accepted first, and once they have been served it is established; then nothing changes any more.
func TestStatusSteps(t *testing.T) {
	d := a()
	one := nextStatus(d, []*v1.CustomResourceDefinition{d}, now)
	if one == nil || !registryext.Is(one, v1.NamesAccepted) || registryext.Is(one, v1.Established) || one.Status.AcceptedNames.Kind != "A" {
		t.Fatalf("first %+v", one)
	}
	if c := registryext.Condition(one, v1.Established); c.Reason != "Installing" {
		t.Errorf("established: %+v", c)
	}
	two := nextStatus(one, []*v1.CustomResourceDefinition{one}, now)
	if two == nil || !registryext.Is(two, v1.Established) {
		t.Fatalf("second %+v", two)
	}
	if three := nextStatus(two, []*v1.CustomResourceDefinition{two}, now); three != nil {
		t.Errorf("third %+v", three.Status)
	}
	if len(d.Status.Conditions) != 0 {
		t.Error("the argument was changed")
	}
}

// Names that another definition of the group has are not accepted, the others are, and come free when that one goes.
func TestStatusConflicts(t *testing.T) {
	first := a()
	first.Status.AcceptedNames = first.Spec.Names
	second := named("bs.x.com", "x.com", v1.CustomResourceDefinitionNames{Plural: "bs", Singular: "b", Kind: "A", ListKind: "BList", ShortNames: []string{"aa", "bb"}})
	all := []*v1.CustomResourceDefinition{first, second}
	got := nextStatus(second, all, now)
	c := registryext.Condition(got, v1.NamesAccepted)
	if c.Status != v1.ConditionFalse || c.Reason != "KindConflict" || c.Message != `"A" is already in use` {
		t.Errorf("condition %+v", c)
	}
	if n := got.Status.AcceptedNames; n.Plural != "bs" || n.Kind != "" || n.ListKind != "BList" || n.ShortNames != nil {
		t.Errorf("accepted %+v", n)
	}
	if e := registryext.Condition(got, v1.Established); e.Status != v1.ConditionFalse || e.Reason != "NotAccepted" {
		t.Errorf("established %+v", e)
	}
	if again := nextStatus(got, []*v1.CustomResourceDefinition{first, got}, now); again != nil {
		t.Errorf("the same conflict again: %+v", again.Status)
	}
	if free := nextStatus(got, []*v1.CustomResourceDefinition{got}, now); free == nil || !registryext.Is(free, v1.NamesAccepted) {
		t.Errorf("after the other one has gone: %+v", free)
	}
	elsewhere := named("bs.y.com", "y.com", second.Spec.Names)
	if got := nextStatus(elsewhere, append(all, elsewhere), now); !registryext.Is(got, v1.NamesAccepted) {
		t.Errorf("in another group: %+v", got.Status)
	}
}

// A definition that was established stays so whatever happens to its names.
func TestStatusStaysEstablished(t *testing.T) {
	d := a()
	d.Status.AcceptedNames = d.Spec.Names
	registryext.SetCondition(d, v1.CustomResourceDefinitionCondition{Type: v1.NamesAccepted, Status: v1.ConditionTrue}, now)
	registryext.SetCondition(d, v1.CustomResourceDefinitionCondition{Type: v1.Established, Status: v1.ConditionTrue}, now)
	d.Spec.Names.ShortNames = []string{"taken"}
	other := named("os.x.com", "x.com", v1.CustomResourceDefinitionNames{})
	other.Status.AcceptedNames.ShortNames = []string{"taken"}
	got := nextStatus(d, []*v1.CustomResourceDefinition{d, other}, now)
	if registryext.Is(got, v1.NamesAccepted) || !registryext.Is(got, v1.Established) || !slices.Equal(got.Status.AcceptedNames.ShortNames, []string{"aa"}) {
		t.Errorf("status %+v", got.Status)
	}
}

// Groups of the community's own say whether they are approved; schemas from before they had to be structural say what is wrong.
func TestStatusOtherConditions(t *testing.T) {
	d := named("as.x.k8s.io", "x.k8s.io", a().Spec.Names)
	d.Annotations = map[string]string{v1.KubeAPIApprovedAnnotation: "unapproved, a test"}
	d.Spec.PreserveUnknownFields = true
	got := nextStatus(d, []*v1.CustomResourceDefinition{d}, now)
	if c := registryext.Condition(got, v1.KubernetesAPIApprovalPolicyConformant); c == nil || c.Reason != "UnapprovedAnnotation" {
		t.Errorf("approval %+v", c)
	}
	if c := registryext.Condition(got, v1.NonStructuralSchema); c == nil || c.Message != "spec.preserveUnknownFields: Invalid value: true: must be false" {
		t.Errorf("structural %+v", c)
	}
	got.Spec.PreserveUnknownFields = false
	if again := nextStatus(got, []*v1.CustomResourceDefinition{got}, now); registryext.Condition(again, v1.NonStructuralSchema) != nil {
		t.Error("the condition stays after its cause")
	}
}

package review

import (
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Questions that kube-apiserver refuses, and why.
func TestQuestions(t *testing.T) {
	pods, path := &authorizationv1.ResourceAttributes{Resource: "pods"}, &authorizationv1.NonResourceAttributes{Path: "/"}
	somebody := &authorizationv1.SubjectAccessReviewSpec{User: "me"}
	selected := func(raw string, requirements ...metav1.FieldSelectorRequirement) *authorizationv1.ResourceAttributes {
		return &authorizationv1.ResourceAttributes{FieldSelector: &authorizationv1.FieldSelectorAttributes{RawSelector: raw, Requirements: requirements}}
	}
	const of = ` "" is invalid: `
	for name, c := range map[string]struct {
		q    question
		want string
	}{
		"good":          {question{kind: "SubjectAccessReview", subject: somebody, resource: pods}, ""},
		"about oneself": {question{kind: "SelfSubjectAccessReview", path: path}, ""},
		"nothing": {question{kind: "SelfSubjectAccessReview"}, `SelfSubjectAccessReview.authorization.k8s.io` + of +
			`spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified`},
		"both": {question{kind: "SelfSubjectAccessReview", resource: pods, path: path}, `SelfSubjectAccessReview.authorization.k8s.io` + of +
			`spec.nonResourceAttributes: Invalid value: {"path":"/"}: cannot be specified in combination with resourceAttributes`},
		"nobody": {question{kind: "SubjectAccessReview", subject: &authorizationv1.SubjectAccessReviewSpec{}, resource: pods}, `SubjectAccessReview.authorization.k8s.io` + of +
			`spec.user: Invalid value: "": at least one of user or group must be specified`},
		"local path": {question{kind: "LocalSubjectAccessReview", subject: somebody, resource: pods, path: path}, `LocalSubjectAccessReview.authorization.k8s.io` + of +
			`spec.nonResourceAttributes: Invalid value: {"path":"/"}: disallowed on this kind of request`},
		"empty selector": {question{kind: "SelfSubjectAccessReview", resource: selected("")}, `SelfSubjectAccessReview.authorization.k8s.io` + of +
			`spec.resourceAttributes.fieldSelector.requirements: Required value: when spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required`},
		"selector": {question{kind: "SelfSubjectAccessReview", resource: selected("a=b", metav1.FieldSelectorRequirement{Key: "k", Operator: "In", Values: []string{"v"}})},
			`SelfSubjectAccessReview.authorization.k8s.io` + of + `spec.resourceAttributes.fieldSelector.rawSelector: Invalid value: "a=b": may not specified at the same time as requirements`},
	} {
		err := c.q.check()
		if got := ""; err != nil {
			if got = err.Error(); got != c.want {
				t.Errorf("%s: %s", name, got)
			}
		} else if c.want != "" {
			t.Errorf("%s: accepted", name)
		}
	}
	byField, _ := pinned(selected("a=b,c!=d"))
	if len(byField) != 1 || byField["a"] != "b" {
		t.Errorf("pinned: %v", byField)
	}
}

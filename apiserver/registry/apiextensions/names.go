package apiextensions

import (
	"net/url"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

func (c *checker) requiredNames(path *field.Path, n *apiextensions.CustomResourceDefinitionNames) {
	c.Present(path.Child("plural"), n.Plural)
	c.Present(path.Child("singular"), n.Singular)
	c.Present(path.Child("kind"), n.Kind)
	c.Present(path.Child("listKind"), n.ListKind)
}

// checkNames checks those names that are there.
func checkNames(e *check.Errors, path *field.Path, n *apiextensions.CustomResourceDefinitionNames) {
	label := func(at *field.Path, name, shown, prefix string) {
		if bad := validation.IsDNS1035Label(name); len(bad) > 0 {
			e.Invalid(at, shown, prefix+strings.Join(bad, ","))
		}
	}
	const mixed = "may have mixed case, but should otherwise match: "
	for _, x := range []struct{ field, name, shown, prefix string }{
		{"plural", n.Plural, n.Plural, ""}, {"singular", n.Singular, n.Singular, ""},
		{"kind", strings.ToLower(n.Kind), n.Kind, mixed}, {"listKind", strings.ToLower(n.ListKind), n.ListKind, mixed},
	} {
		if x.name != "" {
			label(path.Child(x.field), x.name, x.shown, x.prefix)
		}
	}
	for i, name := range n.ShortNames {
		label(path.Child("shortNames").Index(i), name, name, "")
	}
	if n.Kind != "" && n.Kind == n.ListKind {
		e.Invalid(path.Child("listKind"), n.ListKind, "kind and listKind may not be the same")
	}
	for i, name := range n.Categories {
		label(path.Child("categories").Index(i), name, name, "")
	}
}

// Approval is whether a definition in one of the community's own groups has been approved (KEP-1111), as an annotation says.
type Approval int

// The approvals.
const (
	// Unprotected groups need none.
	Unprotected Approval = iota
	ApprovalMissing
	ApprovalInvalid
	Approved
	// ApprovalBypassed says openly that there is none.
	ApprovalBypassed
)

// Approve reads a definition's approval, and says what it found in Kubernetes' words.
func Approve(group string, annotations map[string]string) (Approval, string) {
	if !slices.ContainsFunc([]string{"k8s.io", "kubernetes.io"}, func(own string) bool { return group == own || strings.HasSuffix(group, "."+own) }) {
		return Unprotected, ""
	}
	const see = ", see https://github.com/kubernetes/enhancements/pull/1111"
	key := `"` + v1.KubeAPIApprovedAnnotation + `"`
	text := annotations[v1.KubeAPIApprovedAnnotation]
	u, err := url.ParseRequestURI(text)
	switch {
	case text == "":
		return ApprovalMissing, "protected groups must have approval annotation " + key + see
	case strings.HasPrefix(text, "unapproved"):
		return ApprovalBypassed, `not approved: "` + text + `"`
	case err == nil && u.Host != "" && u.Scheme != "":
		return Approved, "approved in " + text
	}
	return ApprovalInvalid, "protected groups must have approval annotation " + key + ` with either a URL or a reason starting with "unapproved"` + see
}

// approval holds new definitions, and those whose approval changes, to having a good one.
func (c *checker) approval(d, old *apiextensions.CustomResourceDefinition) {
	now, reason := Approve(d.Spec.Group, d.Annotations)
	if old != nil {
		if before, _ := Approve(d.Spec.Group, old.Annotations); before == now {
			return
		}
	}
	at := field.NewPath("metadata", "annotations").Key(v1.KubeAPIApprovedAnnotation)
	switch now {
	case ApprovalMissing:
		c.Required(at, reason)
	case ApprovalInvalid:
		c.Invalid(at, d.Annotations[v1.KubeAPIApprovedAnnotation], reason)
	}
}

package review

import (
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

// question is what an access review asks, and about whom.
type question struct {
	kind string
	meta metav1.ObjectMeta
	// subject is who is asked about: nil for oneself.
	subject  *authorizationv1.SubjectAccessReviewSpec
	resource *authorizationv1.ResourceAttributes
	path     *authorizationv1.NonResourceAttributes
}

// check refuses questions that make no sense, as kube-apiserver does.
func (q *question) check() error {
	var e check.Errors
	at := field.NewPath("spec")
	local := q.kind == "LocalSubjectAccessReview"
	switch {
	case q.resource != nil && q.path != nil && !local:
		e.Invalid(at.Child("nonResourceAttributes"), q.path, "cannot be specified in combination with resourceAttributes")
	case q.resource == nil && q.path == nil:
		e.Invalid(at.Child("resourceAttributes"), q.path, "exactly one of nonResourceAttributes or resourceAttributes must be specified")
	}
	if q.subject != nil && q.subject.User == "" && len(q.subject.Groups) == 0 {
		e.Invalid(at.Child("user"), q.subject.User, "at least one of user or group must be specified")
	}
	if q.resource != nil {
		checkAttributes(&e, q.resource, at.Child("resourceAttributes"))
	}
	meta := q.meta
	meta.ManagedFields = nil
	detail := "must be empty"
	if local {
		meta.Namespace, detail = "", "must be empty except for namespace"
		if q.path != nil {
			e.Invalid(at.Child("nonResourceAttributes"), q.path, "disallowed on this kind of request")
		}
	}
	if !equality.Semantic.DeepEqual(metav1.ObjectMeta{}, meta) {
		e.Invalid(field.NewPath("metadata"), meta, detail)
	}
	if len(e.List) == 0 {
		return nil
	}
	return apierrors.NewInvalid(authorizationv1.SchemeGroupVersion.WithKind(q.kind).GroupKind(), "", e.List)
}

func checkAttributes(e *check.Errors, a *authorizationv1.ResourceAttributes, at *field.Path) {
	if s := a.FieldSelector; s != nil {
		here := at.Child("fieldSelector")
		checkSelector(e, s.RawSelector, len(s.Requirements), here)
		for i, r := range s.Requirements {
			checkRequirement(e, r.Key, string(r.Operator), r.Values, here.Child("requirements").Index(i))
		}
	}
	if s := a.LabelSelector; s != nil {
		here := at.Child("labelSelector")
		checkSelector(e, s.RawSelector, len(s.Requirements), here)
		for i, r := range s.Requirements {
			checkRequirement(e, r.Key, string(r.Operator), r.Values, here.Child("requirements").Index(i))
		}
	}
}

func checkSelector(e *check.Errors, raw string, requirements int, at *field.Path) {
	if raw != "" && requirements > 0 {
		e.Invalid(at.Child("rawSelector"), raw, "may not specified at the same time as requirements")
	}
	if raw == "" && requirements == 0 {
		e.Required(at.Child("requirements"), fmt.Sprintf("when %s is specified, requirements or rawSelector is required", at))
	}
}

func checkRequirement(e *check.Errors, key, operator string, values []string, at *field.Path) {
	if key == "" {
		e.Required(at.Child("key"), "must be specified")
	}
	switch metav1.LabelSelectorOperator(operator) {
	case metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn:
		if len(values) == 0 {
			e.Required(at.Child("values"), "must be specified when `operator` is 'In' or 'NotIn'")
		}
	case metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist:
		if len(values) > 0 {
			e.Forbidden(at.Child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
		}
	default:
		e.Invalid(at.Child("operator"), operator, "not a valid selector operator")
	}
}

// pinned returns what a question's selectors hold fields and labels to. What is not an equality narrows nothing, which is on the
// safe side: the answer is then that for a wider question.
func pinned(a *authorizationv1.ResourceAttributes) (byField, byLabel map[string]string) {
	byField, byLabel = map[string]string{}, map[string]string{}
	if s := a.FieldSelector; s != nil {
		if parsed, err := fields.ParseSelector(s.RawSelector); err == nil {
			for _, r := range parsed.Requirements() {
				if r.Operator == selection.Equals || r.Operator == selection.DoubleEquals {
					byField[r.Field] = r.Value
				}
			}
		}
		for _, r := range s.Requirements {
			if r.Operator == metav1.FieldSelectorOpIn && len(r.Values) == 1 {
				byField[r.Key] = r.Values[0]
			}
		}
	}
	if s := a.LabelSelector; s != nil {
		if parsed, err := labels.ParseToRequirements(s.RawSelector); err == nil {
			for _, r := range parsed {
				equal := r.Operator() == selection.Equals || r.Operator() == selection.DoubleEquals || r.Operator() == selection.In
				if values := r.ValuesUnsorted(); equal && len(values) == 1 {
					byLabel[r.Key()] = values[0]
				}
			}
		}
		for _, r := range s.Requirements {
			if r.Operator == metav1.LabelSelectorOpIn && len(r.Values) == 1 {
				byLabel[r.Key] = r.Values[0]
			}
		}
	}
	return byField, byLabel
}

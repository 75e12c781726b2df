package admissionregistration

import (
	"slices"

	"github.com/google/cel-go/cel"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

var specPath = field.NewPath("spec")

func (c checker) validatingPolicies() *registry.Resource {
	type object = *admissionregistrationv1.ValidatingAdmissionPolicy
	r := kind[object]{
		name: "ValidatingAdmissionPolicy", plural: "validatingadmissionpolicies", singular: "validatingadmissionpolicy",
		make: func() object { return &admissionregistrationv1.ValidatingAdmissionPolicy{} },
		list: func() runtime.Object { return &admissionregistrationv1.ValidatingAdmissionPolicyList{} },
		defaults: func(o object) {
			set(&o.Spec.FailurePolicy, admissionregistrationv1.Fail)
			defaultMatch(o.Spec.MatchConstraints)
		},
		validate: func(e *check.Errors, o, old object) {
			var known expressions
			if old != nil {
				known = expressionsOf(&old.Spec)
			}
			c.validatingPolicy(e, o.Name, &o.Spec, known)
		},
		said: func(o object) any { return o.Spec },
		columns: []registry.Column{
			registry.NameColumn(),
			registry.Number("Validations", "Validations indicates the number of validation rules defined in this configuration", func(o object) int64 { return int64(len(o.Spec.Validations)) }),
			registry.Text("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy", func(o object) string { return paramText(o.Spec.ParamKind) }),
			registry.AgeColumn(),
		},
	}.resource()
	r.Strategy.PrepareCreate = registry.On(func(o object) { o.Status = admissionregistrationv1.ValidatingAdmissionPolicyStatus{} })
	r.Strategy.PrepareUpdate = registry.OnChange(func(o, old object) { o.Status = old.Status })
	r.Subresources = map[string]registry.Subresource{
		"status": registry.StatusSubresource(func(o, body object) { o.Status = body.Status }, func(*check.Errors, object, object) {}),
	}
	return r
}

func paramText(k *admissionregistrationv1.ParamKind) string {
	if k == nil {
		return "<unset>"
	}
	return k.APIVersion + "/" + k.Kind
}

func (c checker) mutatingPolicies() *registry.Resource {
	type object = *admissionregistrationv1.MutatingAdmissionPolicy
	return kind[object]{
		name: "MutatingAdmissionPolicy", plural: "mutatingadmissionpolicies", singular: "mutatingadmissionpolicy",
		make: func() object { return &admissionregistrationv1.MutatingAdmissionPolicy{} },
		list: func() runtime.Object { return &admissionregistrationv1.MutatingAdmissionPolicyList{} },
		defaults: func(o object) {
			set(&o.Spec.FailurePolicy, admissionregistrationv1.Fail)
			defaultMatch(o.Spec.MatchConstraints)
		},
		validate: func(e *check.Errors, o, old object) { c.mutatingPolicy(e, &o.Spec, old) },
		said:     func(o object) any { return o.Spec },
		columns: []registry.Column{
			registry.NameColumn(),
			registry.Number("Mutations", "Mutation indicates the number of mutations rules defined in this configuration", func(o object) int64 { return int64(len(o.Spec.Mutations)) }),
			registry.Text("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy", func(o object) string { return paramText(o.Spec.ParamKind) }),
			registry.AgeColumn(),
		},
	}.resource()
}

func (c checker) validatingBindings() *registry.Resource {
	type object = *admissionregistrationv1.ValidatingAdmissionPolicyBinding
	return kind[object]{
		name: "ValidatingAdmissionPolicyBinding", plural: "validatingadmissionpolicybindings", singular: "validatingadmissionpolicybinding",
		make: func() object { return &admissionregistrationv1.ValidatingAdmissionPolicyBinding{} },
		list: func() runtime.Object { return &admissionregistrationv1.ValidatingAdmissionPolicyBindingList{} },
		defaults: func(o object) {
			defaultMatch(o.Spec.MatchResources)
		},
		validate: func(e *check.Errors, o, _ object) {
			checkBinding(e, o.Spec.PolicyName, o.Spec.ParamRef, o.Spec.MatchResources)
			checkActions(e, o.Spec.ValidationActions)
		},
		said: func(o object) any { return o.Spec },
		columns: bindingColumns(func(o object) (string, *admissionregistrationv1.ParamRef) {
			return o.Spec.PolicyName, o.Spec.ParamRef
		}),
	}.resource()
}

func (c checker) mutatingBindings() *registry.Resource {
	type object = *admissionregistrationv1.MutatingAdmissionPolicyBinding
	return kind[object]{
		name: "MutatingAdmissionPolicyBinding", plural: "mutatingadmissionpolicybindings", singular: "mutatingadmissionpolicybinding",
		make: func() object { return &admissionregistrationv1.MutatingAdmissionPolicyBinding{} },
		list: func() runtime.Object { return &admissionregistrationv1.MutatingAdmissionPolicyBindingList{} },
		defaults: func(o object) {
			defaultMatch(o.Spec.MatchResources)
		},
		validate: func(e *check.Errors, o, _ object) {
			checkBinding(e, o.Spec.PolicyName, o.Spec.ParamRef, o.Spec.MatchResources)
		},
		said: func(o object) any { return o.Spec },
		columns: bindingColumns(func(o object) (string, *admissionregistrationv1.ParamRef) {
			return o.Spec.PolicyName, o.Spec.ParamRef
		}),
	}.resource()
}

func bindingColumns[T registry.Object](of func(T) (policy string, ref *admissionregistrationv1.ParamRef)) []registry.Column {
	return []registry.Column{
		registry.NameColumn(),
		registry.Text("PolicyName", "PolicyName indicates the policy definition which the policy binding binded to", func(o T) string { p, _ := of(o); return p }),
		registry.Text("ParamRef", "ParamRef indicates the param resource which sets the configuration param", func(o T) string {
			switch _, ref := of(o); {
			case ref == nil:
				return "<unset>"
			case ref.Selector != nil:
				return "selector"
			case ref.Namespace != "":
				return ref.Namespace + "/" + ref.Name
			default:
				return "*/" + ref.Name
			}
		}),
		registry.AgeColumn(),
	}
}

func checkBinding(e *check.Errors, policy string, ref *admissionregistrationv1.ParamRef, match *admissionregistrationv1.MatchResources) {
	if policy == "" {
		e.Required(specPath.Child("policyName"), "")
	} else {
		e.Subdomain(specPath.Child("policyName"), policy)
	}
	if ref != nil {
		checkParamRef(e, specPath.Child("paramRef"), ref)
	}
	if match != nil {
		checkMatch(e, specPath.Child("matchResources"), match)
	}
}

func checkParamRef(e *check.Errors, at *field.Path, r *admissionregistrationv1.ParamRef) {
	if r.Name != "" {
		e.Each(at.Child("name"), r.Name, content.IsPathSegmentName(r.Name))
	}
	if r.Selector != nil {
		e.Selector(at.Child("selector"), r.Selector)
	}
	switch {
	case r.Name != "" && r.Selector != nil:
		e.Forbidden(at.Child("name"), "name and selector are mutually exclusive")
		e.Forbidden(at.Child("selector"), "name and selector are mutually exclusive")
	case r.Name == "" && r.Selector == nil:
		e.Required(at, "one of name or selector must be specified")
	}
	if r.ParameterNotFoundAction == nil || *r.ParameterNotFoundAction == "" {
		e.Required(at.Child("parameterNotFoundAction"), "")
	} else {
		check.Supported(e, at.Child("parameterNotFoundAction"), *r.ParameterNotFoundAction, admissionregistrationv1.AllowAction, admissionregistrationv1.DenyAction)
	}
}

func checkActions(e *check.Errors, actions []admissionregistrationv1.ValidationAction) {
	at := specPath.Child("validationActions")
	if len(actions) == 0 {
		e.Required(at, "")
	}
	for i, a := range actions {
		check.Supported(e, at.Index(i), a, admissionregistrationv1.Audit, admissionregistrationv1.Deny, admissionregistrationv1.Warn)
		if slices.Contains(actions[:i], a) {
			e.Duplicate(at.Index(i), a)
		}
	}
	if slices.Contains(actions, admissionregistrationv1.Deny) && slices.Contains(actions, admissionregistrationv1.Warn) {
		e.Invalid(at, actions, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)")
	}
}

// The types that expressions must be of.
func auditTypes() []*cel.Type { return []*cel.Type{cel.StringType, cel.NullType} }

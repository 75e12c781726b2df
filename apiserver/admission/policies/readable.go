package policies

import (
	"context"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/admission/match"
	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/authz"
)

// Readable lets only those name parameters who may read them, since a policy tells what is in them: by its messages, and by what it
// refuses. Who writes a policy must be allowed to get every object of its kind of parameters, who binds one to get or list those that the
// binding refers to.
func Readable(reader match.Reader, authorizer authz.Authorizer) admission.Plugin {
	r := readable{reader, authorizer}
	return admission.Plugin{Name: "AdmissionPolicyParameters", Validate: func(ctx context.Context, a *admission.Attributes) error {
		if a.Operation == admission.Delete || a.Subresource != "" || a.Resource.Kind.Group != admissionregistrationv1.GroupName || a.User.In(authn.Masters) {
			return nil
		}
		switch obj := a.Object.(type) {
		case *admissionregistrationv1.ValidatingAdmissionPolicy:
			old, _ := a.Old.(*admissionregistrationv1.ValidatingAdmissionPolicy)
			return r.policy(ctx, a, obj.Spec.ParamKind, old != nil && equality.Semantic.DeepEqual(old.Spec.ParamKind, obj.Spec.ParamKind))
		case *admissionregistrationv1.MutatingAdmissionPolicy:
			old, _ := a.Old.(*admissionregistrationv1.MutatingAdmissionPolicy)
			return r.policy(ctx, a, obj.Spec.ParamKind, old != nil && equality.Semantic.DeepEqual(old.Spec.ParamKind, obj.Spec.ParamKind))
		case *admissionregistrationv1.ValidatingAdmissionPolicyBinding:
			old, _ := a.Old.(*admissionregistrationv1.ValidatingAdmissionPolicyBinding)
			same := old != nil && old.Spec.PolicyName == obj.Spec.PolicyName && equality.Semantic.DeepEqual(old.Spec.ParamRef, obj.Spec.ParamRef)
			return r.binding(ctx, a, "validatingadmissionpolicies", obj.Spec.PolicyName, obj.Spec.ParamRef, same)
		case *admissionregistrationv1.MutatingAdmissionPolicyBinding:
			old, _ := a.Old.(*admissionregistrationv1.MutatingAdmissionPolicyBinding)
			same := old != nil && old.Spec.PolicyName == obj.Spec.PolicyName && equality.Semantic.DeepEqual(old.Spec.ParamRef, obj.Spec.ParamRef)
			return r.binding(ctx, a, "mutatingadmissionpolicies", obj.Spec.PolicyName, obj.Spec.ParamRef, same)
		}
		return nil
	}}
}

type readable struct {
	reader     match.Reader
	authorizer authz.Authorizer
}

// resource is what a kind of parameters is to be authorized as; what is not known of it is anything.
func (r readable) resource(kind *admissionregistrationv1.ParamKind) schema.GroupVersionResource {
	all := schema.GroupVersionResource{Group: "*", Version: "*", Resource: "*"}
	if kind == nil {
		return all
	}
	gv, err := schema.ParseGroupVersion(kind.APIVersion)
	if err != nil {
		return all
	}
	if res, ok := r.reader.Set().ForKind(gv.WithKind(kind.Kind)); ok {
		return res.GVR()
	}
	return gv.WithResource("*")
}

func (r readable) policy(ctx context.Context, a *admission.Attributes, kind *admissionregistrationv1.ParamKind, same bool) error {
	if kind == nil || same {
		return nil
	}
	of := r.resource(kind)
	ok, err := r.may(ctx, authz.Attributes{User: a.User, Verb: "get", Group: of.Group, Version: of.Version, Resource: of.Resource, Namespace: "*", Name: "*"})
	if err != nil || ok {
		return err
	}
	return refused(a, "paramKind", fmt.Sprintf(`user %q must have "get" permission on all objects of the referenced paramKind (kind=%s, apiVersion=%s)`, a.User.Name, kind.Kind, kind.APIVersion))
}

func (r readable) binding(ctx context.Context, a *admission.Attributes, policies, name string, ref *admissionregistrationv1.ParamRef, same bool) error {
	if ref == nil || same {
		return nil
	}
	policy, ok, err := r.reader.Object(ctx, admissionregistrationv1.GroupName, policies, "", name, true)
	if err != nil {
		return err
	}
	var kind *admissionregistrationv1.ParamKind
	switch p := policy.(type) {
	case *admissionregistrationv1.ValidatingAdmissionPolicy:
		kind = p.Spec.ParamKind
	case *admissionregistrationv1.MutatingAdmissionPolicy:
		kind = p.Spec.ParamKind
	}
	of, verb := r.resource(kind), "get"
	if ref.Name == "" {
		verb = "list"
	}
	// Without a namespace the parameters are in whichever namespace is written to.
	allowed, err := r.may(ctx, authz.Attributes{User: a.User, Verb: verb, Group: of.Group, Version: of.Version, Resource: of.Resource, Namespace: ref.Namespace, Name: ref.Name})
	if err != nil || allowed {
		return err
	}
	if !ok {
		return refused(a, "paramRef", fmt.Sprintf(`unable to get policy %s to determine minimum required permissions and user %q does not have "%s" permission for all groups, versions and resources`, name, a.User.Name, verb))
	}
	return refused(a, "paramRef", fmt.Sprintf(`user %q does not have "%s" permission on the object referenced by paramRef`, a.User.Name, verb))
}

func (r readable) may(ctx context.Context, a authz.Attributes) (bool, error) {
	d, _, err := r.authorizer.Authorize(ctx, &a)
	return d == authz.Allow, err
}

func refused(a *admission.Attributes, name, detail string) error {
	return apierrors.NewInvalid(a.Resource.Kind.GroupKind(), a.ObjectName(), field.ErrorList{field.Forbidden(field.NewPath("spec", name), detail)})
}

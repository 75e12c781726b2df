package admission

import (
	"encoding/json"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"bareboat.dev/apiserver/registry"
)

// Review describes a write as webhooks and policies see it: without a uid and objects. It is asked about as a resource that may be
// another form of the written one.
func (a *Attributes) Review(operation string, as *registry.Resource) *admissionv1.AdmissionRequest {
	r := &admissionv1.AdmissionRequest{
		Kind:        metav1.GroupVersionKind(as.Kind),
		Resource:    metav1.GroupVersionResource(as.GVR()),
		SubResource: a.Subresource, RequestSubResource: a.Subresource,
		RequestKind:     &metav1.GroupVersionKind{Group: a.Resource.Kind.Group, Version: a.Resource.Kind.Version, Kind: a.Resource.Kind.Kind},
		RequestResource: &metav1.GroupVersionResource{Group: a.Resource.Kind.Group, Version: a.Resource.Kind.Version, Resource: a.Resource.Plural},
		Name:            a.Name, Namespace: a.Namespace, Operation: admissionv1.Operation(operation), DryRun: &a.DryRun,
	}
	if sub, ok := a.Resource.Subresources[a.Subresource]; ok && (sub.New != nil || a.Operation == Connect && !sub.Kind.Empty()) {
		kind := metav1.GroupVersionKind(sub.Kind)
		r.Kind, r.RequestKind = kind, &kind
	}
	if a.Resource.Kind.Group == "" && a.Resource.Plural == "namespaces" {
		r.Namespace = a.Name // as in Kubernetes, a namespace is in itself
	}
	if u := a.User; u != nil {
		r.UserInfo = authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
		for key, values := range u.Extra {
			if r.UserInfo.Extra == nil {
				r.UserInfo.Extra = map[string]authenticationv1.ExtraValue{}
			}
			r.UserInfo.Extra[key] = values
		}
	}
	r.Options.Raw = a.options()
	return r
}

// options are the request's as the API knows them: those of its verb.
func (a *Attributes) options() []byte {
	var options any
	var dry []string
	if a.DryRun {
		dry = []string{metav1.DryRunAll}
	}
	q := &a.Request
	meta := func(kind string) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: metav1.SchemeGroupVersion.String(), Kind: kind}
	}
	switch {
	case a.Operation == Connect:
		return nil // what is asked for is the object
	case a.Operation == Delete:
		o := metav1.DeleteOptions{}
		if q.Delete != nil {
			o = *q.Delete
		}
		o.TypeMeta = meta("DeleteOptions")
		options = o
	case q.Verb == "patch":
		o := metav1.PatchOptions{TypeMeta: meta("PatchOptions"), DryRun: dry, FieldManager: q.FieldManager, FieldValidation: q.FieldValidation}
		if q.Force {
			o.Force = &q.Force
		}
		options = o
	case a.Operation == Create:
		options = metav1.CreateOptions{TypeMeta: meta("CreateOptions"), DryRun: dry, FieldManager: q.FieldManager, FieldValidation: q.FieldValidation}
	default:
		options = metav1.UpdateOptions{TypeMeta: meta("UpdateOptions"), DryRun: dry, FieldManager: q.FieldManager, FieldValidation: q.FieldValidation}
	}
	raw, err := json.Marshal(options)
	if err != nil {
		return nil // these types always encode
	}
	return raw
}

// Reviewed returns what is reviewed: the body, where a subresource has a kind of its own, and the object else, as they are reviewed; old is nil where there is none.
func (a *Attributes) Reviewed() (object, old runtime.Object) {
	if sub, ok := a.Resource.Subresources[a.Subresource]; ok && sub.New != nil {
		if sub.Get != nil && a.Old != nil {
			if view, err := sub.Get(a.Old); err == nil {
				view.GetObjectKind().SetGroupVersionKind(sub.Kind)
				old = view
			}
		}
		if a.Body != nil {
			a.Body.GetObjectKind().SetGroupVersionKind(sub.Kind)
			object = a.Body
		}
		return object, old
	}
	if a.Object != nil {
		a.Object.GetObjectKind().SetGroupVersionKind(a.Resource.Kind)
		object = a.Object
	} else if a.Body != nil {
		object = a.Body
	}
	if a.Old != nil && a.Operation != Create {
		old = a.Old
	}
	return object, old
}

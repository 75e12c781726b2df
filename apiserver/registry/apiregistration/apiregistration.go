// Package apiregistration is the group apiregistration.k8s.io: APIServices, which say that a group and version is served by another
// API server, behind a Service. Package aggregator acts on them.
package apiregistration

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

const (
	defaultPort = 443
	// maxGroupPriority and maxVersionPriority bound the two priorities by which discovery is ordered.
	maxGroupPriority   = 20000
	maxVersionPriority = 1000
)

// Resources are the group's kinds.
func Resources() []*registry.Resource { return []*registry.Resource{apiServices()} }

func apiServices() *registry.Resource {
	return &registry.Resource{
		Kind: apiregistrationv1.SchemeGroupVersion.WithKind("APIService"), Plural: "apiservices", Singular: "apiservice",
		Categories: []string{"api-extensions"},
		KeyPrefix:  "/registry/apiregistration.k8s.io/apiservices/",
		New:        func() registry.Object { return &apiregistrationv1.APIService{} },
		NewList:    func() runtime.Object { return &apiregistrationv1.APIServiceList{} },
		Strategy: registry.Strategy{
			AnyFinalizer: true,
			Default: registry.On(func(s *apiregistrationv1.APIService) {
				if svc := s.Spec.Service; svc != nil && svc.Port == nil {
					port := int32(defaultPort)
					svc.Port = &port
				}
			}),
			PrepareCreate: registry.On(func(s *apiregistrationv1.APIService) {
				s.Status = apiregistrationv1.APIServiceStatus{}
				if s.Spec.Service == nil {
					s.Status.Conditions = []apiregistrationv1.APIServiceCondition{{
						Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue, Reason: "Local",
						Message: "Local APIServices are always available", LastTransitionTime: s.CreationTimestamp,
					}}
				}
			}),
			PrepareUpdate: registry.OnChange(func(s, old *apiregistrationv1.APIService) { s.Status = old.Status }),
			Validate:      registry.Checks(checkAPIService),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, s, _ *apiregistrationv1.APIService) {
				checkAPIService(e, s)
			}),
			ValidateName: func(string, bool) []string { return nil }, // the name is held against group and version
			SpecChanged: registry.Differs(func(s, old *apiregistrationv1.APIService) bool {
				return !equality.Semantic.DeepEqual(s.Spec, old.Spec)
			}),
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("Service", "The reference to the service that hosts this API endpoint.", serviceText),
			registry.Text("Available", "Whether this service is available.", availableText),
			registry.AgeColumn(),
		},
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(func(s, body *apiregistrationv1.APIService) { s.Status = body.Status }, checkStatus),
		},
	}
}

// Available returns the condition of that type, or nil.
func Available(s *apiregistrationv1.APIService) *apiregistrationv1.APIServiceCondition {
	for i := range s.Status.Conditions {
		if s.Status.Conditions[i].Type == apiregistrationv1.Available {
			return &s.Status.Conditions[i]
		}
	}
	return nil
}

func serviceText(s *apiregistrationv1.APIService) string {
	if s.Spec.Service == nil {
		return "Local"
	}
	return s.Spec.Service.Namespace + "/" + s.Spec.Service.Name
}

func availableText(s *apiregistrationv1.APIService) string {
	c := Available(s)
	switch {
	case c == nil:
		return string(apiregistrationv1.ConditionUnknown)
	case c.Status == apiregistrationv1.ConditionTrue:
		return string(c.Status)
	}
	return fmt.Sprintf("%s (%s)", c.Status, c.Reason)
}

func checkAPIService(e *check.Errors, s *apiregistrationv1.APIService) {
	if want := s.Spec.Version + "." + s.Spec.Group; s.Name != want {
		e.Invalid(field.NewPath("metadata", "name"), s.Name, fmt.Sprintf("must be `spec.version+\".\"+spec.group`: %q", want))
	}
	at := field.NewPath("spec")
	if s.Spec.Group == "" && s.Spec.Version != "v1" {
		e.Required(at.Child("group"), "only v1 may have an empty group and it better be legacy kube")
	}
	if s.Spec.Group != "" {
		e.Each(at.Child("group"), s.Spec.Group, validation.IsDNS1123Subdomain(s.Spec.Group))
	}
	e.Each(at.Child("version"), s.Spec.Version, validation.IsDNS1035Label(s.Spec.Version))
	if p := s.Spec.GroupPriorityMinimum; p <= 0 || p > maxGroupPriority {
		e.Invalid(at.Child("groupPriorityMinimum"), p, "must be positive and less than 20000")
	}
	if p := s.Spec.VersionPriority; p <= 0 || p > maxVersionPriority {
		e.Invalid(at.Child("versionPriority"), p, "must be positive and less than 1000")
	}
	checkService(e, &s.Spec, at)
}

func checkService(e *check.Errors, s *apiregistrationv1.APIServiceSpec, at *field.Path) {
	if s.Service == nil {
		if len(s.CABundle) > 0 {
			e.Invalid(at.Child("caBundle"), fmt.Sprintf("%d bytes", len(s.CABundle)), "local APIServices may not have a caBundle")
		}
		if s.InsecureSkipTLSVerify {
			e.Invalid(at.Child("insecureSkipTLSVerify"), s.InsecureSkipTLSVerify, "local APIServices may not have insecureSkipTLSVerify")
		}
		return
	}
	e.Present(at.Child("service", "namespace"), s.Service.Namespace)
	e.Present(at.Child("service", "name"), s.Service.Name)
	if p := s.Service.Port; p != nil {
		e.Each(at.Child("service", "port"), *p, validation.IsValidPortNum(int(*p)))
	}
	if s.InsecureSkipTLSVerify && len(s.CABundle) > 0 {
		e.Invalid(at.Child("insecureSkipTLSVerify"), s.InsecureSkipTLSVerify, "may not be true if caBundle is present")
	}
}

func checkStatus(e *check.Errors, s, _ *apiregistrationv1.APIService) {
	for i, c := range s.Status.Conditions {
		at := field.NewPath("status", "conditions").Index(i)
		switch c.Status {
		case apiregistrationv1.ConditionTrue, apiregistrationv1.ConditionFalse, apiregistrationv1.ConditionUnknown:
		default:
			e.Add(field.NotSupported(at.Child("status"), c.Status, []metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown}))
		}
	}
}

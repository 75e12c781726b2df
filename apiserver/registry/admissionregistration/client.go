package admissionregistration

import (
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

// checkClient checks where a webhook is called. A bundle that holds no certificate fails the calls, as in Kubernetes.
func checkClient(e *check.Errors, at *field.Path, c *admissionregistrationv1.WebhookClientConfig) {
	switch {
	case (c.URL == nil) == (c.Service == nil):
		e.Required(at, "exactly one of url or service is required")
	case c.URL != nil:
		e.WebhookURL(at.Child("url"), *c.URL)
	default:
		checkService(e, at.Child("service"), c.Service)
	}
}

func checkService(e *check.Errors, at *field.Path, s *admissionregistrationv1.ServiceReference) {
	if s.Name == "" {
		e.Required(at.Child("name"), "service name is required")
	}
	if s.Namespace == "" {
		e.Required(at.Child("namespace"), "service namespace is required")
	}
	if s.Port != nil {
		if errs := validation.IsValidPortNum(int(*s.Port)); errs != nil {
			e.Invalid(at.Child("port"), *s.Port, "port is not valid: "+strings.Join(errs, ","))
		}
	}
	if s.Path != nil {
		e.WebhookPath(at.Child("path"), *s.Path)
	}
}

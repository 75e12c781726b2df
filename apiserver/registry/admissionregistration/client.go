package admissionregistration

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

// checkClient checks where a webhook is called.
func checkClient(e *check.Errors, at *field.Path, c *admissionregistrationv1.WebhookClientConfig) {
	switch {
	case (c.URL == nil) == (c.Service == nil):
		e.Required(at, "exactly one of url or service is required")
	case c.URL != nil:
		checkURL(e, at.Child("url"), *c.URL)
	default:
		checkService(e, at.Child("service"), c.Service)
	}
	if len(c.CABundle) > 0 && !x509.NewCertPool().AppendCertsFromPEM(c.CABundle) {
		e.Invalid(at.Child("caBundle"), c.CABundle, "unable to load root certificates: unable to parse bytes as PEM block")
	}
}

func checkURL(e *check.Errors, at *field.Path, text string) {
	const form = "; desired format: https://host[/path]"
	u, err := url.Parse(text)
	if err != nil {
		e.Required(at, "url must be a valid URL: "+err.Error()+form)
		return
	}
	if u.Scheme != "https" {
		e.Invalid(at, u.Scheme, "'https' is the only allowed URL scheme"+form)
	}
	if u.Host == "" {
		e.Invalid(at, u.Host, "host must be specified"+form)
	}
	if u.User != nil {
		e.Invalid(at, u.User.String(), "user information is not permitted in the URL")
	}
	if u.Fragment != "" {
		e.Invalid(at, u.Fragment, "fragments are not permitted in the URL")
	}
	if u.RawQuery != "" {
		e.Invalid(at, u.RawQuery, "query parameters are not permitted in the URL")
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
		checkPath(e, at.Child("path"), *s.Path)
	}
}

func checkPath(e *check.Errors, at *field.Path, p string) {
	switch {
	case p == "" || p == "/":
		return
	case p == "//":
		e.Invalid(at, p, "segment[0] may not be empty")
		return
	case !strings.HasPrefix(p, "/"):
		e.Invalid(at, p, "must start with a '/'")
	}
	for i, segment := range strings.Split(strings.TrimSuffix(p[1:], "/"), "/") {
		if segment == "" {
			e.Invalid(at, p, fmt.Sprintf("segment[%d] may not be empty", i))
			continue
		}
		for _, failure := range validation.IsDNS1123Subdomain(segment) {
			e.Invalid(at, p, fmt.Sprintf("segment[%d]: %v", i, failure))
		}
	}
}

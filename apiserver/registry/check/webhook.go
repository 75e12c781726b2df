package check

import (
	"fmt"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// WebhookURL checks the address of a webhook outside of the cluster.
func (e *Errors) WebhookURL(at *field.Path, text string) {
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

// WebhookPath checks the path of a webhook behind a Service.
func (e *Errors) WebhookPath(at *field.Path, text string) {
	switch text {
	case "", "/":
		return
	case "//":
		e.Invalid(at, text, "segment[0] may not be empty")
		return
	}
	if text[0] != '/' {
		e.Invalid(at, text, "must start with a '/'")
	}
	for i, step := range strings.Split(strings.TrimSuffix(text[1:], "/"), "/") {
		if step == "" {
			e.Invalid(at, text, fmt.Sprintf("segment[%d] may not be empty", i))
			continue
		}
		for _, bad := range validation.IsDNS1123Subdomain(step) {
			e.Invalid(at, text, fmt.Sprintf("segment[%d]: %v", i, bad))
		}
	}
}

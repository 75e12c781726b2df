package apiextensions

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/util/cert"
)

func (c *checker) subresources(path *field.Path, s *apiextensions.CustomResourceSubresources) {
	if s == nil || s.Scale == nil {
		return
	}
	if s.Scale.SpecReplicasPath == "" {
		c.Required(path.Child("scale.specReplicasPath"), "")
	} else {
		c.pathBelow(path.Child("scale.specReplicasPath"), s.Scale.SpecReplicasPath, s.Scale.SpecReplicasPath, "should be a json path under .spec", ".spec.")
	}
	if s.Scale.StatusReplicasPath == "" {
		c.Required(path.Child("scale.statusReplicasPath"), "")
	} else {
		c.pathBelow(path.Child("scale.statusReplicasPath"), s.Scale.StatusReplicasPath, s.Scale.StatusReplicasPath, "should be a json path under .status", ".status.")
	}
	if p := s.Scale.LabelSelectorPath; p != nil && *p != "" {
		c.pathBelow(path.Child("scale.labelSelectorPath"), *p, p, "should be a json path under either .spec or .status", ".spec.", ".status.")
	}
}

// pathBelow checks a simple JSON path that must begin in one of the given ways.
func (c *checker) pathBelow(at *field.Path, jsonPath string, shown any, detail string, begins ...string) {
	if c.simplePath(at, jsonPath) && !slices.ContainsFunc(begins, func(b string) bool { return strings.HasPrefix(jsonPath, b) }) {
		c.Invalid(at, shown, detail)
	}
}

func (c *checker) simplePath(at *field.Path, jsonPath string) bool {
	if jsonPath[0] == '.' {
		return true
	}
	c.Invalid(at, jsonPath, "must be a simple json path starting with .")
	return false
}

func (c *checker) column(path *field.Path, col *apiextensions.CustomResourceColumnDefinition) {
	types := []string{"boolean", "date", "integer", "number", "string"}
	formats := []string{"byte", "date", "date-time", "double", "float", "int32", "int64", "password"}
	c.Present(path.Child("name"), col.Name)
	oneOf := "must be one of " + strings.Join(types, ",")
	if col.Type == "" {
		c.Required(path.Child("type"), oneOf)
	} else if !slices.Contains(types, col.Type) {
		c.Invalid(path.Child("type"), col.Type, oneOf)
	}
	if col.Format != "" && !slices.Contains(formats, col.Format) {
		c.Invalid(path.Child("format"), col.Format, "must be one of "+strings.Join(formats, ","))
	}
	if c.Present(path.Child("JSONPath"), col.JSONPath) {
		c.simplePath(path.Child("JSONPath"), col.JSONPath)
	}
}

// reviewVersions are the versions of ConversionReview that the server speaks.
func reviewVersions() []string { return []string{"v1", "v1beta1"} }

func speaks(versions []string) bool {
	return slices.ContainsFunc(versions, func(v string) bool { return slices.Contains(reviewVersions(), v) })
}

func (c *checker) conversion(path *field.Path, conv *apiextensions.CustomResourceConversion) {
	if conv == nil {
		return
	}
	c.choice(path.Child("strategy"), string(conv.Strategy), string(apiextensions.NoneConverter), string(apiextensions.WebhookConverter))
	client, versions := path.Child("webhookClientConfig"), path.Child("conversionReviewVersions")
	if conv.Strategy != apiextensions.WebhookConverter {
		if conv.WebhookClientConfig != nil {
			c.Forbidden(client, "should not be set when strategy is not set to Webhook")
		}
		if len(conv.ConversionReviewVersions) > 0 {
			c.Forbidden(versions, "should not be set when strategy is not set to Webhook")
		}
		return
	}
	c.client(client, conv.WebhookClientConfig)
	if len(conv.ConversionReviewVersions) == 0 {
		c.Required(versions, "")
		return
	}
	for i, v := range conv.ConversionReviewVersions {
		if slices.Contains(conv.ConversionReviewVersions[:i], v) {
			c.Invalid(versions.Index(i), v, "duplicate version")
			continue
		}
		c.Each(versions.Index(i), v, validation.IsDNS1035Label(v))
	}
	if c.rules.reviewVersion && !speaks(conv.ConversionReviewVersions) {
		c.Invalid(versions, conv.ConversionReviewVersions, "must include at least one of "+strings.Join(reviewVersions(), ", "))
	}
}

func (c *checker) client(path *field.Path, cc *apiextensions.WebhookClientConfig) {
	switch {
	case cc == nil:
		c.Required(path, "required when strategy is set to Webhook")
		return
	case (cc.URL == nil) == (cc.Service == nil):
		c.Required(path, "exactly one of url or service is required")
	case cc.URL != nil:
		c.WebhookURL(path.Child("url"), *cc.URL)
	default:
		c.service(path.Child("service"), cc.Service)
	}
	if len(cc.CABundle) > 0 && !c.rules.anyBundle {
		if err := checkBundle(cc.CABundle); err != nil {
			c.Invalid(path.Child("caBundle"), cc.CABundle, err.Error())
		}
	}
}

// checkBundle reads a bundle of certificates as a client would.
func checkBundle(pem []byte) error {
	if _, err := cert.ParseCertsPEM(pem); err != nil {
		return fmt.Errorf("unable to load root certificates: unable to parse bytes as PEM block")
	}
	return nil
}

func (c *checker) service(path *field.Path, s *apiextensions.ServiceReference) {
	// Kubernetes passes the two names in the other order, and so names the other field; so do we.
	if s.Namespace == "" {
		c.Required(path.Child("name"), "")
	}
	if s.Name == "" {
		c.Required(path.Child("namespace"), "")
	}
	if bad := validation.IsValidPortNum(int(s.Port)); bad != nil {
		c.Invalid(path.Child("port"), s.Port, "port is not valid: "+strings.Join(bad, ", "))
	}
	if s.Path != nil {
		c.WebhookPath(path.Child("path"), *s.Path)
	}
}

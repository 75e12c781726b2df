package certificates

import (
	"crypto/x509"
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

// maxTrustBundle is how long a bundle may be, in bytes.
const maxTrustBundle = 1 << 20

func trustBundles() *registry.Resource {
	type bundle = *certificatesv1.ClusterTrustBundle
	return &registry.Resource{
		Kind:   certificatesv1.SchemeGroupVersion.WithKind("ClusterTrustBundle"),
		Plural: "clustertrustbundles", Singular: "clustertrustbundle",
		KeyPrefix: "/registry/clustertrustbundles/",
		New:       func() registry.Object { return &certificatesv1.ClusterTrustBundle{} },
		NewList:   func() runtime.Object { return &certificatesv1.ClusterTrustBundleList{} },
		Strategy: registry.Strategy{
			Validate: registry.Checks(func(e *check.Errors, b bundle) { checkBundle(e, b, true) }),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, b, old bundle) {
				// What is not changed is not parsed, as parsers get stricter.
				checkBundle(e, b, b.Spec.TrustBundle != old.Spec.TrustBundle)
				e.Immutable(field.NewPath("spec", "signerName"), b.Spec.SignerName, old.Spec.SignerName)
			}),
			// The rule depends on the signer: see checkBundle.
			ValidateName: func(name string, prefix bool) []string { return path.ValidatePathSegmentName(name, prefix) },
		},
		Fields: map[string]func(registry.Object) string{
			"spec.signerName": registry.Field(func(b bundle) string { return b.Spec.SignerName }),
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("SignerName", certificatesv1.ClusterTrustBundleSpec{}.SwaggerDoc()["signerName"], func(b bundle) string {
				return registry.OrNone(b.Spec.SignerName)
			}),
		},
	}
}

func checkBundle(e *check.Errors, b *certificatesv1.ClusterTrustBundle, parse bool) {
	name, at := b.Name, field.NewPath("metadata", "name")
	if signer := b.Spec.SignerName; signer == "" && strings.Contains(name, ":") {
		e.Invalid(at, name, `ClusterTrustBundle without signer name must not have ":" in its name`)
	} else if signer == "" {
		e.Name(at, name, apivalidation.NameIsDNSSubdomain)
	} else if prefix := strings.ReplaceAll(signer, "/", ":") + ":"; !strings.HasPrefix(name, prefix) {
		e.Invalid(at, name, fmt.Sprintf("ClusterTrustBundle for signerName %s must be named with prefix %s", signer, prefix))
	} else {
		e.Each(at, name, apivalidation.NameIsDNSSubdomain(strings.TrimPrefix(name, prefix), false))
	}
	if b.Spec.SignerName != "" {
		podspec.ValidateSignerName(e, b.Spec.SignerName, field.NewPath("spec", "signerName"))
	}
	if parse {
		checkAnchors(e, b.Spec.TrustBundle, field.NewPath("spec", "trustBundle"))
	}
}

// checkAnchors: at least one certificate of an authority, none twice, and nothing else.
func checkAnchors(e *check.Errors, text string, at *field.Path) {
	if len(text) > maxTrustBundle {
		e.Add(field.TooLong(at, "", maxTrustBundle))
		return
	}
	before := len(e.List)
	wrong := func(format string, args ...any) { e.Invalid(at, "<value omitted>", fmt.Sprintf(format, args...)) }
	seen := map[string][]int{}
	var order []string
	for i, b := range blocks([]byte(text)) {
		cert, err := x509.ParseCertificate(b.Bytes)
		switch {
		case b.Type != certificateBlock:
			wrong("entry %d has bad block type: %v", i, b.Type)
		case len(b.Headers) != 0:
			wrong("entry %d has PEM block headers", i)
		case err != nil:
			wrong("entry %d does not parse as X.509", i)
		case !cert.IsCA:
			wrong("entry %d does not have the CA bit set", i)
		case !cert.BasicConstraintsValid:
			wrong("entry %d has invalid basic constraints", i)
		default:
			raw := string(b.Bytes)
			if seen[raw] == nil {
				order = append(order, raw)
			}
			seen[raw] = append(seen[raw], i)
		}
	}
	if len(e.List) > before {
		return
	}
	if len(seen) == 0 {
		wrong("at least one trust anchor must be provided")
	}
	for _, raw := range order {
		if len(seen[raw]) > 1 {
			wrong("duplicate trust anchor (indices %v)", seen[raw])
		}
	}
}

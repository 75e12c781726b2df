package podspec

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

// ValidateClaimSpec checks a PersistentVolumeClaimSpec: a claim's, a template's, an ephemeral volume's.
func ValidateClaimSpec(e *check.Errors, s *corev1.PersistentVolumeClaimSpec, at *field.Path) {
	if len(s.AccessModes) == 0 {
		e.Required(at.Child("accessModes"), "at least 1 access mode is required")
	}
	if s.Selector != nil {
		e.Selector(at.Child("selector"), s.Selector)
	}
	ValidateAccessModes(e, s.AccessModes, at.Child("accessModes"))
	storage := at.Child("resources").Key(string(corev1.ResourceStorage))
	if size, set := s.Resources.Requests[corev1.ResourceStorage]; !set {
		e.Required(storage, "")
	} else {
		e.PositiveQuantity(storage, size)
	}
	className := func(name string, class *string) {
		if class != nil && *class != "" {
			e.Name(at.Child(name), *class, apivalidation.NameIsDNSSubdomain)
		}
	}
	className("storageClassName", s.StorageClassName)
	if s.VolumeMode != nil {
		check.Supported(e, at.Child("volumeMode"), *s.VolumeMode, corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)
	}
	validateDataSources(e, s, at)
	className("volumeAttributesClassName", s.VolumeAttributesClassName)
}

// ValidateAccessModes checks access modes: known ones, and ReadWriteOncePod only alone.
func ValidateAccessModes(e *check.Errors, modes []corev1.PersistentVolumeAccessMode, at *field.Path) {
	supported := []corev1.PersistentVolumeAccessMode{
		corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod,
	}
	pod, other := false, false
	for _, mode := range modes {
		check.Supported(e, at, mode, supported...)
		pod = pod || mode == corev1.ReadWriteOncePod
		other = other || mode != corev1.ReadWriteOncePod && slices.Contains(supported, mode)
	}
	if pod && other {
		e.Forbidden(at, "may not use ReadWriteOncePod with other access modes")
	}
}

func validateDataSources(e *check.Errors, s *corev1.PersistentVolumeClaimSpec, at *field.Path) {
	one := func(group *string, kind, name string, at *field.Path) {
		e.Present(at.Child("name"), name)
		e.Present(at.Child("kind"), kind)
		if group == nil || *group == "" {
			if kind != "PersistentVolumeClaim" {
				e.Invalid(at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup")
			}
			return
		}
		e.Each(at.Child("apiGroup"), *group, validation.IsDNS1123Subdomain(*group))
	}
	src, ref := s.DataSource, s.DataSourceRef
	if src != nil {
		one(src.APIGroup, src.Kind, src.Name, at.Child("dataSource"))
	}
	if ref == nil {
		return
	}
	one(ref.APIGroup, ref.Kind, ref.Name, at.Child("dataSourceRef"))
	inNamespace := ref.Namespace != nil && *ref.Namespace != ""
	if inNamespace {
		e.Name(at.Child("dataSourceRef", "namespace"), *ref.Namespace, apivalidation.ValidateNamespaceName)
	}
	switch {
	case src == nil:
	case inNamespace:
		e.Invalid(at, at.Child("dataSource"), "may not be specified when dataSourceRef.namespace is specified")
	case !reflect.DeepEqual(src.APIGroup, ref.APIGroup) || src.Kind != ref.Kind || src.Name != ref.Name:
		e.Invalid(at, at.Child("dataSource"), "must match dataSourceRef")
	}
}

// ForbidOtherMeta refuses everything but labels and annotations in a template's metadata.
func ForbidOtherMeta(e *check.Errors, meta *metav1.ObjectMeta, at *field.Path) {
	v := reflect.ValueOf(meta).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if name != "Labels" && name != "Annotations" && !v.Field(i).IsZero() {
			e.Forbidden(at.Child(strings.ToLower(name[:1])+name[1:]), "cannot be set") // "uID", as Kubernetes says
		}
	}
}

// ValidateSignerName checks the name of a certificate signer: a domain of several labels, a slash, a path of dotted labels.
func ValidateSignerName(e *check.Errors, name string, at *field.Path) {
	const longestSigner = 2*validation.DNS1123SubdomainMaxLength + validation.DNS1123LabelMaxLength + 2 // domain, resource, namespace
	if name == "" {
		e.Required(at, "")
		return
	}
	segments := strings.Split(name, "/")
	if len(segments) != 2 {
		e.Invalid(at, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")
		return
	}
	domain, path := segments[0], segments[1]
	if len(domain) > validation.DNS1123SubdomainMaxLength {
		e.Add(field.TooLong(at, domain, validation.DNS1123SubdomainMaxLength))
	}
	firstWrong(e, at, domain, validation.IsDNS1123Label)
	if strings.Count(domain, ".") < 1 {
		e.Invalid(at, domain, "should be a domain with at least two segments separated by dots")
	}
	firstWrong(e, at, path, validation.IsDNS1123Subdomain)
	if len(name) > longestSigner {
		e.Add(field.TooLong(at, name, longestSigner))
	}
}

// firstWrong says what is wrong with the first of the dotted labels that is.
func firstWrong(e *check.Errors, at *field.Path, dotted string, rule func(string) []string) {
	for _, label := range strings.Split(dotted, ".") {
		if wrong := rule(label); len(wrong) > 0 {
			for _, w := range wrong {
				e.Invalid(at, dotted, fmt.Sprintf("validating label %q: %s", label, w))
			}
			return
		}
	}
}

// trustBundleName checks a ClusterTrustBundle's name: "<signer domain>:<signer path>:<name>" for those of a signer.
func trustBundleName(name string) []string {
	last := strings.LastIndex(name, ":")
	if last < 0 {
		return apivalidation.NameIsDNSSubdomain(name, false)
	}
	return apivalidation.NameIsDNSSubdomain(name[last+1:], false)
}

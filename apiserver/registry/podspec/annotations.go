package podspec

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

// Annotations that mean something in a pod's or template's metadata.
const (
	MirrorAnnotation       = "kubernetes.io/config.mirror"
	deletionCostAnnotation = corev1.PodDeletionCost
	seccompPod             = corev1.SeccompPodAnnotationKey
	seccompContainer       = corev1.SeccompContainerAnnotationKeyPrefix
	appArmorContainer      = corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix
)

// ValidateAnnotations checks the annotations that a pod's or template's spec is read with.
func ValidateAnnotations(e *check.Errors, annotations map[string]string, spec *corev1.PodSpec, at *field.Path) {
	if value, mirror := annotations[MirrorAnnotation]; mirror && spec.NodeName == "" {
		e.Invalid(at.Key(MirrorAnnotation), value, "must set spec.nodeName if mirror pod annotation is set")
	}
	if cost, set := annotations[deletionCostAnnotation]; set && !isCost(cost) {
		e.Invalid(at.Key(deletionCostAnnotation), cost, "must be a 32bit integer")
	}
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		value := annotations[key]
		switch {
		case key == seccompPod || strings.HasPrefix(key, seccompContainer):
			validateSeccompName(e, value, at.Child(key))
		case strings.HasPrefix(key, appArmorContainer):
			name := strings.TrimPrefix(key, appArmorContainer)
			if !hasContainer(spec, name) {
				e.Invalid(at.Key(key), name, "container not found")
			}
			if !isAppArmorName(value) {
				e.Invalid(at.Key(key), value, "invalid AppArmor profile name: "+strconv.Quote(value))
			}
		}
	}
}

// isCost: a 32-bit number in its shortest form, so that +1 and 01 are not two spellings of one cost.
func isCost(s string) bool {
	n, err := strconv.ParseInt(s, 10, 32)
	return err == nil && strconv.FormatInt(n, 10) == s
}

func validateSeccompName(e *check.Errors, name string, at *field.Path) {
	switch {
	case name == corev1.SeccompProfileRuntimeDefault, name == corev1.DeprecatedSeccompProfileDockerDefault,
		name == corev1.SeccompProfileNameUnconfined:
	case strings.HasPrefix(name, corev1.SeccompLocalhostProfileNamePrefix):
		e.RelativePath(at, strings.TrimPrefix(name, corev1.SeccompLocalhostProfileNamePrefix))
	default:
		e.Invalid(at, name, "must be a valid seccomp profile")
	}
}

func isAppArmorName(name string) bool {
	return name == "" || name == corev1.DeprecatedAppArmorBetaProfileRuntimeDefault ||
		name == corev1.DeprecatedAppArmorBetaProfileNameUnconfined ||
		strings.HasPrefix(name, corev1.DeprecatedAppArmorBetaProfileNamePrefix)
}

func hasContainer(spec *corev1.PodSpec, name string) (found bool) {
	eachContainer(spec, nil, func(c *corev1.Container, _ *field.Path) { found = found || c.Name == name })
	return found
}

// ValidateProfiles checks that deprecated annotations, where they come together with the fields that replaced them, say the same.
func ValidateProfiles(e *check.Errors, annotations map[string]string, spec *corev1.PodSpec, at *field.Path) {
	validateProfilesAgree(e, annotations, spec, at)
}

func validateProfilesAgree(e *check.Errors, annotations map[string]string, spec *corev1.PodSpec, at *field.Path) {
	var podAppArmor *corev1.AppArmorProfile
	if sc := spec.SecurityContext; sc != nil {
		podAppArmor = sc.AppArmorProfile
		if name, set := annotations[seccompPod]; set && sc.SeccompProfile != nil {
			validateSeccompAgrees(e, name, sc.SeccompProfile, at.Child("securityContext", "seccompProfile"))
		}
	}
	windows := spec.OS != nil && spec.OS.Name == corev1.Windows
	eachContainer(spec, at, func(c *corev1.Container, at *field.Path) {
		appArmor := podAppArmor
		if sc := c.SecurityContext; sc != nil {
			if name, set := annotations[seccompContainer+c.Name]; set && sc.SeccompProfile != nil {
				validateSeccompAgrees(e, name, sc.SeccompProfile, at.Child("securityContext", "seccompProfile"))
			}
			if sc.AppArmorProfile != nil {
				appArmor = sc.AppArmorProfile
			}
		}
		if name, set := annotations[appArmorContainer+c.Name]; set && appArmor != nil && !windows {
			validateAppArmorAgrees(e, name, appArmor, at.Child("securityContext", "appArmorProfile"))
		}
	})
}

func validateSeccompAgrees(e *check.Errors, name string, p *corev1.SeccompProfile, at *field.Path) {
	const wrongType = "seccomp type in annotation and field must match"
	switch p.Type {
	case corev1.SeccompProfileTypeUnconfined:
		if name != corev1.SeccompProfileNameUnconfined {
			e.Forbidden(at.Child("type"), wrongType)
		}
	case corev1.SeccompProfileTypeRuntimeDefault:
		if name != corev1.SeccompProfileRuntimeDefault && name != corev1.DeprecatedSeccompProfileDockerDefault {
			e.Forbidden(at.Child("type"), wrongType)
		}
	case corev1.SeccompProfileTypeLocalhost:
		file, local := strings.CutPrefix(name, corev1.SeccompLocalhostProfileNamePrefix)
		if !local {
			e.Forbidden(at.Child("type"), wrongType)
		} else if p.LocalhostProfile == nil || *p.LocalhostProfile != file {
			e.Forbidden(at.Child("localhostProfile"), "seccomp profile in annotation and field must match")
		}
	}
}

func validateAppArmorAgrees(e *check.Errors, name string, p *corev1.AppArmorProfile, at *field.Path) {
	const wrongType = "apparmor type in annotation and field must match"
	switch p.Type {
	case corev1.AppArmorProfileTypeUnconfined:
		if name != corev1.DeprecatedAppArmorBetaProfileNameUnconfined {
			e.Forbidden(at.Child("type"), wrongType)
		}
	case corev1.AppArmorProfileTypeRuntimeDefault:
		if name != corev1.DeprecatedAppArmorBetaProfileRuntimeDefault {
			e.Forbidden(at.Child("type"), wrongType)
		}
	case corev1.AppArmorProfileTypeLocalhost:
		profile, local := strings.CutPrefix(name, corev1.DeprecatedAppArmorBetaProfileNamePrefix)
		if !local {
			e.Forbidden(at.Child("type"), wrongType)
		} else if p.LocalhostProfile == nil || *p.LocalhostProfile != profile {
			e.Forbidden(at.Child("localhostProfile"), "apparmor profile in annotation and field must match")
		}
	}
}

package podspec

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/node/util/sysctl"

	"bareboat.dev/apiserver/registry/check"
)

func (s *scope) checkPodSecurityContext(at *field.Path) {
	sc := s.spec.SecurityContext
	if sc == nil {
		return
	}
	s.checkID(at.Child("fsGroup"), sc.FSGroup, validation.IsValidGroupID)
	s.checkID(at.Child("runAsUser"), sc.RunAsUser, validation.IsValidUserID)
	s.checkID(at.Child("runAsGroup"), sc.RunAsGroup, validation.IsValidGroupID)
	for i, gid := range sc.SupplementalGroups {
		s.checkID(at.Child("supplementalGroups").Index(i), &gid, validation.IsValidGroupID)
	}
	s.checkSysctls(sc.Sysctls, at.Child("sysctls"))
	if sc.FSGroupChangePolicy != nil {
		check.Supported(s.Errors, at.Child("fsGroupChangePolicy"), *sc.FSGroupChangePolicy, corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)
	}
	s.checkSeccomp(sc.SeccompProfile, at.Child("seccompProfile"))
	s.checkWindowsOptions(sc.WindowsOptions, at.Child("windowsOptions"))
	s.checkAppArmor(sc.AppArmorProfile, at.Child("appArmorProfile"))
	if sc.SupplementalGroupsPolicy != nil {
		check.Supported(s.Errors, at.Child("supplementalGroupsPolicy"), *sc.SupplementalGroupsPolicy,
			corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)
	}
	if sc.SELinuxChangePolicy != nil {
		check.Supported(s.Errors, at.Child("seLinuxChangePolicy"), *sc.SELinuxChangePolicy,
			corev1.SELinuxChangePolicyMountOption, corev1.SELinuxChangePolicyRecursive)
	}
}

func (s *scope) checkID(at *field.Path, id *int64, rule func(int64) []string) {
	if id != nil {
		s.Each(at, *id, rule(*id))
	}
}

const maxSysctlName = 253

var sysctlName = regexp.MustCompile("^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$")

func (s *scope) checkSysctls(list []corev1.Sysctl, at *field.Path) {
	seen := sets.New[string]()
	for i, c := range list {
		here := at.Index(i).Child("name")
		switch {
		case c.Name == "":
			s.Required(here, "")
		case len(c.Name) > maxSysctlName || !sysctlName.MatchString(c.Name):
			s.Invalid(here, c.Name, fmt.Sprintf("must have at most %d characters and match regex %s", maxSysctlName, sysctlName))
		case seen.Has(c.Name):
			s.Duplicate(here, c.Name)
		}
		seen.Insert(c.Name)
		namespace, _, _ := sysctl.GetNamespace(c.Name)
		switch {
		case s.spec.HostNetwork && namespace == sysctl.NetNamespace:
			s.Invalid(here, c.Name, "may not be specified when 'hostNetwork' is true")
		case s.spec.HostIPC && namespace == sysctl.IPCNamespace:
			s.Invalid(here, c.Name, "may not be specified when 'hostIPC' is true")
		}
	}
}

func (s *scope) checkSeccomp(p *corev1.SeccompProfile, at *field.Path) {
	if p == nil {
		return
	}
	if p.Type == "" {
		s.Required(at.Child("type"), "type is required when seccompProfile is set")
	} else {
		check.Supported(s.Errors, at.Child("type"), p.Type,
			corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)
	}
	switch local := p.Type == corev1.SeccompProfileTypeLocalhost; {
	case local && p.LocalhostProfile == nil:
		s.Required(at.Child("localhostProfile"), "must be set when seccomp type is Localhost")
	case local:
		s.RelativePath(at.Child("localhostProfile"), *p.LocalhostProfile)
	case p.LocalhostProfile != nil:
		s.Invalid(at.Child("localhostProfile"), p, "can only be set when seccomp type is Localhost")
	}
}

func (s *scope) checkAppArmor(p *corev1.AppArmorProfile, at *field.Path) {
	if p == nil {
		return
	}
	here := at.Child("localhostProfile")
	switch p.Type {
	case corev1.AppArmorProfileTypeLocalhost:
		s.checkAppArmorName(p.LocalhostProfile, here)
	case corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined:
		if p.LocalhostProfile != nil {
			s.Invalid(here, *p.LocalhostProfile, "can only be set when AppArmor type is Localhost")
		}
	case "":
		s.Required(at.Child("type"), "type is required when appArmorProfile is set")
	default:
		check.Supported(s.Errors, at.Child("type"), p.Type,
			corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)
	}
}

func (s *scope) checkAppArmorName(name *string, at *field.Path) {
	const longest = 4095 // PATH_MAX without the terminating zero
	const must = "must be set when AppArmor type is Localhost"
	if name == nil {
		s.Required(at, must)
		return
	}
	switch trimmed := strings.TrimSpace(*name); {
	case trimmed != *name:
		s.Invalid(at, *name, "must not be padded with whitespace")
	case trimmed == "":
		s.Required(at, must)
	}
	if len(*name) > longest {
		s.Add(field.TooLong(at, *name, longest))
	}
}

func (s *scope) checkSecurityContext(sc *corev1.SecurityContext, at *field.Path) {
	if sc == nil {
		return
	}
	s.checkID(at.Child("runAsUser"), sc.RunAsUser, validation.IsValidUserID)
	s.checkID(at.Child("runAsGroup"), sc.RunAsGroup, validation.IsValidGroupID)
	if sc.ProcMount != nil {
		check.Supported(s.Errors, at.Child("procMount"), *sc.ProcMount, corev1.DefaultProcMount, corev1.UnmaskedProcMount)
		if s.hostUsers && *sc.ProcMount == corev1.UnmaskedProcMount {
			s.Invalid(at.Child("procMount"), *sc.ProcMount, "`hostUsers` must be false to use `Unmasked`")
		}
	}
	s.checkSeccomp(sc.SeccompProfile, at.Child("seccompProfile"))
	if sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation {
		if sc.Privileged != nil && *sc.Privileged {
			s.Invalid(at, sc, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
		}
		if sc.Capabilities != nil {
			for _, c := range sc.Capabilities.Add {
				if c == "CAP_SYS_ADMIN" {
					s.Invalid(at, sc, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN")
				}
			}
		}
	}
	s.checkWindowsOptions(sc.WindowsOptions, at.Child("windowsOptions"))
	s.checkAppArmor(sc.AppArmorProfile, at.Child("appArmorProfile"))
}

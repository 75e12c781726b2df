package podspec

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (s *scope) checkLinux(at *field.Path) {
	const detail = "windows options cannot be set for a linux pod"
	if sc := s.spec.SecurityContext; sc != nil && sc.WindowsOptions != nil {
		s.Forbidden(at.Child("securityContext", "windowsOptions"), detail)
	}
	eachContainer(s.spec, at, func(c *corev1.Container, at *field.Path) {
		if c.SecurityContext != nil && c.SecurityContext.WindowsOptions != nil {
			s.Forbidden(at.Child("securityContext", "windowsOptions"), detail)
		}
	})
}

// checkWindows refuses what only Linux knows.
func (s *scope) checkWindows(at *field.Path) {
	const detail = "cannot be set for a windows pod"
	forbid := func(v any, at *field.Path, names ...string) {
		value := reflect.ValueOf(v).Elem()
		for _, name := range names {
			if value.FieldByName(name).IsZero() {
				continue
			}
			f, _ := value.Type().FieldByName(name)
			tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			s.Forbidden(at.Child(tag), detail)
		}
	}
	forbid(s.spec, at, "HostUsers", "HostPID", "HostIPC", "ShareProcessNamespace")
	if s.spec.SecurityContext != nil {
		forbid(s.spec.SecurityContext, at.Child("securityContext"), "AppArmorProfile", "SELinuxOptions", "SeccompProfile", "FSGroup",
			"FSGroupChangePolicy", "Sysctls", "RunAsUser", "RunAsGroup", "SupplementalGroups", "SupplementalGroupsPolicy", "SELinuxChangePolicy")
	}
	eachContainer(s.spec, at, func(c *corev1.Container, at *field.Path) {
		if c.SecurityContext != nil {
			forbid(c.SecurityContext, at.Child("securityContext"), "AppArmorProfile", "SELinuxOptions", "SeccompProfile", "Capabilities",
				"ReadOnlyRootFilesystem", "Privileged", "AllowPrivilegeEscalation", "ProcMount", "RunAsUser", "RunAsGroup")
		}
	})
}

// The bounds of Windows identities, and the forms of user names.
const (
	maxGMSASpec   = 64 << 10
	maxUserDomain = 256
	maxUserName   = 104
)

var (
	controlChars = regexp.MustCompile(`[[:cntrl:]]+`)
	netBIOSName  = regexp.MustCompile(`^[^\\/:\*\?"<>|\.][^\\/:\*\?"<>|]{0,14}$`)
	dnsDomain    = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$`)
	badUserChars = regexp.MustCompile(`["/\\:;|=,\+\*\?<>@\[\]]`)
	dotsOrSpaces = regexp.MustCompile(`^[\. ]+$`)
)

func (s *scope) checkWindowsOptions(o *corev1.WindowsSecurityContextOptions, at *field.Path) {
	if o == nil {
		return
	}
	if o.GMSACredentialSpecName != nil {
		s.Each(at.Child("gmsaCredentialSpecName"), *o.GMSACredentialSpecName, validation.IsDNS1123Subdomain(*o.GMSACredentialSpecName))
	}
	if spec := o.GMSACredentialSpec; spec != nil {
		here := at.Child("gmsaCredentialSpec")
		if *spec == "" {
			s.Invalid(here, *spec, "gmsaCredentialSpec cannot be an empty string")
		} else if len(*spec) > maxGMSASpec {
			s.Invalid(here, *spec, fmt.Sprintf("gmsaCredentialSpec size must be under %d KiB", maxGMSASpec>>10))
		}
	}
	if o.RunAsUserName != nil {
		s.checkWindowsUser(*o.RunAsUserName, at.Child("runAsUserName"))
	}
}

func (s *scope) checkWindowsUser(name string, at *field.Path) {
	wrong := func(detail string) { s.Invalid(at, name, detail) }
	domain, user, hasDomain := strings.Cut(name, `\`)
	switch {
	case name == "":
		wrong("runAsUserName cannot be an empty string")
		return
	case controlChars.MatchString(name):
		wrong("runAsUserName cannot contain control characters")
		return
	case strings.Contains(user, `\`):
		wrong("runAsUserName cannot contain more than one backslash")
		return
	case !hasDomain:
		domain, user = "", name
	}
	if len(domain) >= maxUserDomain {
		wrong(fmt.Sprintf("runAsUserName's Domain length must be under %d characters", maxUserDomain))
	}
	if hasDomain && !netBIOSName.MatchString(domain) && !dnsDomain.MatchString(domain) {
		wrong("runAsUserName's Domain doesn't match the NetBios nor the DNS format")
	}
	if user == "" {
		wrong("runAsUserName's User cannot be empty")
	} else if len(user) > maxUserName {
		wrong(fmt.Sprintf("runAsUserName's User length must not be longer than %d characters", maxUserName))
	}
	if dotsOrSpaces.MatchString(user) {
		wrong("runAsUserName's User cannot contain only periods or spaces")
	}
	if badUserChars.MatchString(user) {
		wrong(`runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]`)
	}
}

// checkWindowsHostProcess: host process containers come all together and on the host's network.
func (s *scope) checkWindowsHostProcess(at *field.Path) {
	var podWide *bool
	if sc := s.spec.SecurityContext; sc != nil && sc.WindowsOptions != nil {
		podWide = sc.WindowsOptions.HostProcess
	}
	all, host := 0, 0
	eachContainer(s.spec, at, func(c *corev1.Container, at *field.Path) {
		all++
		var own *bool
		if c.SecurityContext != nil && c.SecurityContext.WindowsOptions != nil {
			own = c.SecurityContext.WindowsOptions.HostProcess
		}
		if podWide != nil && own != nil && *podWide != *own {
			s.Invalid(at.Child("securityContext", "windowsOptions", "hostProcess"), *own,
				fmt.Sprintf("pod hostProcess value must be identical if both are specified, was %v", *podWide))
		}
		if own != nil && *own || own == nil && podWide != nil && *podWide {
			host++
		}
	})
	if host == 0 {
		return
	}
	if host != all {
		s.Invalid(at, "", "If pod contains any hostProcess containers then all containers must be HostProcess containers")
	}
	if !s.spec.HostNetwork {
		s.Invalid(at.Child("hostNetwork"), s.spec.HostNetwork, "hostNetwork must be true if pod contains any hostProcess containers")
	}
}

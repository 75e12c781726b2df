package runspec

import (
	"errors"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/apparmor"
	"bareboat.dev/kubelet/shim"
)

// secure applies the security context.
func secure(spec *specs.Spec, in Input) error {
	s := in.Container.SecurityContext
	if s == nil {
		s = &corev1.SecurityContext{}
	}
	if isTrue(s.ReadOnlyRootFilesystem) {
		spec.Root.Readonly = true
	}
	spec.Process.NoNewPrivileges = s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation
	if s.ProcMount != nil && *s.ProcMount == corev1.UnmaskedProcMount {
		spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = nil, nil
	}
	if isTrue(s.Privileged) {
		shim.Privileged(spec, in.KernelCaps)
		spec.Linux.Devices = in.Devices
		return nil
	}
	var err error
	if spec.Process.ApparmorProfile, err = appArmorProfile(in); err != nil {
		return err
	}
	caps := capabilities(s.Capabilities, in.KernelCaps)
	spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	return setSeccomp(spec, in)
}

func isTrue(b *bool) bool { return b != nil && *b }

// capabilities is the default set with the security context's changes, drops before adds where ALL is dropped.
func capabilities(c *corev1.Capabilities, kernel []string) []string {
	have := shim.DefaultCapabilities()
	if c == nil {
		return have
	}
	if has(c.Drop, "ALL") {
		have = nil
	}
	if has(c.Add, "ALL") {
		have = slices.Clone(kernel)
	}
	for _, add := range c.Add {
		if name := capName(add); name != "CAP_ALL" && !slices.Contains(have, name) {
			have = append(have, name)
		}
	}
	for _, drop := range c.Drop {
		have = slices.DeleteFunc(have, func(name string) bool { return name == capName(drop) })
	}
	slices.Sort(have)
	return have
}

func has(list []corev1.Capability, name string) bool {
	return slices.ContainsFunc(list, func(c corev1.Capability) bool { return capName(c) == "CAP_"+name })
}

func capName(c corev1.Capability) string {
	name := strings.ToUpper(string(c))
	if !strings.HasPrefix(name, "CAP_") {
		name = "CAP_" + name
	}
	return name
}

// setSeccomp sets the system call filter that the container, or else its pod, asks for.
func setSeccomp(spec *specs.Spec, in Input) error {
	profile := seccompProfile(in.Pod, in.Container)
	if profile == nil {
		return nil
	}
	switch profile.Type {
	case corev1.SeccompProfileTypeRuntimeDefault:
		spec.Linux.Seccomp = shim.DefaultSeccomp(spec.Process.Capabilities.Bounding)
	case corev1.SeccompProfileTypeLocalhost:
		if in.LocalhostProfile == nil || profile.LocalhostProfile == nil {
			return configf("cannot load seccomp profile: localhostProfile is not set")
		}
		filter, err := in.LocalhostProfile(*profile.LocalhostProfile)
		if err != nil {
			return configf("cannot load seccomp profile %q: %v", *profile.LocalhostProfile, err)
		}
		spec.Linux.Seccomp = filter
	}
	return nil
}

func seccompProfile(p *corev1.Pod, c *corev1.Container) *corev1.SeccompProfile {
	if s := c.SecurityContext; s != nil && s.SeccompProfile != nil {
		return s.SeccompProfile
	}
	if s := p.Spec.SecurityContext; s != nil {
		return s.SeccompProfile
	}
	return nil
}

// appArmorProfile is the loaded profile that the container, or else its pod, names; empty leaves it to the kernel.
func appArmorProfile(in Input) (string, error) {
	var profile *corev1.AppArmorProfile
	if s := in.Pod.Spec.SecurityContext; s != nil {
		profile = s.AppArmorProfile
	}
	if s := in.Container.SecurityContext; s != nil && s.AppArmorProfile != nil {
		profile = s.AppArmorProfile
	}
	switch {
	case profile == nil && in.DefaultAppArmor != nil:
		// Who says nothing has the default, too, where there is one; a host that cannot load it would else run nothing.
		name, err := in.DefaultAppArmor()
		if errors.Is(err, apparmor.ErrNoParser) {
			return "", nil
		}
		if err != nil {
			return "", configf("%v", err)
		}
		return name, nil
	case profile == nil:
	case profile.Type == corev1.AppArmorProfileTypeLocalhost && profile.LocalhostProfile != nil:
		return *profile.LocalhostProfile, nil
	case profile.Type == corev1.AppArmorProfileTypeRuntimeDefault && in.DefaultAppArmor != nil:
		name, err := in.DefaultAppArmor()
		if err != nil {
			return "", configf("%v", err)
		}
		return name, nil
	}
	return "", nil
}

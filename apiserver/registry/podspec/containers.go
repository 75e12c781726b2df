package podspec

import (
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

func (s *scope) checkContainers(at *field.Path) {
	if len(s.spec.Containers) == 0 {
		s.Required(at, "")
		return
	}
	names := sets.New[string]()
	for i := range s.spec.Containers {
		c, here := &s.spec.Containers[i], at.Index(i)
		s.checkContainer(c, here)
		if names.Has(c.Name) {
			s.Duplicate(here.Child("name"), c.Name)
		}
		names.Insert(c.Name)
		s.checkLifecycle(c.Lifecycle, here.Child("lifecycle"))
		s.checkProbes(c, here)
		s.checkRestartPolicy(c, here)
	}
	s.checkHostPorts(s.spec.Containers, at)
}

func (s *scope) checkInitContainers(at *field.Path) {
	names := sets.New[string]()
	for _, c := range s.spec.Containers {
		names.Insert(c.Name)
	}
	for i := range s.spec.InitContainers {
		c, here := &s.spec.InitContainers[i], at.Index(i)
		s.checkContainer(c, here)
		s.checkRestartPolicy(c, here)
		if names.Has(c.Name) {
			s.Duplicate(here.Child("name"), c.Name)
		} else if c.Name != "" {
			names.Insert(c.Name)
		}
		// Init containers run one at a time, so each has the host's ports to itself.
		s.checkHostPorts([]corev1.Container{*c}, at)
		if sidecar(c) {
			s.checkLifecycle(c.Lifecycle, here.Child("lifecycle"))
			s.checkProbes(c, here)
			continue
		}
		s.forbidSet(c, here, "may not be set for init containers without restartPolicy=Always",
			"Lifecycle", "LivenessProbe", "ReadinessProbe", "StartupProbe")
		if len(c.ResizePolicy) > 0 {
			s.Invalid(here.Child("resizePolicy"), c.ResizePolicy, "must not be set for non-restartable init containers")
		}
	}
}

func sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func (s *scope) checkEphemeralContainers(at *field.Path) {
	others := sets.New[string]()
	for _, c := range s.spec.Containers {
		others.Insert(c.Name)
	}
	for _, c := range s.spec.InitContainers {
		others.Insert(c.Name)
	}
	names := others.Clone()
	for i := range s.spec.EphemeralContainers {
		ec, here := &s.spec.EphemeralContainers[i], at.Index(i)
		c := (*corev1.Container)(&ec.EphemeralContainerCommon)
		s.checkContainer(c, here)
		checkImageSpace(s.Errors, c, here)
		if names.Has(c.Name) {
			s.Duplicate(here.Child("name"), c.Name)
		}
		names.Insert(c.Name)
		if ec.TargetContainerName != "" && !others.Has(ec.TargetContainerName) {
			s.NotFound(here.Child("targetContainerName"), ec.TargetContainerName)
		}
		const detail = "cannot be set for an Ephemeral Container"
		s.forbidSet(c, here, detail, "Ports", "Resources", "ResizePolicy", "RestartPolicy", "RestartPolicyRules",
			"LivenessProbe", "ReadinessProbe", "StartupProbe", "Lifecycle")
		for j, m := range c.VolumeMounts {
			if m.SubPath != "" {
				s.Forbidden(here.Child("volumeMounts").Index(j).Child("subPath"), detail)
			}
			if m.SubPathExpr != "" {
				s.Forbidden(here.Child("volumeMounts").Index(j).Child("subPathExpr"), detail)
			}
		}
	}
}

// forbidSet says detail of each of the container's named Go fields that is not zero.
func (s *scope) forbidSet(c *corev1.Container, at *field.Path, detail string, fields ...string) {
	v := reflect.ValueOf(c).Elem()
	for _, name := range fields {
		if !v.FieldByName(name).IsZero() {
			s.Forbidden(at.Child(strings.ToLower(name[:1])+name[1:]), detail)
		}
	}
}

// checkContainer is what holds for containers of every sort.
func (s *scope) checkContainer(c *corev1.Container, at *field.Path) {
	s.RequiredLabel(at.Child("name"), c.Name)
	s.Present(at.Child("image"), c.Image)
	check.OneOf(s.Errors, at.Child("terminationMessagePolicy"), c.TerminationMessagePolicy,
		corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)
	s.checkPorts(c.Ports, at.Child("ports"))
	s.checkEnv(c.Env, at.Child("env"))
	s.checkEnvFrom(c.EnvFrom, at.Child("envFrom"))
	s.checkVolumeMounts(c, at.Child("volumeMounts"))
	s.checkVolumeDevices(c, at.Child("volumeDevices"))
	check.OneOf(s.Errors, at.Child("imagePullPolicy"), c.ImagePullPolicy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
	ValidateResources(s.Errors, &c.Resources, s.claims, at.Child("resources"))
	s.checkResizePolicy(c.ResizePolicy, at.Child("resizePolicy"))
	s.checkSecurityContext(c.SecurityContext, at.Child("securityContext"))
}

func (s *scope) checkPorts(ports []corev1.ContainerPort, at *field.Path) {
	names := sets.New[string]()
	for i, p := range ports {
		here := at.Index(i)
		if p.Name != "" {
			if msgs := validation.IsValidPortName(p.Name); len(msgs) > 0 {
				s.Each(here.Child("name"), p.Name, msgs)
			} else if names.Has(p.Name) {
				s.Duplicate(here.Child("name"), p.Name)
			}
			names.Insert(p.Name)
		}
		if p.ContainerPort == 0 {
			s.Required(here.Child("containerPort"), "")
		} else {
			s.Port(here.Child("containerPort"), p.ContainerPort)
		}
		if p.HostPort != 0 {
			s.Port(here.Child("hostPort"), p.HostPort)
		}
		check.OneOf(s.Errors, here.Child("protocol"), p.Protocol, corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)
	}
}

func (s *scope) checkHostPorts(containers []corev1.Container, at *field.Path) {
	taken := sets.New[string]()
	for i, c := range containers {
		for j, p := range c.Ports {
			if p.HostPort == 0 {
				continue
			}
			key := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
			if taken.Has(key) {
				s.Duplicate(at.Index(i).Child("ports").Index(j).Child("hostPort"), key)
			}
			taken.Insert(key)
		}
	}
}

func (s *scope) checkEnv(vars []corev1.EnvVar, at *field.Path) {
	for i, v := range vars {
		here := at.Index(i)
		if s.Present(here.Child("name"), v.Name) {
			s.Each(here.Child("name"), v.Name, validation.IsRelaxedEnvVarName(v.Name))
		}
		if v.ValueFrom != nil {
			s.checkEnvSource(v, here.Child("valueFrom"))
		}
	}
}

func (s *scope) checkEnvSource(v corev1.EnvVar, at *field.Path) {
	from, sources := v.ValueFrom, 0
	if r := from.FieldRef; r != nil {
		sources++
		s.checkFieldRef(r, envFieldPaths, at.Child("fieldRef"))
	}
	if r := from.ResourceFieldRef; r != nil {
		sources++
		s.checkResourceFieldRef(r, false, at.Child("resourceFieldRef"))
	}
	if r := from.ConfigMapKeyRef; r != nil {
		sources++
		s.checkKeyRef(r.Name, r.Key, at.Child("configMapKeyRef"))
	}
	if r := from.SecretKeyRef; r != nil {
		sources++
		s.checkKeyRef(r.Name, r.Key, at.Child("secretKeyRef"))
	}
	if r := from.FileKeyRef; r != nil {
		sources++
		s.checkFileKeyRef(r, at.Child("fileKeyRef"))
	}
	switch {
	case sources == 0:
		s.Invalid(at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`")
	case v.Value != "":
		s.Invalid(at, "", "may not be specified when `value` is not empty")
	case sources > 1:
		s.Invalid(at, "", "may not have more than one field specified at a time")
	}
}

func (s *scope) checkKeyRef(name, key string, at *field.Path) {
	s.Name(at.Child("name"), name, apivalidation.NameIsDNSSubdomain)
	if s.Present(at.Child("key"), key) {
		s.Each(at.Child("key"), key, validation.IsConfigMapKey(key))
	}
}

func (s *scope) checkFileKeyRef(r *corev1.FileKeySelector, at *field.Path) {
	if s.Present(at.Child("key"), r.Key) {
		s.Each(at.Child("key"), r.Key, validation.IsRelaxedEnvVarName(r.Key))
	}
	if s.Present(at.Child("volumeName"), r.VolumeName) {
		v, found := s.volumes[r.VolumeName]
		switch {
		case !found:
			s.NotFound(at.Child("volumeName"), r.VolumeName)
		case v.EmptyDir == nil:
			s.Invalid(at.Child("volumeName"), r.VolumeName, "referenced volume must be of type emptyDir")
		}
	}
	if s.Present(at.Child("path"), r.Path) {
		s.VolumePath(at.Child("path"), r.Path)
	}
}

func (s *scope) checkEnvFrom(sources []corev1.EnvFromSource, at *field.Path) {
	for i, src := range sources {
		here := at.Index(i)
		if src.Prefix != "" {
			s.Each(here.Child("prefix"), src.Prefix, validation.IsRelaxedEnvVarName(src.Prefix))
		}
		n := 0
		if src.ConfigMapRef != nil {
			n++
			s.checkEnvFromRef(src.ConfigMapRef.Name, here.Child("configMapRef", "name"))
		}
		if src.SecretRef != nil {
			n++
			s.checkEnvFromRef(src.SecretRef.Name, here.Child("secretRef", "name"))
		}
		switch {
		case n == 0:
			s.Invalid(at, "", "must specify one of: `configMapRef` or `secretRef`")
		case n > 1:
			s.Invalid(at, "", "may not have more than one field specified at a time")
		}
	}
}

func (s *scope) checkEnvFromRef(name string, at *field.Path) {
	if s.Present(at, name) {
		s.Each(at, name, apivalidation.NameIsDNSSubdomain(name, true))
	}
}

func (s *scope) checkVolumeMounts(c *corev1.Container, at *field.Path) {
	devices := map[string]string{}
	for _, d := range c.VolumeDevices {
		devices[d.Name] = d.DevicePath
	}
	points := sets.New[string]()
	for i, m := range c.VolumeMounts {
		here := at.Index(i)
		s.Present(here.Child("name"), m.Name)
		if _, found := s.volumes[m.Name]; !found {
			s.NotFound(here.Child("name"), m.Name)
		}
		s.Present(here.Child("mountPath"), m.MountPath)
		if points.Has(m.MountPath) {
			s.Invalid(here.Child("mountPath"), m.MountPath, "must be unique")
		}
		points.Insert(m.MountPath)
		if _, taken := devices[m.Name]; taken {
			s.Invalid(here.Child("name"), m.Name, "must not already exist in volumeDevices")
		}
		if hasValue(devices, m.MountPath) {
			s.Invalid(here.Child("mountPath"), m.MountPath, "must not already exist as a path in volumeDevices")
		}
		s.checkSubPath(m, at, here)
		s.checkMountModes(m, c, at)
	}
}

// checkSubPath and checkMountModes report some errors at the list and not at its element, as kube-apiserver does.
func (s *scope) checkSubPath(m corev1.VolumeMount, list, here *field.Path) {
	if m.SubPath != "" {
		s.RelativePath(list.Child("subPath"), m.SubPath)
	}
	if m.SubPathExpr != "" {
		if m.SubPath != "" {
			s.Invalid(here.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive")
		}
		s.RelativePath(list.Child("subPathExpr"), m.SubPathExpr)
	}
}

func (s *scope) checkMountModes(m corev1.VolumeMount, c *corev1.Container, list *field.Path) {
	if p := m.MountPropagation; p != nil {
		here := list.Child("mountPropagation")
		check.Supported(s.Errors, here, *p, corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)
		privileged := c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
		if *p == corev1.MountPropagationBidirectional && !privileged {
			s.Forbidden(here, "Bidirectional mount propagation is available only to privileged containers")
		}
	}
	if m.RecursiveReadOnly == nil {
		return
	}
	here := list.Child("recursiveReadOnly")
	switch *m.RecursiveReadOnly {
	case corev1.RecursiveReadOnlyDisabled:
	case corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible:
		if !m.ReadOnly {
			s.Forbidden(here, "may only be specified when readOnly is true")
		}
		if m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone {
			s.Forbidden(here, "may only be specified when mountPropagation is None or not specified")
		}
	default:
		check.Supported(s.Errors, here, *m.RecursiveReadOnly,
			corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible)
	}
}

func (s *scope) checkVolumeDevices(c *corev1.Container, at *field.Path) {
	mounts := map[string]string{}
	for _, m := range c.VolumeMounts {
		mounts[m.Name] = m.MountPath
	}
	paths, names := sets.New[string](), sets.New[string]()
	for i, d := range c.VolumeDevices {
		here := at.Index(i)
		s.Present(here.Child("name"), d.Name)
		if names.Has(d.Name) {
			s.Invalid(here.Child("name"), d.Name, "must be unique")
		}
		v, found := s.volumes[d.Name]
		switch {
		case !found:
			s.NotFound(here.Child("name"), d.Name)
		case v.PersistentVolumeClaim == nil && v.Ephemeral == nil:
			s.Invalid(here.Child("name"), d.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode")
		}
		s.Present(here.Child("devicePath"), d.DevicePath)
		if paths.Has(d.DevicePath) {
			s.Invalid(here.Child("devicePath"), d.DevicePath, "must be unique")
		}
		if strings.Contains("/"+d.DevicePath+"/", "/../") {
			s.Invalid(here.Child("devicePath"), d.DevicePath, "can not contain backsteps ('..')")
		} else {
			paths.Insert(d.DevicePath)
		}
		if _, taken := mounts[d.Name]; taken {
			s.Invalid(here.Child("name"), d.Name, "must not already exist in volumeMounts")
		}
		if hasValue(mounts, d.DevicePath) {
			s.Invalid(here.Child("devicePath"), d.DevicePath, "must not already exist as a path in volumeMounts")
		}
		if d.Name != "" {
			names.Insert(d.Name)
		}
	}
}

func hasValue(m map[string]string, value string) bool {
	for _, v := range m {
		if v == value {
			return true
		}
	}
	return false
}

// The bounds of container restart rules (KEP-5307).
const (
	maxRestartRules     = 20
	maxRestartExitCodes = 255
)

func (s *scope) checkRestartPolicy(c *corev1.Container, at *field.Path) {
	if c.RestartPolicy == nil {
		if len(c.RestartPolicyRules) > 0 {
			s.Required(at.Child("restartPolicy"), "must specify restartPolicy when restart rules are used")
		}
	} else {
		check.Supported(s.Errors, at.Child("restartPolicy"), *c.RestartPolicy,
			corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)
	}
	rules := at.Child("restartPolicyRules")
	if len(c.RestartPolicyRules) > maxRestartRules {
		s.Add(field.TooMany(rules, len(c.RestartPolicyRules), maxRestartRules))
	}
	for i, r := range c.RestartPolicyRules {
		s.checkRestartRule(r, rules.Index(i))
	}
}

func (s *scope) checkRestartRule(r corev1.ContainerRestartRule, at *field.Path) {
	check.Supported(s.Errors, at.Child("action"), r.Action, corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers)
	if r.ExitCodes == nil {
		s.Required(at.Child("exitCodes"), "must be specified")
		return
	}
	codes := at.Child("exitCodes")
	check.Supported(s.Errors, codes.Child("operator"), r.ExitCodes.Operator,
		corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)
	if len(r.ExitCodes.Values) > maxRestartExitCodes {
		s.Add(field.TooMany(codes.Child("values"), len(r.ExitCodes.Values), maxRestartExitCodes))
	}
}

// checkImageSpace holds for pods and not for templates, which have been allowed to carry a blank as a placeholder.
func checkImageSpace(e *check.Errors, c *corev1.Container, at *field.Path) {
	if strings.TrimSpace(c.Image) != c.Image {
		e.Invalid(at.Child("image"), c.Image, "must not have leading or trailing whitespace")
	}
}

// ValidatePodImages checks what holds for a pod's images beyond a template's.
func ValidatePodImages(e *check.Errors, spec *corev1.PodSpec, at *field.Path) {
	for i := range spec.Containers {
		checkImageSpace(e, &spec.Containers[i], at.Child("containers").Index(i))
	}
	for i := range spec.InitContainers {
		checkImageSpace(e, &spec.InitContainers[i], at.Child("initContainers").Index(i))
	}
}

package podspec

import (
	"fmt"
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

// scope is what the parts of one PodSpec need to know of each other.
type scope struct {
	*check.Errors
	spec *corev1.PodSpec
	// meta is the pod's; nil in templates.
	meta       *metav1.ObjectMeta
	volumes    map[string]*corev1.VolumeSource
	claims     sets.Set[string]
	hostUsers  bool
	grace      *int64
	osName     corev1.OSName
	policy     corev1.RestartPolicy
	containers sets.Set[string]
}

// ValidateSpec checks a PodSpec at a path. meta is the pod's metadata, nil for templates.
func ValidateSpec(e *check.Errors, spec *corev1.PodSpec, meta *metav1.ObjectMeta, at *field.Path) {
	s := &scope{
		Errors: e, spec: spec, meta: meta, grace: spec.TerminationGracePeriodSeconds, policy: spec.RestartPolicy,
		hostUsers: spec.HostUsers == nil || *spec.HostUsers,
		volumes:   map[string]*corev1.VolumeSource{},
		claims:    sets.New[string](),
	}
	if spec.OS != nil {
		s.osName = spec.OS.Name
	}
	if spec.TerminationGracePeriodSeconds == nil {
		e.Required(at.Child("terminationGracePeriodSeconds"), "")
	}
	s.checkVolumes(at.Child("volumes"))
	s.checkResourceClaims(at.Child("resourceClaims"))
	s.checkContainers(at.Child("containers"))
	s.checkInitContainers(at.Child("initContainers"))
	s.checkEphemeralContainers(at.Child("ephemeralContainers"))
	s.checkPodResources(at.Child("resources"))
	s.checkHostNetworkPorts(at.Child("containers"))
	check.OneOf(e, at.Child("restartPolicy"), spec.RestartPolicy,
		corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	check.OneOf(e, at.Child("dnsPolicy"), spec.DNSPolicy,
		corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)
	e.Labels(at.Child("nodeSelector"), spec.NodeSelector)
	s.checkPodSecurityContext(at.Child("securityContext"))
	if share := s.spec.ShareProcessNamespace; share != nil && *share && s.spec.HostPID {
		s.Invalid(at.Child("shareProcessNamespace"), *share, "ShareProcessNamespace and HostPID cannot both be enabled")
	}
	s.checkAffinity(at.Child("affinity"))
	s.checkDNSConfig(at.Child("dnsConfig"))
	s.checkGates(at)
	s.checkTopologySpread(at.Child("topologySpreadConstraints"))
	s.checkWindowsHostProcess(at)
	s.checkHostUsers(at)
	s.checkNames(at)
	s.checkDeadline(at.Child("activeDeadlineSeconds"))
	ValidateTolerations(e, spec.Tolerations, at.Child("tolerations"))
	s.checkHostAliases(at.Child("hostAliases"))
	if spec.PreemptionPolicy != nil {
		check.OneOf(e, at.Child("preemptionPolicy"), *spec.PreemptionPolicy, corev1.PreemptLowerPriority, corev1.PreemptNever)
	}
	if spec.Overhead != nil {
		ValidateResources(e, &corev1.ResourceRequirements{Limits: spec.Overhead}, nil, at.Child("overhead"))
	}
	s.checkOS(at)
}

// ValidateTemplate checks a PodTemplateSpec at a path.
func ValidateTemplate(e *check.Errors, t *corev1.PodTemplateSpec, at *field.Path) {
	e.Labels(at.Child("labels"), t.Labels)
	e.Annotations(at.Child("annotations"), t.Annotations)
	ValidateAnnotations(e, t.Annotations, &t.Spec, at.Child("annotations"))
	ValidateSpec(e, &t.Spec, nil, at.Child("spec"))
	validateProfilesAgree(e, t.Annotations, &t.Spec, at.Child("spec"))
	if len(t.Spec.EphemeralContainers) > 0 {
		e.Forbidden(at.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template")
	}
}

// ValidateSelected checks the template of a workload that keeps its pods by a selector and restarts them for ever:
// Deployment, ReplicaSet, ReplicationController, DaemonSet, StatefulSet. kind is for the message.
func ValidateSelected(e *check.Errors, t *corev1.PodTemplateSpec, kind string, at *field.Path) {
	ValidateTemplate(e, t, at)
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		e.Add(field.NotSupported(at.Child("spec", "restartPolicy"), t.Spec.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		e.Forbidden(at.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in "+kind+" is not Supported")
	}
}

func (s *scope) checkNames(at *field.Path) {
	spec := s.spec
	optional := func(name string, value string) {
		if value != "" {
			s.Name(at.Child(name), value, apivalidation.NameIsDNSSubdomain)
		}
	}
	optional("serviceAccountName", spec.ServiceAccountName)
	optional("nodeName", spec.NodeName)
	optional("priorityClassName", spec.PriorityClassName)
	if spec.RuntimeClassName != nil {
		s.Name(at.Child("runtimeClassName"), *spec.RuntimeClassName, apivalidation.NameIsDNSSubdomain)
	}
	if spec.Hostname != "" {
		s.Label(at.Child("hostname"), spec.Hostname)
	}
	if spec.Subdomain != "" {
		s.Label(at.Child("subdomain"), spec.Subdomain)
	}
	s.checkHostnameOverride(at)
}

// checkHostnameOverride follows KEP-4762.
func (s *scope) checkHostnameOverride(at *field.Path) {
	override := s.spec.HostnameOverride
	if override == nil {
		return
	}
	const longest = 64 // HOST_NAME_MAX of Linux
	here := at.Child("hostnameOverride")
	if len(*override) > longest {
		s.Add(field.TooLong(here, *override, longest))
	}
	s.Subdomain(here, *override)
	if s.spec.HostNetwork {
		s.Forbidden(here, "may not be specified when hostNetwork is true")
	}
	if s.spec.SetHostnameAsFQDN != nil && *s.spec.SetHostnameAsFQDN {
		s.Forbidden(here, "may not be specified when setHostnameAsFQDN is true")
	}
}

func (s *scope) checkDeadline(at *field.Path) {
	if d := s.spec.ActiveDeadlineSeconds; d != nil && (*d < 1 || *d > math.MaxInt32) {
		s.Invalid(at, *d, validation.InclusiveRangeError(1, math.MaxInt32))
	}
}

func (s *scope) checkHostNetworkPorts(at *field.Path) {
	if !s.spec.HostNetwork {
		return
	}
	for i, c := range s.spec.Containers {
		for j, p := range c.Ports {
			// A template may leave the host port open; the pod made from it gets it by defaulting.
			if (s.meta != nil || p.HostPort != 0) && p.HostPort != p.ContainerPort {
				s.Invalid(at.Index(i).Child("ports").Index(j).Child("hostPort"), p.HostPort,
					"must match `containerPort` when `hostNetwork` is true")
			}
		}
	}
}

// The limits of libc's resolver that kube-apiserver holds pods to.
const (
	maxNameservers  = 3
	maxSearches     = 32
	maxSearchLength = 2048
)

func (s *scope) checkDNSConfig(at *field.Path) {
	c := s.spec.DNSConfig
	if s.spec.DNSPolicy == corev1.DNSNone {
		if c == nil {
			s.Required(at, fmt.Sprintf("must provide `dnsConfig` when `dnsPolicy` is %s", corev1.DNSNone))
			return
		}
		if len(c.Nameservers) == 0 {
			s.Required(at.Child("nameservers"), fmt.Sprintf("must provide at least one DNS nameserver when `dnsPolicy` is %s", corev1.DNSNone))
			return
		}
	}
	if c == nil {
		return
	}
	if len(c.Nameservers) > maxNameservers {
		s.Invalid(at.Child("nameservers"), c.Nameservers, fmt.Sprintf("must not have more than %v nameservers", maxNameservers))
	}
	for i, ns := range c.Nameservers {
		s.IP(at.Child("nameservers").Index(i), ns)
	}
	if len(c.Searches) > maxSearches {
		s.Invalid(at.Child("searches"), c.Searches, fmt.Sprintf("must not have more than %v search paths", maxSearches))
	}
	if len(strings.Join(c.Searches, " ")) > maxSearchLength {
		s.Invalid(at.Child("searches"), c.Searches,
			fmt.Sprintf("must not have more than %v characters (including spaces) in the search list", maxSearchLength))
	}
	for i, domain := range c.Searches {
		if domain != "." {
			domain = strings.TrimSuffix(domain, ".")
			s.Each(at.Child("searches").Index(i), domain, validation.IsDNS1123SubdomainWithUnderscore(domain))
		}
	}
	for i, o := range c.Options {
		if o.Name == "" {
			s.Required(at.Child("options").Index(i), "must not be empty")
		}
	}
}

func (s *scope) checkGates(at *field.Path) {
	for i, g := range s.spec.ReadinessGates {
		s.QualifiedName(at.Child("readinessGates").Index(i).Child("conditionType"), string(g.ConditionType))
	}
	seen := sets.New[string]()
	for i, g := range s.spec.SchedulingGates {
		here := at.Child("schedulingGates").Index(i)
		s.QualifiedName(here, g.Name)
		if seen.Has(g.Name) {
			s.Duplicate(here, g.Name)
		}
		seen.Insert(g.Name)
	}
}

func (s *scope) checkHostUsers(at *field.Path) {
	if s.hostUsers {
		return
	}
	const detail = "when `hostUsers` is false"
	if s.spec.HostNetwork {
		s.Forbidden(at.Child("hostNetwork"), detail)
	}
	if s.spec.HostPID {
		s.Forbidden(at.Child("HostPID"), detail)
	}
	if s.spec.HostIPC {
		s.Forbidden(at.Child("HostIPC"), detail)
	}
}

func (s *scope) checkHostAliases(at *field.Path) {
	for i, alias := range s.spec.HostAliases {
		s.IP(at.Index(i).Child("ip"), alias.IP)
		for j, name := range alias.Hostnames {
			s.Subdomain(at.Index(i).Child("hostnames").Index(j), name)
		}
	}
}

func (s *scope) checkOS(at *field.Path) {
	if s.spec.OS == nil {
		return
	}
	switch s.osName {
	case "":
		s.Required(at.Child("os", "name"), "cannot be empty")
	case corev1.Linux:
		s.checkLinux(at)
	case corev1.Windows:
		s.checkWindows(at)
	default:
		s.Add(field.NotSupported(at.Child("os"), s.osName, []corev1.OSName{corev1.Linux, corev1.Windows}))
	}
}

// eachContainer visits init, regular and ephemeral containers.
func eachContainer(spec *corev1.PodSpec, at *field.Path, visit func(c *corev1.Container, at *field.Path)) {
	for i := range spec.InitContainers {
		visit(&spec.InitContainers[i], at.Child("initContainers").Index(i))
	}
	for i := range spec.Containers {
		visit(&spec.Containers[i], at.Child("containers").Index(i))
	}
	for i := range spec.EphemeralContainers {
		visit((*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon), at.Child("ephemeralContainers").Index(i))
	}
}

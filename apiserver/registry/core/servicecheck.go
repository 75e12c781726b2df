package core

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

func checkService(e *check.Errors, s *corev1.Service) {
	spec := field.NewPath("spec")
	checkTopologyAnnotations(e, s)
	if len(s.Spec.Ports) == 0 && !headless(s) && s.Spec.Type != corev1.ServiceTypeExternalName {
		e.Required(spec.Child("ports"), "")
	}
	checkServiceKind(e, s, spec)
	names := sets.New[string]()
	for i := range s.Spec.Ports {
		checkServicePort(e, &s.Spec.Ports[i], len(s.Spec.Ports) > 1, names, spec.Child("ports").Index(i))
	}
	if s.Spec.Selector != nil {
		e.Labels(spec.Child("selector"), s.Spec.Selector)
	}
	checkAffinity(e, s, spec)
	checkClusterIPs(e, s)
	for i, ip := range s.Spec.ExternalIPs {
		if e.IP(spec.Child("externalIPs").Index(i), ip) {
			e.RoutableIP(spec.Child("externalIPs").Index(i), ip)
		}
	}
	check.OneOf(e, spec.Child("type"), s.Spec.Type, corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName,
		corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort)
	checkPortsTogether(e, s, spec.Child("ports"))
	checkLoadBalancer(e, s, spec)
	checkTrafficPolicies(e, s, spec)
}

func checkTopologyAnnotations(e *check.Errors, s *corev1.Service) {
	hints, hasHints := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	mode, hasMode := s.Annotations[corev1.AnnotationTopologyMode]
	if hasHints && hasMode && hints != mode {
		e.Invalid(field.NewPath("metadata", "annotations").Key(corev1.AnnotationTopologyMode), mode,
			fmt.Sprintf("must match annotations[%s] when both are specified", corev1.DeprecatedAnnotationTopologyAwareHints))
	}
}

// checkServiceKind checks what a type may not have.
func checkServiceKind(e *check.Errors, s *corev1.Service, spec *field.Path) {
	switch s.Spec.Type {
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort:
		if headless(s) {
			e.Invalid(spec.Child("clusterIPs").Index(0), s.Spec.ClusterIPs[0],
				fmt.Sprintf("may not be set to 'None' for %s services", s.Spec.Type))
		}
	case corev1.ServiceTypeExternalName:
		const detail = "may not be set for ExternalName services"
		if len(s.Spec.ClusterIPs) > 0 {
			e.Forbidden(spec.Child("clusterIPs"), detail)
		}
		if len(s.Spec.IPFamilies) > 0 {
			e.Forbidden(spec.Child("ipFamilies"), detail)
		}
		if s.Spec.IPFamilyPolicy != nil {
			e.Forbidden(spec.Child("ipFamilyPolicy"), detail)
		}
		if name := strings.TrimSuffix(s.Spec.ExternalName, "."); name != "" {
			e.Subdomain(spec.Child("externalName"), name)
		} else {
			e.Required(spec.Child("externalName"), "")
		}
	}
}

func checkServicePort(e *check.Errors, p *corev1.ServicePort, needName bool, names sets.Set[string], at *field.Path) {
	if p.Name != "" {
		e.Label(at.Child("name"), p.Name)
		if names.Has(p.Name) {
			e.Duplicate(at.Child("name"), p.Name)
		}
		names.Insert(p.Name)
	} else if needName {
		e.Required(at.Child("name"), "")
	}
	e.Port(at.Child("port"), p.Port)
	checkProtocol(e, p.Protocol, at.Child("protocol"))
	e.PortOrName(at.Child("targetPort"), p.TargetPort)
	if p.AppProtocol != nil {
		e.QualifiedName(at.Child("appProtocol"), *p.AppProtocol)
	}
}

// checkPortsTogether checks ports against each other and against the type.
func checkPortsTogether(e *check.Errors, s *corev1.Service, at *field.Path) {
	if s.Spec.Type == corev1.ServiceTypeClusterIP {
		for i, p := range s.Spec.Ports {
			if p.NodePort != 0 {
				e.Forbidden(at.Index(i).Child("nodePort"), "may not be used when `type` is 'ClusterIP'")
			}
		}
	}
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	nodePorts, ports := sets.New[key](), sets.New[key]()
	for i, p := range s.Spec.Ports {
		if k := (key{p.Protocol, p.NodePort}); p.NodePort != 0 {
			if nodePorts.Has(k) {
				e.Duplicate(at.Index(i).Child("nodePort"), p.NodePort)
			}
			nodePorts.Insert(k)
		}
	}
	for i, p := range s.Spec.Ports {
		k := key{p.Protocol, p.Port}
		if ports.Has(k) {
			e.Duplicate(at.Index(i), corev1.ServicePort{Protocol: p.Protocol, Port: p.Port})
		}
		ports.Insert(k)
	}
}

func checkAffinity(e *check.Errors, s *corev1.Service, spec *field.Path) {
	check.OneOf(e, spec.Child("sessionAffinity"), s.Spec.SessionAffinity, corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone)
	at := spec.Child("sessionAffinityConfig")
	switch s.Spec.SessionAffinity {
	case corev1.ServiceAffinityNone:
		if s.Spec.SessionAffinityConfig != nil {
			e.Forbidden(at, "must not be set when session affinity is None")
		}
	case corev1.ServiceAffinityClientIP:
		const detail = "when session affinity type is ClientIP"
		const longest = 86400
		switch c := s.Spec.SessionAffinityConfig; {
		case c == nil:
			e.Required(at, detail)
		case c.ClientIP == nil:
			e.Required(at.Child("clientIP"), detail)
		case c.ClientIP.TimeoutSeconds == nil:
			e.Required(at.Child("clientIP", "timeoutSeconds"), detail)
		case *c.ClientIP.TimeoutSeconds <= 0 || *c.ClientIP.TimeoutSeconds > longest:
			e.Invalid(at.Child("clientIP", "timeoutSeconds"), *c.ClientIP.TimeoutSeconds,
				fmt.Sprintf("must be greater than 0 and less than %d", longest))
		}
	}
}

// checkClusterIPs checks clusterIP, clusterIPs, ipFamilies and ipFamilyPolicy against each other.
func checkClusterIPs(e *check.Errors, s *corev1.Service) {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	spec := field.NewPath("spec")
	ips, families := spec.Child("clusterIPs"), spec.Child("ipFamilies")
	switch {
	case s.Spec.ClusterIP == "" && len(s.Spec.ClusterIPs) != 0:
		e.Invalid(ips, s.Spec.ClusterIPs, "must be empty when `clusterIP` is not specified")
	case s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0:
		e.Required(ips, "")
	case s.Spec.ClusterIP != "" && s.Spec.ClusterIPs[0] != s.Spec.ClusterIP:
		e.Invalid(ips, s.Spec.ClusterIPs, "first value must match `clusterIP`")
	}
	for i, f := range s.Spec.IPFamilies {
		check.Supported(e, families.Index(i), f, corev1.IPv4Protocol, corev1.IPv6Protocol)
		if slices.Contains(s.Spec.IPFamilies[:i], f) {
			e.Duplicate(families.Index(i), f)
		}
	}
	if p := s.Spec.IPFamilyPolicy; p != nil {
		check.Supported(e, spec.Child("ipFamilyPolicy"), *p,
			corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicySingleStack)
	}
	before := len(e.List)
	for i, ip := range s.Spec.ClusterIPs {
		if i > 0 || ip != corev1.ClusterIPNone {
			e.IP(ips.Index(i), ip)
		} else if len(s.Spec.ClusterIPs) > 1 {
			e.Invalid(ips, s.Spec.ClusterIPs, "'None' must be the first and only value")
		}
	}
	bad := len(e.List) > before
	if len(s.Spec.ClusterIPs) > 2 {
		e.Invalid(ips, s.Spec.ClusterIPs, "may only hold up to 2 values")
	}
	if bad {
		return // what follows would only repeat it
	}
	if len(s.Spec.ClusterIPs) == 2 && isIPv6(s.Spec.ClusterIPs[0]) == isIPv6(s.Spec.ClusterIPs[1]) || len(s.Spec.ClusterIPs) > 2 {
		e.Invalid(ips, s.Spec.ClusterIPs, "may specify no more than one IP for each IP family")
	}
	if headless(s) {
		return
	}
	for i := range min(len(s.Spec.ClusterIPs), len(s.Spec.IPFamilies)) {
		if ip, f := s.Spec.ClusterIPs[i], s.Spec.IPFamilies[i]; f != familyOf(ip) && (f == corev1.IPv4Protocol || f == corev1.IPv6Protocol) {
			e.Invalid(ips.Index(i), ip, fmt.Sprintf("expected an %s value as indicated by `ipFamilies[%v]`", f, i))
		}
	}
}

func isIPv6(ip string) bool { return strings.Contains(ip, ":") }

func familyOf(ip string) corev1.IPFamily {
	if isIPv6(ip) {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

func checkLoadBalancer(e *check.Errors, s *corev1.Service, spec *field.Path) {
	const detail = "may only be used when `type` is 'LoadBalancer'"
	is := s.Spec.Type == corev1.ServiceTypeLoadBalancer
	if len(s.Spec.LoadBalancerSourceRanges) > 0 {
		at := spec.Child("LoadBalancerSourceRanges")
		if !is {
			e.Forbidden(at, detail)
		}
		for i, cidr := range s.Spec.LoadBalancerSourceRanges {
			e.CIDR(at.Index(i), strings.TrimSpace(cidr)) // blanks have always been allowed here
		}
	} else if list, set := s.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey]; set {
		at := field.NewPath("metadata", "annotations").Key(corev1.AnnotationLoadBalancerSourceRangesKey)
		if !is {
			e.Forbidden(at, detail)
		}
		if list = strings.TrimSpace(list); list != "" {
			for cidr := range strings.SplitSeq(list, ",") {
				e.CIDR(at, strings.TrimSpace(cidr))
			}
		}
	}
	if !is && s.Spec.AllocateLoadBalancerNodePorts != nil {
		e.Forbidden(spec.Child("allocateLoadBalancerNodePorts"), detail)
	}
	if is && s.Spec.AllocateLoadBalancerNodePorts == nil {
		e.Required(field.NewPath("allocateLoadBalancerNodePorts"), "")
	}
	if class := s.Spec.LoadBalancerClass; class != nil {
		if is {
			e.QualifiedName(spec.Child("loadBalancerClass"), *class)
		} else {
			e.Forbidden(spec.Child("loadBalancerClass"), detail)
		}
	}
}

func checkTrafficPolicies(e *check.Errors, s *corev1.Service, spec *field.Path) {
	external := spec.Child("externalTrafficPolicy")
	if reachableFromOutside(s) {
		check.OneOf(e, external, s.Spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)
	} else if s.Spec.ExternalTrafficPolicy != "" {
		e.Invalid(external, s.Spec.ExternalTrafficPolicy, "may only be set for externally-accessible services")
	}
	health := spec.Child("healthCheckNodePort")
	switch {
	case needsHealthCheckPort(s) && s.Spec.HealthCheckNodePort == 0:
		e.Required(health, "")
	case needsHealthCheckPort(s):
		e.Port(health, s.Spec.HealthCheckNodePort)
	case s.Spec.HealthCheckNodePort != 0:
		e.Invalid(health, s.Spec.HealthCheckNodePort, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'")
	}
	if p := s.Spec.InternalTrafficPolicy; p != nil {
		check.Supported(e, spec.Child("internalTrafficPolicy"), *p, corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)
	} else if needsClusterIP(s) {
		e.Required(spec.Child("internalTrafficPolicy"), "")
	}
	if d := s.Spec.TrafficDistribution; d != nil {
		check.Supported(e, spec.Child("trafficDistribution"), *d, corev1.ServiceTrafficDistributionPreferClose,
			corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode)
	}
}

func checkServiceUpdate(e *check.Errors, s, old *corev1.Service) {
	spec := field.NewPath("spec")
	if s.Spec.Type != corev1.ServiceTypeExternalName && old.Spec.Type != corev1.ServiceTypeExternalName {
		checkClusterIPChange(e, s, old, spec)
		checkFamilyChange(e, s, old, spec)
	}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer && old.Spec.Type == corev1.ServiceTypeLoadBalancer &&
		!same(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
		e.Invalid(spec.Child("loadBalancerClass"), s.Spec.LoadBalancerClass, "may not change once set")
	}
	if needsHealthCheckPort(s) && needsHealthCheckPort(old) && s.Spec.HealthCheckNodePort != old.Spec.HealthCheckNodePort {
		e.Forbidden(spec.Child("healthCheckNodePort"), "field is immutable")
	}
	checkService(e, s)
}

func singleStack(s *corev1.Service) bool {
	return s.Spec.IPFamilyPolicy != nil && *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack
}

// checkClusterIPChange: a second address may come and go, the others stay.
func checkClusterIPChange(e *check.Errors, s, old *corev1.Service, spec *field.Path) {
	is, was := s.Spec.ClusterIPs, old.Spec.ClusterIPs
	if headless(s) && headless(old) {
		return
	}
	at := spec.Child("clusterIPs")
	if len(is) == len(was) {
		for i := range was {
			if is[i] != was[i] {
				e.Invalid(at.Index(i), is, "may not change once set")
			}
		}
		return
	}
	if len(is) == 0 {
		e.Invalid(at.Index(0), is, "primary clusterIP can not be unset")
	} else if len(was) > 0 && is[0] != was[0] {
		e.Invalid(at.Index(0), is, "may not change once set")
	}
	if len(is) == 1 && len(was) > 1 && !singleStack(s) {
		e.Invalid(spec.Child("ipFamilyPolicy"), s.Spec.IPFamilyPolicy, "must be set to 'SingleStack' when releasing the secondary clusterIP")
	}
}

func checkFamilyChange(e *check.Errors, s, old *corev1.Service, spec *field.Path) {
	is, was := s.Spec.IPFamilies, old.Spec.IPFamilies
	if headless(s) || headless(old) {
		return
	}
	at := spec.Child("ipFamilies").Index(0)
	if len(is) == len(was) {
		for i := range was {
			if is[i] != was[i] {
				e.Invalid(at, is, "may not change once set")
			}
		}
		return
	}
	if len(is) < len(was) && len(s.Spec.ClusterIPs) == 0 {
		e.Invalid(at, is, "primary ipFamily can not be unset")
	}
	if len(is) > 0 && len(was) > 0 && is[0] != was[0] {
		e.Invalid(at, s.Spec.ClusterIPs, "may not change once set")
	}
	if len(is) == 1 && len(was) > 1 && !singleStack(s) {
		e.Invalid(spec.Child("ipFamilyPolicy"), s.Spec.IPFamilyPolicy, "must be set to 'SingleStack' when releasing the secondary ipFamily")
	}
}

func checkServiceStatus(e *check.Errors, s, _ *corev1.Service) {
	at := field.NewPath("status", "loadBalancer", "ingress")
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		if len(s.Status.LoadBalancer.Ingress) > 0 {
			e.Forbidden(at, "may only be used when `spec.type` is 'LoadBalancer'")
		}
		return
	}
	for i, in := range s.Status.LoadBalancer.Ingress {
		here := at.Index(i)
		if in.IP != "" {
			e.IP(here.Child("ip"), in.IP)
		}
		switch {
		case in.IPMode == nil && in.IP != "":
			e.Required(here.Child("ipMode"), "must be specified when `ip` is set")
		case in.IPMode != nil && in.IP == "":
			e.Forbidden(here.Child("ipMode"), "may not be specified when `ip` is not set")
		case in.IPMode != nil:
			check.Supported(e, here.Child("ipMode"), *in.IPMode, corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP)
		}
		if in.Hostname != "" {
			e.Subdomain(here.Child("hostname"), in.Hostname)
			if isAddress(in.Hostname) {
				e.Invalid(here.Child("hostname"), in.Hostname, "must be a DNS name, not an IP address")
			}
		}
	}
}

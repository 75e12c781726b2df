package core

import (
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"bareboat.dev/apiserver/registry/check"
	"bareboat.dev/apiserver/registry/podspec"
)

// takePodStatus takes what the kubelet reports, but for the class of the pod, which was found when it was made, and what
// belongs to features that are off by default in Kubernetes 1.37.
func takePodStatus(p, body *corev1.Pod) {
	qos := p.Status.QOSClass
	p.Status = body.Status
	if p.Status.QOSClass == "" {
		p.Status.QOSClass = qos
	}
	p.Status.VolumeHealth = nil // CSIVolumeHealth
	// The list of addresses has come later than the address, which whoever knows of one only sets.
	switch ips := p.Status.PodIPs; {
	case p.Status.PodIP == "" && len(ips) > 0:
		p.Status.PodIP = ips[0].IP
	case p.Status.PodIP != "" && (len(ips) == 0 || ips[0].IP != p.Status.PodIP):
		p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
	}
}

func checkPodStatusUpdate(e *check.Errors, p, old *corev1.Pod) {
	s, at := &p.Status, field.NewPath("status")
	checkAnnotationUpdate(e, p, old)
	podspec.ValidateAnnotations(e, p.Annotations, &p.Spec, annotationsPath)
	checkPodConditions(e, s.Conditions, at.Child("conditions"))
	checkNominated(e, p, old, at.Child("nominatedNodeName"))
	if s.ObservedGeneration < 0 {
		e.Invalid(at.Child("observedGeneration"), s.ObservedGeneration, notNegative)
	}
	e.Immutable(at.Child("qosClass"), s.QOSClass, old.Status.QOSClass)
	containers, inits, ephemeral := at.Child("containerStatuses"), at.Child("initContainerStatuses"), at.Child("ephemeralContainerStatuses")
	checkTransitions(e, s.ContainerStatuses, old.Status.ContainerStatuses, old, restartsContainer, containers)
	checkTransitions(e, s.InitContainerStatuses, old.Status.InitContainerStatuses, old, restartsInit, inits)
	checkTransitions(e, s.EphemeralContainerStatuses, old.Status.EphemeralContainerStatuses, old,
		func(*corev1.Pod, string, int32) bool { return false }, ephemeral)
	checkClaimStatuses(e, p, at.Child("resourceClaimStatuses"))
	checkExtendedClaim(e, p, at.Child("extendedResourceClaimStatus"))
	checkStatusIPs(e, p, old, at)
	for _, list := range []struct {
		statuses []corev1.ContainerStatus
		at       *field.Path
	}{{s.ContainerStatuses, containers}, {s.InitContainerStatuses, inits}, {s.EphemeralContainerStatuses, ephemeral}} {
		checkStatusUsers(e, list.statuses, p.Spec.OS, list.at)
	}
	checkAllocated(e, s.ContainerStatuses, p.Spec.Containers, s, containers)
	checkAllocated(e, s.InitContainerStatuses, p.Spec.InitContainers, s, inits)
	for i := range s.EphemeralContainerStatuses {
		if len(s.EphemeralContainerStatuses[i].AllocatedResourcesStatus) > 0 {
			e.Forbidden(ephemeral.Index(i).Child("allocatedResourcesStatus"), "must not be specified in container status")
		}
	}
}

const notNegative = "must be a non-negative integer"

func checkPodConditions(e *check.Errors, conditions []corev1.PodCondition, at *field.Path) {
	for i, c := range conditions {
		if c.ObservedGeneration < 0 {
			e.Invalid(at.Index(i).Child("observedGeneration"), c.ObservedGeneration, notNegative)
		}
		switch c.Type {
		case corev1.PodScheduled, corev1.PodReady, corev1.PodInitialized:
		default:
			e.QualifiedName(at.Index(i).Child("Type"), string(c.Type))
		}
	}
}

func checkNominated(e *check.Errors, p, old *corev1.Pod, at *field.Path) {
	name := p.Status.NominatedNodeName
	if name == "" || name == old.Status.NominatedNodeName {
		return
	}
	e.Name(at, name, dnsSubdomain)
	if old.Spec.NodeName != "" {
		e.Forbidden(at, "may not be set on pods that are already bound to a node")
	}
}

// checkTransitions: a container that has ended for good may not be reported as not ended.
func checkTransitions(e *check.Errors, is, was []corev1.ContainerStatus, pod *corev1.Pod, restarts func(*corev1.Pod, string, int32) bool, at *field.Path) {
	for i, w := range was {
		if w.State.Terminated == nil || restarts(pod, w.Name, w.State.Terminated.ExitCode) {
			continue
		}
		for _, s := range is {
			if s.Name == w.Name && s.State.Terminated == nil {
				e.Forbidden(at.Index(i).Child("state"), "may not be transitioned to non-terminated state")
			}
		}
	}
}

func checkClaimStatuses(e *check.Errors, p *corev1.Pod, at *field.Path) {
	seen := sets.New[string]()
	for i, s := range p.Status.ResourceClaimStatuses {
		here := at.Index(i)
		if !slices.ContainsFunc(p.Spec.ResourceClaims, func(c corev1.PodResourceClaim) bool { return c.Name == s.Name }) {
			e.Invalid(here.Child("name"), s.Name, "must match the name of an entry in `spec.resourceClaims`")
		}
		if seen.Has(s.Name) {
			e.Duplicate(here.Child("name"), s.Name)
		}
		seen.Insert(s.Name)
		if s.ResourceClaimName != nil {
			e.Name(here.Child("resourceClaimName"), *s.ResourceClaimName, dnsSubdomain)
		}
	}
}

// checkExtendedClaim checks the claim that was made for containers that ask for devices as for other resources.
func checkExtendedClaim(e *check.Errors, p *corev1.Pod, at *field.Path) {
	s := p.Status.ExtendedResourceClaimStatus
	if s == nil {
		return
	}
	requests := map[string]corev1.ResourceList{}
	for _, containers := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range containers {
			requests[containers[i].Name] = containers[i].Resources.Requests
		}
	}
	mappings := at.Child("requestMappings")
	if len(s.RequestMappings) == 0 {
		e.Required(mappings, "at least one request mapping is required")
	}
	for i, m := range s.RequestMappings {
		here := mappings.Index(i)
		if list, ok := requests[m.ContainerName]; !ok {
			e.Invalid(here.Child("containerName"), m.ContainerName, "must match the name of an entry in spec.initContainers.name or spec.containers.name")
		} else if _, ok := list[corev1.ResourceName(m.ResourceName)]; !ok {
			e.Invalid(here.Child("resourceName"), m.ResourceName,
				"must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests")
		}
		e.Label(at.Child("requestName"), m.RequestName)
		if slices.Contains(s.RequestMappings[:i], m) {
			e.Duplicate(here.Child("containerName"), m.ContainerName)
			e.Duplicate(here.Child("resourceName"), m.ResourceName)
			e.Duplicate(here.Child("requestName"), m.RequestName)
		}
	}
	if e.Present(at.Child("resourceClaimName"), s.ResourceClaimName) {
		e.Name(at.Child("resourceClaimName"), s.ResourceClaimName, dnsSubdomain)
	}
}

func checkStatusIPs(e *check.Errors, p, old *corev1.Pod, at *field.Path) {
	texts := func(s *corev1.PodStatus) (podIPs, hostIPs []string) {
		for _, ip := range s.PodIPs {
			podIPs = append(podIPs, ip.IP)
		}
		for _, ip := range s.HostIPs {
			hostIPs = append(hostIPs, ip.IP)
		}
		return podIPs, hostIPs
	}
	podIPs, hostIPs := texts(&p.Status)
	wasPodIPs, wasHostIPs := texts(&old.Status)
	checkAddressPair(e, podIPs, wasPodIPs, p.Status.PodIPs, at.Child("podIPs"))
	if len(hostIPs) == 0 {
		return
	}
	if hostIPs[0] != p.Status.HostIP {
		e.Invalid(at.Child("hostIPs").Index(0).Child("ip"), hostIPs[0], "must be equal to `hostIP`")
	}
	checkAddressPair(e, hostIPs, wasHostIPs, p.Status.HostIPs, at.Child("hostIPs"))
}

// checkAddressPair checks an address, or one of each family; those that were there may be in older forms.
func checkAddressPair(e *check.Errors, ips, were []string, value any, at *field.Path) {
	for i, ip := range ips {
		e.Add(validation.IsValidIPForLegacyField(at.Index(i), ip, true, were)...)
	}
	if len(ips) < 2 {
		return
	}
	pair, err := netutils.IsDualStackIPStrings(ips)
	if err != nil {
		e.Add(field.InternalError(at, fmt.Errorf("failed to check for dual stack with error:%v", err)))
	}
	if !pair || len(ips) > 2 {
		e.Invalid(at, value, "may specify no more than one IP for each IP family")
	}
}

// checkStatusUsers checks whom containers run as, which their runtime reports: users that a pod may not ask for among them.
func checkStatusUsers(e *check.Errors, statuses []corev1.ContainerStatus, os *corev1.PodOS, at *field.Path) {
	for i := range statuses {
		u := statuses[i].User
		if u == nil || u.Linux == nil {
			continue
		}
		here := at.Index(i).Child("user", "linux")
		if os != nil && os.Name != corev1.Linux {
			if os.Name == corev1.Windows {
				e.Forbidden(here, "cannot be set for a windows pod")
			}
			continue
		}
		if u.Linux.UID < 0 || u.Linux.UID > math.MaxUint32 {
			e.Invalid(here.Child("uid"), u.Linux.UID, fmt.Sprintf("must be between 0 and %d, inclusive", int64(math.MaxUint32)))
		}
		e.Each(here.Child("gid"), u.Linux.GID, validation.IsValidGroupID(u.Linux.GID))
		for g, gid := range u.Linux.SupplementalGroups {
			e.Each(here.Child("supplementalGroups").Index(g), gid, validation.IsValidGroupID(gid))
		}
	}
}

// claimPrefix begins the names of resources that are claims.
const claimPrefix = "claim:"

// checkAllocated checks how healthy the devices of containers are said to be. Statuses of containers that the pod doesn't have are borne.
func checkAllocated(e *check.Errors, statuses []corev1.ContainerStatus, containers []corev1.Container, pod *corev1.PodStatus, at *field.Path) {
	for i := range statuses {
		c := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == statuses[i].Name })
		for j, r := range statuses[i].AllocatedResourcesStatus {
			here := at.Index(i).Child("allocatedResourcesStatus").Index(j)
			if c >= 0 {
				checkAllocatedName(e, r.Name, &containers[c], pod, here.Child("name"))
			}
			checkHealth(e, r.Resources, here.Child("resources"))
		}
	}
}

func checkAllocatedName(e *check.Errors, name corev1.ResourceName, c *corev1.Container, pod *corev1.PodStatus, at *field.Path) {
	claim, isClaim := strings.CutPrefix(string(name), claimPrefix)
	if !isClaim {
		if _, asked := c.Resources.Requests[name]; !asked {
			e.Invalid(at, name, "must match one of the container's resource requests")
		}
		return
	}
	asked := slices.ContainsFunc(c.Resources.Claims, func(r corev1.ResourceClaim) bool {
		return claim == r.Name && r.Request == "" || r.Request != "" && claim == r.Name+"/"+r.Request
	})
	if !asked && !extendedClaim(claim, c, pod.ExtendedResourceClaimStatus) {
		e.Invalid(at, name, "must match one of the container's resource claims as 'claim:<claimName>/<requestName>' "+
			"when container.resources.claims[*].request is set or 'claim:<claimName>' when it is empty")
	}
}

// extendedClaim reports whether "claim/request" is what an extended resource of the container has become.
func extendedClaim(name string, c *corev1.Container, s *corev1.PodExtendedResourceClaimStatus) bool {
	claim, request, found := strings.Cut(name, "/")
	if s == nil || !found || request == "" || claim != s.ResourceClaimName {
		return false
	}
	return slices.ContainsFunc(s.RequestMappings, func(m corev1.ContainerExtendedResourceRequest) bool {
		asked, ok := c.Resources.Requests[corev1.ResourceName(m.ResourceName)]
		return m.ContainerName == c.Name && m.RequestName == request && ok && asked.Cmp(resource.Quantity{}) != 0
	})
}

func checkHealth(e *check.Errors, devices []corev1.ResourceHealth, at *field.Path) {
	seen := sets.New[corev1.ResourceID]()
	for i, d := range devices {
		here := at.Index(i)
		check.Supported(e, here.Child("health"), d.Health, corev1.ResourceHealthStatusHealthy, corev1.ResourceHealthStatusUnhealthy, corev1.ResourceHealthStatusUnknown)
		if d.Message != nil {
			switch n := len(*d.Message); {
			case n == 0:
				e.Required(here.Child("message"), "must be non-empty if specified")
			case n > corev1.ResourceHealthMessageMaxLength:
				e.Add(field.TooLong(here.Child("message"), *d.Message, corev1.ResourceHealthMessageMaxLength))
			}
		}
		if seen.Has(d.ResourceID) {
			e.Duplicate(here.Child("resourceID"), d.ResourceID)
		}
		seen.Insert(d.ResourceID)
	}
}

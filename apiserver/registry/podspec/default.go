// Package podspec is what every kind that holds a pod shares: defaulting and validation of PodSpec and PodTemplateSpec.
//
//	podspec.Default(&template.Spec)                                         // as every PodSpec is defaulted
//	podspec.ValidateTemplate(&e, template, field.NewPath("spec", "template"))
//
// Field paths, error types and wording are those of kube-apiserver 1.37 with its default feature gates.
package podspec

import (
	"reflect"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// Default fills what is unset in any PodSpec, in a pod or a template.
func Default(s *corev1.PodSpec) {
	dropAlpha(s)
	setIfEmpty(&s.DNSPolicy, corev1.DNSClusterFirst)
	setIfEmpty(&s.RestartPolicy, corev1.RestartPolicyAlways)
	setIfEmpty(&s.SchedulerName, corev1.DefaultSchedulerName)
	setIfNil(&s.SecurityContext, corev1.PodSecurityContext{})
	setIfNil(&s.TerminationGracePeriodSeconds, int64(corev1.DefaultTerminationGracePeriodSeconds))
	// The two names of one field; the deprecated one is filled for old readers and followed when it comes alone.
	setIfEmpty(&s.ServiceAccountName, s.DeprecatedServiceAccount)
	s.DeprecatedServiceAccount = s.ServiceAccountName
	for i := range s.Volumes {
		defaultVolume(&s.Volumes[i])
	}
	for i := range s.InitContainers {
		defaultContainer(&s.InitContainers[i])
	}
	for i := range s.Containers {
		defaultContainer(&s.Containers[i])
	}
	for i := range s.EphemeralContainers {
		defaultContainer((*corev1.Container)(&s.EphemeralContainers[i].EphemeralContainerCommon))
	}
	roundUp(s.Overhead)
	if s.Resources != nil {
		roundUp(s.Resources.Limits)
		roundUp(s.Resources.Requests)
	}
}

// DefaultPod fills what is unset in a Pod and stays unset in templates.
func DefaultPod(p *corev1.Pod) {
	// A negative period was accepted once, and meant as little time as there can be.
	if grace := p.Spec.TerminationGracePeriodSeconds; grace != nil && *grace < 0 {
		p.Spec.TerminationGracePeriodSeconds = new(int64(1))
	}
	for _, containers := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range containers {
			requestsFromLimits(&containers[i].Resources)
		}
	}
	if r := p.Spec.Resources; r != nil {
		hugepageLimitsFromContainers(p, r)
		podRequestsFromContainers(p, r)
	}
	setIfNil(&p.Spec.EnableServiceLinks, corev1.DefaultEnableServiceLinks)
	if p.Spec.HostNetwork {
		defaultHostPorts(p.Spec.Containers)
		defaultHostPorts(p.Spec.InitContainers)
	}
	setIfEmpty(&p.Status.Phase, corev1.PodPending)
}

func defaultContainer(c *corev1.Container) {
	setIfEmpty(&c.ImagePullPolicy, pullPolicy(c.Image))
	setIfEmpty(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	setIfEmpty(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	for i := range c.Ports {
		setIfEmpty(&c.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for i := range c.Env {
		if from := c.Env[i].ValueFrom; from != nil {
			defaultFieldRef(from.FieldRef)
			if from.FileKeyRef != nil {
				setIfNil(&from.FileKeyRef.Optional, false)
			}
		}
	}
	roundUp(c.Resources.Limits)
	roundUp(c.Resources.Requests)
	for _, probe := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		defaultProbe(probe)
	}
	if c.Lifecycle != nil {
		for _, hook := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if hook != nil {
				defaultHTTPGet(hook.HTTPGet)
			}
		}
	}
}

func defaultProbe(p *corev1.Probe) {
	if p == nil {
		return
	}
	setIfEmpty(&p.TimeoutSeconds, 1)
	setIfEmpty(&p.PeriodSeconds, 10)
	setIfEmpty(&p.SuccessThreshold, 1)
	setIfEmpty(&p.FailureThreshold, 3)
	defaultHTTPGet(p.HTTPGet)
	if p.GRPC != nil {
		setIfNil(&p.GRPC.Service, "")
	}
}

func defaultHTTPGet(h *corev1.HTTPGetAction) {
	if h != nil {
		setIfEmpty(&h.Path, "/")
		setIfEmpty(&h.Scheme, corev1.URISchemeHTTP)
	}
}

func defaultFieldRef(r *corev1.ObjectFieldSelector) {
	if r != nil {
		setIfEmpty(&r.APIVersion, "v1")
	}
}

func defaultVolume(v *corev1.Volume) {
	if reflect.ValueOf(v.VolumeSource).IsZero() {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	const mode = int32(corev1.SecretVolumeSourceDefaultMode)
	switch {
	case v.Secret != nil:
		setIfNil(&v.Secret.DefaultMode, mode)
	case v.ConfigMap != nil:
		setIfNil(&v.ConfigMap.DefaultMode, mode)
	case v.DownwardAPI != nil:
		setIfNil(&v.DownwardAPI.DefaultMode, mode)
		for i := range v.DownwardAPI.Items {
			defaultFieldRef(v.DownwardAPI.Items[i].FieldRef)
		}
	case v.Projected != nil:
		setIfNil(&v.Projected.DefaultMode, mode)
		for i := range v.Projected.Sources {
			defaultProjection(&v.Projected.Sources[i])
		}
	case v.HostPath != nil:
		setIfNil(&v.HostPath.Type, corev1.HostPathUnset)
	case v.Image != nil:
		setIfEmpty(&v.Image.PullPolicy, pullPolicy(v.Image.Reference))
	case v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil:
		DefaultClaimSpec(&v.Ephemeral.VolumeClaimTemplate.Spec)
	default:
		defaultStorageVolume(&v.VolumeSource)
	}
}

func defaultProjection(p *corev1.VolumeProjection) {
	if p.ServiceAccountToken != nil {
		setIfNil(&p.ServiceAccountToken.ExpirationSeconds, 60*60)
	}
	if p.DownwardAPI != nil {
		for i := range p.DownwardAPI.Items {
			defaultFieldRef(p.DownwardAPI.Items[i].FieldRef)
		}
	}
	if p.PodCertificate != nil {
		setIfNil(&p.PodCertificate.MaxExpirationSeconds, 24*60*60)
	}
}

// defaultStorageVolume covers the sources that belong to particular storage systems.
func defaultStorageVolume(v *corev1.VolumeSource) {
	switch {
	case v.ISCSI != nil:
		setIfEmpty(&v.ISCSI.ISCSIInterface, "default")
	case v.RBD != nil:
		setIfEmpty(&v.RBD.RBDPool, "rbd")
		setIfEmpty(&v.RBD.RadosUser, "admin")
		setIfEmpty(&v.RBD.Keyring, "/etc/ceph/keyring")
	case v.AzureDisk != nil:
		setIfNil(&v.AzureDisk.CachingMode, corev1.AzureDataDiskCachingReadWrite)
		setIfNil(&v.AzureDisk.Kind, corev1.AzureSharedBlobDisk)
		setIfNil(&v.AzureDisk.FSType, "ext4")
		setIfNil(&v.AzureDisk.ReadOnly, false)
	case v.ScaleIO != nil:
		setIfEmpty(&v.ScaleIO.StorageMode, "ThinProvisioned")
		setIfEmpty(&v.ScaleIO.FSType, "xfs")
	}
}

// DefaultClaimSpec fills a PersistentVolumeClaimSpec.
func DefaultClaimSpec(s *corev1.PersistentVolumeClaimSpec) {
	setIfNil(&s.VolumeMode, corev1.PersistentVolumeFilesystem)
	roundUp(s.Resources.Limits)
	roundUp(s.Resources.Requests)
}

// pullPolicy is Always for images that name no other tag than latest and no digest. An image that cannot be parsed is
// refused by nobody here: the kubelet reports it.
func pullPolicy(image string) corev1.PullPolicy {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return corev1.PullIfNotPresent
	}
	tagged, hasTag := named.(reference.Tagged)
	_, hasDigest := named.(reference.Digested)
	if hasTag && tagged.Tag() == "latest" || !hasTag && !hasDigest {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

// roundUp gives amounts the precision that the API keeps: thousandths.
func roundUp(list corev1.ResourceList) {
	const milli = -3
	for name, q := range list {
		q.RoundUp(milli)
		list[name] = q
	}
}

func defaultHostPorts(containers []corev1.Container) {
	for i := range containers {
		for j := range containers[i].Ports {
			p := &containers[i].Ports[j]
			setIfEmpty(&p.HostPort, p.ContainerPort)
		}
	}
}

func requestsFromLimits(r *corev1.ResourceRequirements) {
	if r.Limits == nil {
		return
	}
	if r.Requests == nil {
		r.Requests = corev1.ResourceList{}
	}
	for name, limit := range r.Limits {
		if _, set := r.Requests[name]; !set {
			r.Requests[name] = limit.DeepCopy()
		}
	}
}

// hugepageLimitsFromContainers and podRequestsFromContainers follow KEP-2837: a pod with resources of its own takes what it
// leaves open from its containers, and requests from limits when no container asks.
func hugepageLimitsFromContainers(p *corev1.Pod, r *corev1.ResourceRequirements) {
	if len(r.Limits) == 0 && len(r.Requests) == 0 {
		return
	}
	for name, limit := range resource.AggregateContainerLimits(p, resource.PodResourcesOptions{}) {
		_, hasRequest := r.Requests[name]
		_, hasLimit := r.Limits[name]
		if !isHugePage(name) || !resource.IsSupportedPodLevelResource(name) || hasRequest || hasLimit {
			continue
		}
		if r.Limits == nil {
			r.Limits = corev1.ResourceList{}
		}
		r.Limits[name] = limit.DeepCopy()
	}
}

func podRequestsFromContainers(p *corev1.Pod, r *corev1.ResourceRequirements) {
	if len(r.Limits) == 0 {
		return
	}
	requests := r.Requests
	if requests == nil {
		requests = corev1.ResourceList{}
	}
	for name, request := range resource.AggregateContainerRequests(p, resource.PodResourcesOptions{}) {
		if _, set := requests[name]; !set && resource.IsSupportedPodLevelResource(name) && Overcommits(name) {
			requests[name] = request.DeepCopy()
		}
	}
	for name, limit := range r.Limits {
		if _, set := requests[name]; !set && resource.IsSupportedPodLevelResource(name) {
			requests[name] = limit.DeepCopy()
		}
	}
	if len(requests) > 0 {
		r.Requests = requests
	}
}

func setIfEmpty[T comparable](dst *T, value T) {
	var zero T
	if *dst == zero {
		*dst = value
	}
}

func setIfNil[T any](dst **T, value T) {
	if *dst == nil {
		*dst = &value
	}
}

package client

import (
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	storagemigrationv1 "k8s.io/api/storagemigration/v1"
)

// The built-in kinds, one function each. A new kind is one more of them.

// Pods describes v1 Pod.
func Pods() Kind[*corev1.Pod] {
	return Kind[*corev1.Pod]{"", "v1", "pods", "Pod", true, func() *corev1.Pod { return new(corev1.Pod) }}
}

// Nodes describes v1 Node.
func Nodes() Kind[*corev1.Node] {
	return Kind[*corev1.Node]{"", "v1", "nodes", "Node", false, func() *corev1.Node { return new(corev1.Node) }}
}

// Namespaces describes v1 Namespace.
func Namespaces() Kind[*corev1.Namespace] {
	return Kind[*corev1.Namespace]{"", "v1", "namespaces", "Namespace", false, func() *corev1.Namespace { return new(corev1.Namespace) }}
}

// Services describes v1 Service.
func Services() Kind[*corev1.Service] {
	return Kind[*corev1.Service]{"", "v1", "services", "Service", true, func() *corev1.Service { return new(corev1.Service) }}
}

// ConfigMaps describes v1 ConfigMap.
func ConfigMaps() Kind[*corev1.ConfigMap] {
	return Kind[*corev1.ConfigMap]{"", "v1", "configmaps", "ConfigMap", true, func() *corev1.ConfigMap { return new(corev1.ConfigMap) }}
}

// Secrets describes v1 Secret.
func Secrets() Kind[*corev1.Secret] {
	return Kind[*corev1.Secret]{"", "v1", "secrets", "Secret", true, func() *corev1.Secret { return new(corev1.Secret) }}
}

// ServiceAccounts describes v1 ServiceAccount.
func ServiceAccounts() Kind[*corev1.ServiceAccount] {
	return Kind[*corev1.ServiceAccount]{"", "v1", "serviceaccounts", "ServiceAccount", true, func() *corev1.ServiceAccount { return new(corev1.ServiceAccount) }}
}

// Events describes v1 Event.
func Events() Kind[*corev1.Event] {
	return Kind[*corev1.Event]{"", "v1", "events", "Event", true, func() *corev1.Event { return new(corev1.Event) }}
}

// PersistentVolumes describes v1 PersistentVolume.
func PersistentVolumes() Kind[*corev1.PersistentVolume] {
	return Kind[*corev1.PersistentVolume]{"", "v1", "persistentvolumes", "PersistentVolume", false, func() *corev1.PersistentVolume { return new(corev1.PersistentVolume) }}
}

// PersistentVolumeClaims describes v1 PersistentVolumeClaim.
func PersistentVolumeClaims() Kind[*corev1.PersistentVolumeClaim] {
	return Kind[*corev1.PersistentVolumeClaim]{"", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", true, func() *corev1.PersistentVolumeClaim { return new(corev1.PersistentVolumeClaim) }}
}

// Endpoints describes v1 Endpoints.
func Endpoints() Kind[*corev1.Endpoints] {
	return Kind[*corev1.Endpoints]{"", "v1", "endpoints", "Endpoints", true, func() *corev1.Endpoints { return new(corev1.Endpoints) }}
}

// ReplicationControllers describes v1 ReplicationController.
func ReplicationControllers() Kind[*corev1.ReplicationController] {
	return Kind[*corev1.ReplicationController]{"", "v1", "replicationcontrollers", "ReplicationController", true, func() *corev1.ReplicationController { return new(corev1.ReplicationController) }}
}

// ResourceQuotas describes v1 ResourceQuota.
func ResourceQuotas() Kind[*corev1.ResourceQuota] {
	return Kind[*corev1.ResourceQuota]{"", "v1", "resourcequotas", "ResourceQuota", true, func() *corev1.ResourceQuota { return new(corev1.ResourceQuota) }}
}

// LimitRanges describes v1 LimitRange.
func LimitRanges() Kind[*corev1.LimitRange] {
	return Kind[*corev1.LimitRange]{"", "v1", "limitranges", "LimitRange", true, func() *corev1.LimitRange { return new(corev1.LimitRange) }}
}

// EndpointSlices describes discovery.k8s.io/v1 EndpointSlice.
func EndpointSlices() Kind[*discoveryv1.EndpointSlice] {
	return Kind[*discoveryv1.EndpointSlice]{"discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", true, func() *discoveryv1.EndpointSlice { return new(discoveryv1.EndpointSlice) }}
}

// Leases describes coordination.k8s.io/v1 Lease.
func Leases() Kind[*coordinationv1.Lease] {
	return Kind[*coordinationv1.Lease]{"coordination.k8s.io", "v1", "leases", "Lease", true, func() *coordinationv1.Lease { return new(coordinationv1.Lease) }}
}

// ReplicaSets describes apps/v1 ReplicaSet.
func ReplicaSets() Kind[*appsv1.ReplicaSet] {
	return Kind[*appsv1.ReplicaSet]{"apps", "v1", "replicasets", "ReplicaSet", true, func() *appsv1.ReplicaSet { return new(appsv1.ReplicaSet) }}
}

// Deployments describes apps/v1 Deployment.
func Deployments() Kind[*appsv1.Deployment] {
	return Kind[*appsv1.Deployment]{"apps", "v1", "deployments", "Deployment", true, func() *appsv1.Deployment { return new(appsv1.Deployment) }}
}

// StatefulSets describes apps/v1 StatefulSet.
func StatefulSets() Kind[*appsv1.StatefulSet] {
	return Kind[*appsv1.StatefulSet]{"apps", "v1", "statefulsets", "StatefulSet", true, func() *appsv1.StatefulSet { return new(appsv1.StatefulSet) }}
}

// DaemonSets describes apps/v1 DaemonSet.
func DaemonSets() Kind[*appsv1.DaemonSet] {
	return Kind[*appsv1.DaemonSet]{"apps", "v1", "daemonsets", "DaemonSet", true, func() *appsv1.DaemonSet { return new(appsv1.DaemonSet) }}
}

// ControllerRevisions describes apps/v1 ControllerRevision.
func ControllerRevisions() Kind[*appsv1.ControllerRevision] {
	return Kind[*appsv1.ControllerRevision]{"apps", "v1", "controllerrevisions", "ControllerRevision", true, func() *appsv1.ControllerRevision { return new(appsv1.ControllerRevision) }}
}

// Jobs describes batch/v1 Job.
func Jobs() Kind[*batchv1.Job] {
	return Kind[*batchv1.Job]{"batch", "v1", "jobs", "Job", true, func() *batchv1.Job { return new(batchv1.Job) }}
}

// CronJobs describes batch/v1 CronJob.
func CronJobs() Kind[*batchv1.CronJob] {
	return Kind[*batchv1.CronJob]{"batch", "v1", "cronjobs", "CronJob", true, func() *batchv1.CronJob { return new(batchv1.CronJob) }}
}

// PodDisruptionBudgets describes policy/v1 PodDisruptionBudget.
func PodDisruptionBudgets() Kind[*policyv1.PodDisruptionBudget] {
	return Kind[*policyv1.PodDisruptionBudget]{"policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", true, func() *policyv1.PodDisruptionBudget { return new(policyv1.PodDisruptionBudget) }}
}

// PriorityClasses describes scheduling.k8s.io/v1 PriorityClass.
func PriorityClasses() Kind[*schedulingv1.PriorityClass] {
	return Kind[*schedulingv1.PriorityClass]{"scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", false, func() *schedulingv1.PriorityClass { return new(schedulingv1.PriorityClass) }}
}

// NetworkPolicies describes networking.k8s.io/v1 NetworkPolicy.
func NetworkPolicies() Kind[*networkingv1.NetworkPolicy] {
	return Kind[*networkingv1.NetworkPolicy]{"networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", true, func() *networkingv1.NetworkPolicy { return new(networkingv1.NetworkPolicy) }}
}

// StorageClasses describes storage.k8s.io/v1 StorageClass.
func StorageClasses() Kind[*storagev1.StorageClass] {
	return Kind[*storagev1.StorageClass]{"storage.k8s.io", "v1", "storageclasses", "StorageClass", false, func() *storagev1.StorageClass { return new(storagev1.StorageClass) }}
}

// ClusterTrustBundles describes certificates.k8s.io/v1 ClusterTrustBundle.
func ClusterTrustBundles() Kind[*certificatesv1.ClusterTrustBundle] {
	return Kind[*certificatesv1.ClusterTrustBundle]{"certificates.k8s.io", "v1", "clustertrustbundles", "ClusterTrustBundle", false,
		func() *certificatesv1.ClusterTrustBundle { return new(certificatesv1.ClusterTrustBundle) }}
}

// PodCertificateRequests describes certificates.k8s.io/v1 PodCertificateRequest.
func PodCertificateRequests() Kind[*certificatesv1.PodCertificateRequest] {
	return Kind[*certificatesv1.PodCertificateRequest]{"certificates.k8s.io", "v1", "podcertificaterequests", "PodCertificateRequest", true,
		func() *certificatesv1.PodCertificateRequest { return new(certificatesv1.PodCertificateRequest) }}
}

// StorageVersionMigrations describes storagemigration.k8s.io/v1 StorageVersionMigration.
func StorageVersionMigrations() Kind[*storagemigrationv1.StorageVersionMigration] {
	return Kind[*storagemigrationv1.StorageVersionMigration]{"storagemigration.k8s.io", "v1", "storageversionmigrations", "StorageVersionMigration", false,
		func() *storagemigrationv1.StorageVersionMigration {
			return new(storagemigrationv1.StorageVersionMigration)
		}}
}

// CertificateSigningRequests describes certificates.k8s.io/v1 CertificateSigningRequest.
func CertificateSigningRequests() Kind[*certificatesv1.CertificateSigningRequest] {
	return Kind[*certificatesv1.CertificateSigningRequest]{"certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", false, func() *certificatesv1.CertificateSigningRequest { return new(certificatesv1.CertificateSigningRequest) }}
}

// RuntimeClasses describes node.k8s.io/v1 RuntimeClass.
func RuntimeClasses() Kind[*nodev1.RuntimeClass] {
	return Kind[*nodev1.RuntimeClass]{"node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", false, func() *nodev1.RuntimeClass { return new(nodev1.RuntimeClass) }}
}

// CSINodes describes storage.k8s.io/v1 CSINode.
func CSINodes() Kind[*storagev1.CSINode] {
	return Kind[*storagev1.CSINode]{"storage.k8s.io", "v1", "csinodes", "CSINode", false, func() *storagev1.CSINode { return new(storagev1.CSINode) }}
}

// HorizontalPodAutoscalers describes autoscaling/v2 HorizontalPodAutoscaler.
func HorizontalPodAutoscalers() Kind[*autoscalingv2.HorizontalPodAutoscaler] {
	return Kind[*autoscalingv2.HorizontalPodAutoscaler]{"autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", true, func() *autoscalingv2.HorizontalPodAutoscaler {
		return new(autoscalingv2.HorizontalPodAutoscaler)
	}}
}

// CSIDrivers describes storage.k8s.io/v1 CSIDriver.
func CSIDrivers() Kind[*storagev1.CSIDriver] {
	return Kind[*storagev1.CSIDriver]{"storage.k8s.io", "v1", "csidrivers", "CSIDriver", false, func() *storagev1.CSIDriver { return new(storagev1.CSIDriver) }}
}

// VolumeAttachments describes storage.k8s.io/v1 VolumeAttachment.
func VolumeAttachments() Kind[*storagev1.VolumeAttachment] {
	return Kind[*storagev1.VolumeAttachment]{"storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", false, func() *storagev1.VolumeAttachment { return new(storagev1.VolumeAttachment) }}
}

// SubjectAccessReviews describes authorization.k8s.io/v1 SubjectAccessReview, which is created to be answered and never stored.
func SubjectAccessReviews() Kind[*authorizationv1.SubjectAccessReview] {
	return Kind[*authorizationv1.SubjectAccessReview]{"authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", false, func() *authorizationv1.SubjectAccessReview {
		return new(authorizationv1.SubjectAccessReview)
	}}
}

// ResourceClaims describes resource.k8s.io/v1 ResourceClaim.
func ResourceClaims() Kind[*resourcev1.ResourceClaim] {
	return Kind[*resourcev1.ResourceClaim]{"resource.k8s.io", "v1", "resourceclaims", "ResourceClaim", true, func() *resourcev1.ResourceClaim { return new(resourcev1.ResourceClaim) }}
}

// ResourceClaimTemplates describes resource.k8s.io/v1 ResourceClaimTemplate.
func ResourceClaimTemplates() Kind[*resourcev1.ResourceClaimTemplate] {
	return Kind[*resourcev1.ResourceClaimTemplate]{"resource.k8s.io", "v1", "resourceclaimtemplates", "ResourceClaimTemplate", true, func() *resourcev1.ResourceClaimTemplate {
		return new(resourcev1.ResourceClaimTemplate)
	}}
}

// ResourceSlices describes resource.k8s.io/v1 ResourceSlice.
func ResourceSlices() Kind[*resourcev1.ResourceSlice] {
	return Kind[*resourcev1.ResourceSlice]{"resource.k8s.io", "v1", "resourceslices", "ResourceSlice", false, func() *resourcev1.ResourceSlice { return new(resourcev1.ResourceSlice) }}
}

// DeviceTaintRules describes resource.k8s.io/v1 DeviceTaintRule.
func DeviceTaintRules() Kind[*resourcev1.DeviceTaintRule] {
	return Kind[*resourcev1.DeviceTaintRule]{"resource.k8s.io", "v1", "devicetaintrules", "DeviceTaintRule", false, func() *resourcev1.DeviceTaintRule { return new(resourcev1.DeviceTaintRule) }}
}

// DeviceClasses describes resource.k8s.io/v1 DeviceClass.
func DeviceClasses() Kind[*resourcev1.DeviceClass] {
	return Kind[*resourcev1.DeviceClass]{"resource.k8s.io", "v1", "deviceclasses", "DeviceClass", false, func() *resourcev1.DeviceClass { return new(resourcev1.DeviceClass) }}
}

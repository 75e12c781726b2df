package plan

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/client"
)

// Kind names a kind. It is a comparable value, so kinds are keys of maps.
type Kind struct {
	// Group is empty for the core group.
	Group, Version string
	// Resource is the plural in lower case, "pods".
	Resource string
	// Kind is in upper camel case, "Pod".
	Kind       string
	Namespaced bool
}

// Of returns the name of a client's kind.
func Of[T client.Object](k client.Kind[T]) Kind {
	return Kind{k.Group, k.Version, k.Resource, k.KindName, k.Namespaced}
}

// Untyped is the client's descriptor of a kind whose Go type does not matter, for writing only.
func (k Kind) Untyped() client.Kind[client.Object] {
	return client.Kind[client.Object]{Group: k.Group, Version: k.Version, Resource: k.Resource, KindName: k.Kind, Namespaced: k.Namespaced}
}

// APIVersion is group/version, or only the version in the core group.
func (k Kind) APIVersion() string {
	return schema.GroupVersion{Group: k.Group, Version: k.Version}.String()
}

// GVK returns the kind as apimachinery spells it.
func (k Kind) GVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Kind}
}

// String is resource.group, as kubectl accepts it.
func (k Kind) String() string {
	return schema.GroupResource{Group: k.Group, Resource: k.Resource}.String()
}

// The kinds that controllers here write or read.
var (
	Pods            = Of(client.Pods())
	Nodes           = Of(client.Nodes())
	Namespaces      = Of(client.Namespaces())
	Services        = Of(client.Services())
	ConfigMaps      = Of(client.ConfigMaps())
	Secrets         = Of(client.Secrets())
	ServiceAccounts = Of(client.ServiceAccounts())
	Endpoints       = Of(client.Endpoints())
	ResourceQuotas  = Of(client.ResourceQuotas())
	PVs             = Of(client.PersistentVolumes())
	PVCs            = Of(client.PersistentVolumeClaims())
	StorageClasses  = Of(client.StorageClasses())
	EndpointSlices  = Of(client.EndpointSlices())
	Leases          = Of(client.Leases())
	ReplicaSets     = Of(client.ReplicaSets())

	ReplicationControllers = Of(client.ReplicationControllers())
	Deployments            = Of(client.Deployments())
	StatefulSets           = Of(client.StatefulSets())
	DaemonSets             = Of(client.DaemonSets())
	ControllerRevision     = Of(client.ControllerRevisions())
	Jobs                   = Of(client.Jobs())
	CronJobs               = Of(client.CronJobs())
	PDBs                   = Of(client.PodDisruptionBudgets())
	VolumeAttachments      = Of(client.VolumeAttachments())
	CSIDrivers             = Of(client.CSIDrivers())
	CSRs                   = Of(client.CertificateSigningRequests())
	HPAs                   = Of(client.HorizontalPodAutoscalers())
	ResourceClaims         = Of(client.ResourceClaims())
	ResourceClaimTemplates = Of(client.ResourceClaimTemplates())
	ResourceSlices         = Of(client.ResourceSlices())
	DeviceTaintRules       = Of(client.DeviceTaintRules())

	PodCertificateRequests   = Of(client.PodCertificateRequests())
	StorageVersionMigrations = Of(client.StorageVersionMigrations())
)

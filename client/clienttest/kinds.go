package clienttest

import (
	"bareboat.dev/client"
)

// resourceName names a collection: group and plural.
type resourceName struct{ group, resource string }

func (n resourceName) String() string {
	if n.group == "" {
		return n.resource
	}
	return n.resource + "." + n.group
}

// kind is a client.Kind without its type parameter.
type kind struct {
	name       resourceName
	version    string
	kindName   string
	namespaced bool
	typeURL    string
	new        func() client.Object
}

func adapt[T client.Object](k client.Kind[T]) kind {
	return kind{
		resourceName{k.Group, k.Resource}, k.Version, k.KindName, k.Namespaced, k.TypeURL(),
		func() client.Object {
			obj := k.New()
			obj.GetObjectKind().SetGroupVersionKind(k.GVK())
			return obj
		},
	}
}

// Register makes the server serve one more kind.
func Register[T client.Object](s *Server, k client.Kind[T]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := adapt(k)
	s.kinds[a.name] = a
}

// builtinKinds are the kinds that the client has descriptors of.
func builtinKinds() map[resourceName]kind {
	kinds := map[resourceName]kind{}
	for _, k := range []kind{
		adapt(client.Pods()), adapt(client.Nodes()), adapt(client.Namespaces()), adapt(client.Services()),
		adapt(client.ConfigMaps()), adapt(client.Secrets()), adapt(client.ServiceAccounts()), adapt(client.Events()),
		adapt(client.PersistentVolumes()), adapt(client.PersistentVolumeClaims()), adapt(client.Endpoints()),
		adapt(client.ResourceQuotas()), adapt(client.LimitRanges()), adapt(client.EndpointSlices()), adapt(client.Leases()),
		adapt(client.ReplicaSets()), adapt(client.Deployments()), adapt(client.StatefulSets()), adapt(client.DaemonSets()),
		adapt(client.ControllerRevisions()), adapt(client.Jobs()), adapt(client.CronJobs()), adapt(client.PodDisruptionBudgets()),
		adapt(client.PriorityClasses()), adapt(client.NetworkPolicies()), adapt(client.StorageClasses()),
		adapt(client.ClusterTrustBundles()), adapt(client.PodCertificateRequests()), adapt(client.CertificateSigningRequests()), adapt(client.ReplicationControllers()), adapt(client.CSINodes()), adapt(client.RuntimeClasses()), adapt(client.HorizontalPodAutoscalers()),
		adapt(client.ResourceClaims()), adapt(client.ResourceClaimTemplates()), adapt(client.ResourceSlices()), adapt(client.DeviceClasses()),
		adapt(client.DeviceTaintRules()),
	} {
		kinds[k.name] = k
	}
	return kinds
}

// generational tells whether a kind's metadata.generation counts changes of its spec.
func generational(resource string) bool {
	switch resource {
	case "pods", "replicasets", "deployments", "statefulsets", "daemonsets", "jobs", "cronjobs", "poddisruptionbudgets", "networkpolicies":
		return true
	}
	return false
}

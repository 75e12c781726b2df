package quota

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	podresource "k8s.io/component-helpers/resource"

	"bareboat.dev/apiserver/registry"
)

// The resources whose objects use more than their own number.
var (
	pods     = schema.GroupResource{Resource: "pods"}
	services = schema.GroupResource{Resource: "services"}
	claims   = schema.GroupResource{Resource: "persistentvolumeclaims"}

	deviceClaims = schema.GroupResource{Group: resourcev1.GroupName, Resource: "resourceclaims"}
)

const (
	// countPrefix begins the names that limit the number of objects of any kind: "count/deployments.apps".
	countPrefix = "count/"
	// classSuffix is between a storage class and what of it is limited: "gold.storageclass.storage.k8s.io/requests.storage".
	classSuffix    = ".storageclass.storage.k8s.io/"
	requestsPrefix = corev1.DefaultResourceRequestsPrefix
)

// Usage is what an object uses, under every name by which a quota may limit it. Now is for pods whose grace period is over.
func Usage(gr schema.GroupResource, obj registry.Object, now time.Time) corev1.ResourceList {
	uses := corev1.ResourceList{corev1.ResourceName(countPrefix + gr.String()): count(1)}
	switch o := obj.(type) {
	case *corev1.Pod:
		usePod(uses, o, now)
	case *corev1.Service:
		useService(uses, o)
	case *corev1.PersistentVolumeClaim:
		useClaim(uses, o)
	case *resourcev1.ResourceClaim:
		useDevices(uses, o)
	case *corev1.ConfigMap, *corev1.Secret, *corev1.ReplicationController, *corev1.ResourceQuota:
		uses[corev1.ResourceName(gr.Resource)] = count(1)
	}
	return uses
}

func usePod(uses corev1.ResourceList, pod *corev1.Pod, now time.Time) {
	if !Charged(pod, now) {
		return
	}
	uses[corev1.ResourcePods] = count(1)
	options := podresource.PodResourcesOptions{UseStatusResources: true}
	useCompute(uses, podresource.PodRequests(pod, options), podresource.PodLimits(pod, options))
}

// useCompute adds requests and limits under their names in quotas; "cpu" is an old name of "requests.cpu".
func useCompute(uses, requests, limits corev1.ResourceList) {
	for name, q := range requests {
		switch {
		case basic(name), strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
			uses[name], uses[requestsPrefix+name] = q, q
		case extended(name):
			uses[requestsPrefix+name] = q
		}
	}
	for name, q := range limits {
		if basic(name) {
			uses["limits."+name] = q
		}
	}
}

func basic(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory || name == corev1.ResourceEphemeralStorage
}

// extended reports whether a resource is one that somebody outside of Kubernetes has named.
func extended(name corev1.ResourceName) bool {
	domain, _, ok := strings.Cut(string(name), "/")
	return ok && domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io") && !strings.HasPrefix(string(name), requestsPrefix)
}

// Charged reports whether a pod still takes what it was given: not once it has finished, nor when its grace period is long over on a
// node that does not answer.
func Charged(pod *corev1.Pod, now time.Time) bool {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return false
	}
	if pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil {
		return now.Before(pod.DeletionTimestamp.Add(time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second))
	}
	return true
}

func useService(uses corev1.ResourceList, s *corev1.Service) {
	uses[corev1.ResourceServices] = count(1)
	nodePorts, balancers := 0, 0
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		nodePorts = len(s.Spec.Ports)
	case corev1.ServiceTypeLoadBalancer:
		balancers, nodePorts = 1, len(s.Spec.Ports)
		if a := s.Spec.AllocateLoadBalancerNodePorts; a != nil && !*a {
			nodePorts = chosenNodePorts(s)
		}
	}
	uses[corev1.ResourceServicesNodePorts], uses[corev1.ResourceServicesLoadBalancers] = count(nodePorts), count(balancers)
}

// chosenNodePorts counts the ports whose node port the user has chosen.
func chosenNodePorts(s *corev1.Service) int {
	n := 0
	for i := range s.Spec.Ports {
		if s.Spec.Ports[i].NodePort != 0 {
			n++
		}
	}
	return n
}

func useClaim(uses corev1.ResourceList, c *corev1.PersistentVolumeClaim) {
	uses[corev1.ResourcePersistentVolumeClaims] = count(1)
	storage, asked := claimed(c)
	if asked {
		uses[corev1.ResourceRequestsStorage] = storage
	}
	class := storageClass(c)
	if class == "" {
		return
	}
	uses[corev1.ResourceName(class+classSuffix+"persistentvolumeclaims")] = count(1)
	if asked {
		uses[corev1.ResourceName(class+classSuffix+"requests.storage")] = storage
	}
}

// claimed is the storage that a claim holds: while it shrinks back from an expansion that failed, what was given already counts.
func claimed(c *corev1.PersistentVolumeClaim) (resource.Quantity, bool) {
	asked, ok := c.Spec.Resources.Requests[corev1.ResourceStorage]
	if given, is := c.Status.AllocatedResources[corev1.ResourceStorage]; is && ok && given.Cmp(asked) > 0 {
		return given, true
	}
	return asked, ok
}

func storageClass(c *corev1.PersistentVolumeClaim) string {
	if class, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	if c.Spec.StorageClassName != nil {
		return *c.Spec.StorageClassName
	}
	return ""
}

// useDevices counts the devices of each class that a claim may get: of alternatives the most.
func useDevices(uses corev1.ResourceList, c *resourcev1.ResourceClaim) {
	for i := range c.Spec.Devices.Requests {
		r := &c.Spec.Devices.Requests[i]
		most := map[string]int64{}
		if x := r.Exactly; x != nil {
			most[x.DeviceClassName] = devices(x.AllocationMode, x.Count)
		}
		for _, x := range r.FirstAvailable {
			most[x.DeviceClassName] = max(most[x.DeviceClassName], devices(x.AllocationMode, x.Count))
		}
		for class, n := range most {
			name := corev1.ResourceName(class + corev1.ResourceClaimsPerClass)
			sum := uses[name]
			sum.Add(*resource.NewQuantity(n, resource.DecimalSI))
			uses[name] = sum
		}
	}
}

// devices is the most that a request gets: nobody knows beforehand how many all are, but for what a claim can hold.
func devices(mode resourcev1.DeviceAllocationMode, count int64) int64 {
	switch mode {
	case resourcev1.DeviceAllocationModeExactCount:
		return count
	case resourcev1.DeviceAllocationModeAll:
		return resourcev1.AllocationResultsMaxSize
	}
	return 0
}

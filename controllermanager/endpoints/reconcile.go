// Package endpoints keeps the Endpoints object of each service that has a selector, for readers that do not know EndpointSlice
// yet.
//
// Reconcile is pure and follows the API documentation of Endpoints: a subset per set of ports, ready and not ready addresses
// apart, terminating pods left out, one family, at most MaxAddresses.
package endpoints

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/endpointslice"
	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

const (
	// MaxAddresses is upstream's limit of addresses in one object; about 200 KiB.
	MaxAddresses = 1000
	// ManagedBy marks the objects that this controller keeps.
	managedByLabel = "endpoints.kubernetes.io/managed-by"
	managedBy      = "endpoint-controller"
)

// Reconcile plans the Endpoints of a service. service is nil if there is none of that name, have nil if there is no object.
func Reconcile(service *corev1.Service, selected []*corev1.Pod, have *corev1.Endpoints) plan.Plan {
	var p plan.Plan
	if service == nil || service.DeletionTimestamp != nil {
		if have != nil && have.DeletionTimestamp == nil && have.Labels[managedByLabel] == managedBy {
			p.Add(plan.Delete(plan.Endpoints, have))
		}
		return p
	}
	if len(service.Spec.Selector) == 0 || service.Spec.Type == corev1.ServiceTypeExternalName {
		return p
	}
	want := desired(service, selected)
	if have == nil {
		p.Add(plan.Create(plan.Endpoints, want))
		return p
	}
	same := apiequality.Semantic.DeepEqual(have.Subsets, want.Subsets) && maps.Equal(have.Labels, want.Labels) &&
		have.Annotations[corev1.EndpointsOverCapacity] == want.Annotations[corev1.EndpointsOverCapacity]
	if same {
		return p
	}
	next := have.DeepCopy()
	next.Subsets, next.Labels = want.Subsets, want.Labels
	if next.Annotations == nil {
		next.Annotations = map[string]string{}
	}
	delete(next.Annotations, corev1.EndpointsOverCapacity)
	maps.Copy(next.Annotations, want.Annotations)
	p.Add(plan.Update(plan.Endpoints, next))
	return p
}

func desired(service *corev1.Service, selected []*corev1.Pod) *corev1.Endpoints {
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: service.Namespace, Name: service.Name, Labels: maps.Clone(service.Labels)}}
	if e.Labels == nil {
		e.Labels = map[string]string{}
	}
	e.Labels[managedByLabel] = managedBy
	delete(e.Labels, corev1.IsHeadlessService)
	if service.Spec.ClusterIP == corev1.ClusterIPNone {
		e.Labels[corev1.IsHeadlessService] = ""
	}
	v6 := len(service.Spec.IPFamilies) > 0 && service.Spec.IPFamilies[0] == corev1.IPv6Protocol || strings.Contains(service.Spec.ClusterIP, ":")
	subsets := map[string]*corev1.EndpointSubset{}
	count := 0
	// Ready pods first, so that capacity is not spent on others.
	for _, pod := range slices.SortedFunc(slices.Values(selected), readyFirst) {
		addr := endpointslice.Address(pod, v6)
		ready := service.Spec.PublishNotReadyAddresses || pods.Ready(pod)
		if addr == "" || pods.Finished(pod) || pod.DeletionTimestamp != nil && !service.Spec.PublishNotReadyAddresses {
			continue
		}
		if count == MaxAddresses {
			e.Annotations = map[string]string{corev1.EndpointsOverCapacity: "truncated"}
			break
		}
		count++
		ports, key := portsOf(service, pod)
		if len(ports) == 0 && len(service.Spec.Ports) > 0 {
			continue
		}
		if subsets[key] == nil {
			subsets[key] = &corev1.EndpointSubset{Ports: ports}
		}
		if ready {
			subsets[key].Addresses = append(subsets[key].Addresses, address(service, pod, addr))
		} else {
			subsets[key].NotReadyAddresses = append(subsets[key].NotReadyAddresses, address(service, pod, addr))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(subsets)) {
		s := subsets[key]
		slices.SortFunc(s.Addresses, byAddress)
		slices.SortFunc(s.NotReadyAddresses, byAddress)
		e.Subsets = append(e.Subsets, *s)
	}
	return e
}

func readyFirst(a, b *corev1.Pod) int {
	switch ra, rb := pods.Ready(a), pods.Ready(b); {
	case ra && !rb:
		return -1
	case rb && !ra:
		return 1
	}
	return strings.Compare(a.Name, b.Name)
}

func byAddress(a, b corev1.EndpointAddress) int {
	if c := strings.Compare(a.IP, b.IP); c != 0 {
		return c
	}
	return strings.Compare(string(a.TargetRef.UID), string(b.TargetRef.UID))
}

func address(service *corev1.Service, pod *corev1.Pod, ip string) corev1.EndpointAddress {
	a := corev1.EndpointAddress{IP: ip, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}}
	if pod.Spec.NodeName != "" {
		node := pod.Spec.NodeName
		a.NodeName = &node
	}
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == service.Name {
		a.Hostname = pod.Spec.Hostname
	}
	return a
}

// portsOf returns what the service's ports mean on a pod, and a key that is equal for equal ports.
func portsOf(service *corev1.Service, pod *corev1.Pod) ([]corev1.EndpointPort, string) {
	var out []corev1.EndpointPort
	var key strings.Builder
	for _, p := range endpointslice.Ports(service, pod) {
		port := corev1.EndpointPort{Name: *p.Name, Port: *p.Port, Protocol: *p.Protocol, AppProtocol: p.AppProtocol}
		out = append(out, port)
		key.WriteString(port.String())
	}
	return out, key.String()
}

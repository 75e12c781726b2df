package endpointslice

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"bareboat.dev/controllermanager/pods"
)

// endpoints are the endpoints of a service that have the same ports.
type endpoints struct {
	ports []discoveryv1.EndpointPort
	byID  map[string]discoveryv1.Endpoint
}

// inOrder returns some of the endpoints sorted by pod name, so that every view packs them alike.
func (e *endpoints) inOrder(some map[string]discoveryv1.Endpoint) []discoveryv1.Endpoint {
	out := make([]discoveryv1.Endpoint, 0, len(some))
	for _, ep := range some {
		out = append(out, ep)
	}
	slices.SortFunc(out, func(a, b discoveryv1.Endpoint) int {
		if c := strings.Compare(a.TargetRef.Name, b.TargetRef.Name); c != 0 {
			return c
		}
		return strings.Compare(identify(a), identify(b))
	})
	return out
}

// identify names an endpoint across updates: the pod and its address.
func identify(e discoveryv1.Endpoint) string {
	id := strings.Join(e.Addresses, ",")
	if e.TargetRef != nil {
		id += "@" + string(e.TargetRef.UID)
	}
	return id
}

// group makes the endpoints of one family and groups them by their ports.
func group(in Input, t discoveryv1.AddressType) map[string]*endpoints {
	out := map[string]*endpoints{}
	for _, pod := range in.Pods {
		addr := Address(pod, t == discoveryv1.AddressTypeIPv6)
		if addr == "" || pods.Finished(pod) {
			continue
		}
		ports := Ports(in.Service, pod)
		key := portKey(ports)
		if out[key] == nil {
			out[key] = &endpoints{ports: ports, byID: map[string]discoveryv1.Endpoint{}}
		}
		ep := endpoint(in, pod, addr)
		out[key].byID[identify(ep)] = ep
	}
	return out
}

// Address returns a pod's address of a family, empty if it has none.
func Address(pod *corev1.Pod, v6 bool) string {
	ips := pod.Status.PodIPs
	if len(ips) == 0 && pod.Status.PodIP != "" {
		ips = []corev1.PodIP{{IP: pod.Status.PodIP}}
	}
	for _, ip := range ips {
		addr, err := netip.ParseAddr(ip.IP)
		if err == nil && addr.Is6() == v6 {
			return ip.IP
		}
	}
	return ""
}

func endpoint(in Input, pod *corev1.Pod, addr string) discoveryv1.Endpoint {
	serving := pods.Ready(pod)
	terminating := pod.DeletionTimestamp != nil
	ready := in.Service.Spec.PublishNotReadyAddresses || serving && !terminating
	ep := discoveryv1.Endpoint{
		Addresses:  []string{addr},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		name := pod.Spec.NodeName
		ep.NodeName = &name
		if node := in.Node(name); node != nil {
			if zone := node.Labels[corev1.LabelTopologyZone]; zone != "" {
				ep.Zone = &zone
			}
		}
	}
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == in.Service.Name {
		host := pod.Spec.Hostname
		ep.Hostname = &host
	}
	ep.Hints = hints(in.Service, ep)
	return ep
}

// hints tell proxies where an endpoint is best used from, as spec.trafficDistribution asks (KEP-3015).
func hints(svc *corev1.Service, ep discoveryv1.Endpoint) *discoveryv1.EndpointHints {
	if svc.Spec.TrafficDistribution == nil {
		return nil
	}
	var h discoveryv1.EndpointHints
	switch *svc.Spec.TrafficDistribution {
	case corev1.ServiceTrafficDistributionPreferSameNode:
		if ep.NodeName != nil {
			h.ForNodes = []discoveryv1.ForNode{{Name: *ep.NodeName}}
		}
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
	default:
		return nil
	}
	if ep.Zone != nil {
		h.ForZones = []discoveryv1.ForZone{{Name: *ep.Zone}}
	}
	if h.ForNodes == nil && h.ForZones == nil {
		return nil
	}
	return &h
}

// Ports returns what a service's ports mean on a pod. A named target port that the pod does not have is left out.
func Ports(svc *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	out := []discoveryv1.EndpointPort{}
	for i := range svc.Spec.Ports {
		sp := &svc.Spec.Ports[i]
		number, ok := target(sp, pod)
		if !ok {
			continue
		}
		name, protocol := sp.Name, sp.Protocol
		out = append(out, discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: &protocol, AppProtocol: sp.AppProtocol})
	}
	return out
}

func target(sp *corev1.ServicePort, pod *corev1.Pod) (int32, bool) {
	if sp.TargetPort.Type == intstr.Int {
		if sp.TargetPort.IntVal == 0 {
			return sp.Port, true
		}
		return sp.TargetPort.IntVal, true
	}
	for _, c := range listening(pod) {
		for _, cp := range c.Ports {
			if cp.Name == sp.TargetPort.StrVal && (cp.Protocol == sp.Protocol || cp.Protocol == "" && sp.Protocol == corev1.ProtocolTCP) {
				return cp.ContainerPort, true
			}
		}
	}
	return 0, false
}

// listening returns the containers that run beside each other: sidecars and regular ones.
func listening(pod *corev1.Pod) []corev1.Container {
	out := slices.Clone(pod.Spec.Containers)
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			out = append(out, c)
		}
	}
	return out
}

// portKey is equal for equal sets of ports.
func portKey(ports []discoveryv1.EndpointPort) string {
	var parts []string
	for _, p := range ports {
		var b strings.Builder
		if p.Name != nil {
			b.WriteString(*p.Name)
		}
		b.WriteByte('/')
		if p.Protocol != nil {
			b.WriteString(string(*p.Protocol))
		}
		b.WriteByte('/')
		if p.Port != nil {
			b.WriteString(strconv.Itoa(int(*p.Port)))
		}
		b.WriteByte('/')
		if p.AppProtocol != nil {
			b.WriteString(*p.AppProtocol)
		}
		parts = append(parts, b.String())
	}
	slices.Sort(parts)
	return strings.Join(parts, ";")
}

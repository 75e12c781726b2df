package describe

import (
	"fmt"
	"net"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func (p *printer) service(s *corev1.Service, rel Related) {
	selector := "<none>"
	if len(s.Spec.Selector) > 0 {
		selector = labels.FormatLabels(s.Spec.Selector)
	}
	p.line(0, "Selector", "%s", selector)
	p.line(0, "Type", "%s", s.Spec.Type)
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		p.line(0, "External Name", "%s", s.Spec.ExternalName)
		return
	}
	p.line(0, "IP", "%s", orNone(strings.Join(s.Spec.ClusterIPs, ",")))
	if len(s.Spec.ExternalIPs) > 0 {
		p.line(0, "External IPs", "%s", strings.Join(s.Spec.ExternalIPs, ","))
	}
	for _, in := range s.Status.LoadBalancer.Ingress {
		p.line(0, "LoadBalancer Ingress", "%s", in.IP+in.Hostname)
	}
	if s.Spec.ExternalTrafficPolicy != "" {
		p.line(0, "External Traffic", "%s", s.Spec.ExternalTrafficPolicy)
	}
	p.line(0, "Session Affinity", "%s", s.Spec.SessionAffinity)
	var rows [][]string
	for _, port := range s.Spec.Ports {
		node := ""
		if port.NodePort != 0 {
			node = fmt.Sprint(port.NodePort)
		}
		ready, rest := endpoints(rel.EndpointSlices, port.Name)
		row := []string{orNone(port.Name), fmt.Sprintf("%d/%s", port.Port, port.Protocol), port.TargetPort.String(), orNone(node), orNone(summary(ready)), orNone(summary(rest))}
		rows = append(rows, row)
	}
	p.table("Ports", []string{"Name", "Port", "Target", "Node Port", "Endpoints", "Not Ready"}, rows)
}

// maxEndpoints is how many of a port's endpoints are listed; the others are counted.
const maxEndpoints = 6

func summary(list []string) string {
	if len(list) > maxEndpoints {
		return fmt.Sprintf("%s + %d more", strings.Join(list[:maxEndpoints], ","), len(list)-maxEndpoints)
	}
	return strings.Join(list, ",")
}

// endpoints returns the addresses behind a service's port, by whether they get traffic.
func endpoints(eps []*discoveryv1.EndpointSlice, port string) (ready, rest []string) {
	for _, slice := range eps {
		for _, sp := range slice.Ports {
			if name := number(sp.Name, ""); name != port || sp.Port == nil {
				continue
			}
			for _, e := range slice.Endpoints {
				to := &rest
				if e.Conditions.Ready == nil || *e.Conditions.Ready {
					to = &ready
				}
				for _, a := range e.Addresses {
					*to = append(*to, net.JoinHostPort(a, fmt.Sprint(*sp.Port)))
				}
			}
		}
	}
	slices.Sort(ready)
	slices.Sort(rest)
	return ready, rest
}

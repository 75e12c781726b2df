package why

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Service explains why a service has no ready endpoints. Ready is how many it has; pods are all of its namespace.
func Service(svc *corev1.Service, ready int, pods []*corev1.Pod) []Finding {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	selected := Selected(svc, pods)
	switch {
	case ready > 0:
		return nil
	case len(svc.Spec.Selector) == 0:
		return []Finding{{"service", "has no selector, and nobody has written an EndpointSlice for it", "set spec.selector"}}
	case len(selected) == 0:
		return []Finding{{"service", "its selector " + labels.FormatLabels(svc.Spec.Selector) + " matches no pod" + closest(svc, pods), "compare with: kctl get pods --show-labels -n " + svc.Namespace}}
	}
	if f := unnamedPorts(svc, selected); len(f) > 0 {
		return f
	}
	return []Finding{{"service", fmt.Sprintf("its selector matches %d pods, none of which is ready", len(selected)), ""}}
}

// Selected are the pods that a service's selector selects.
func Selected(svc *corev1.Service, pods []*corev1.Pod) []*corev1.Pod {
	if len(svc.Spec.Selector) == 0 {
		return nil
	}
	var out []*corev1.Pod
	for _, p := range pods {
		if labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(p.Labels)) {
			out = append(out, p)
		}
	}
	return out
}

// closest names the label that keeps the most similar pod from being selected.
func closest(svc *corev1.Service, pods []*corev1.Pod) string {
	most, text := 0, ""
	for _, p := range pods {
		matching, miss := 0, ""
		for _, key := range sortedKeys(svc.Spec.Selector) {
			have, ok := p.Labels[key]
			switch {
			case have == svc.Spec.Selector[key]:
				matching++
			case miss == "":
				miss = label(key, have, ok)
			}
			if ok && have != svc.Spec.Selector[key] && strings.EqualFold(have, svc.Spec.Selector[key]) {
				matching++
			}
		}
		if matching > most || most == 0 && text == "" && !strings.HasPrefix(miss, "no label") {
			most, text = matching, fmt.Sprintf("; the closest, pod %s, has %s", p.Name, miss)
		}
	}
	return text
}

// unnamedPorts finds target ports that are names which no selected pod gives to a port.
func unnamedPorts(svc *corev1.Service, pods []*corev1.Pod) []Finding {
	names := map[string]bool{}
	for _, p := range pods {
		for _, c := range p.Spec.Containers {
			for _, port := range c.Ports {
				names[port.Name] = true
			}
		}
	}
	var out []Finding
	for _, port := range svc.Spec.Ports {
		if name := port.TargetPort.StrVal; name != "" && !names[name] {
			out = append(out, Finding{"port " + fmt.Sprint(port.Port), fmt.Sprintf("its targetPort is %q, and no selected pod has a container port of that name", name), "name a port in spec.containers[].ports, or use its number as targetPort"})
		}
	}
	return out
}

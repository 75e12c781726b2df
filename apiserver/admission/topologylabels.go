package admission

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
)

// PodTopologyLabels gives a pod the zone and the region of its node as labels when it is bound, or made bound, so that its
// containers can know them through the downward API (KEP-4742). What the pod says of itself is overwritten.
func PodTopologyLabels(reader Reader) Plugin {
	mutate := func(ctx context.Context, a *Attributes) error {
		if a.Operation == Create && a.Subresource == "" {
			pod, ok := a.Object.(*corev1.Pod)
			if !ok || pod.Spec.NodeName == "" {
				return nil
			}
			labels, err := topologyOf(ctx, reader, pod.Spec.NodeName)
			if err == nil && len(labels) > 0 {
				pod.Labels = merged(pod.Labels, labels)
			}
			return err
		}
		binding, ok := a.Body.(*corev1.Binding)
		if !ok || binding.Target.Kind != "Node" {
			return nil
		}
		labels, err := topologyOf(ctx, reader, binding.Target.Name)
		if err == nil && len(labels) > 0 {
			binding.Labels = merged(binding.Labels, labels)
			a.BodyChanged = true
		}
		return err
	}
	return Plugin{Name: "PodTopologyLabels", Mutate: mutate}
}

// topologyOf returns the labels that say where a node is; a node that isn't there is nowhere.
func topologyOf(ctx context.Context, reader Reader, name string) (map[string]string, error) {
	obj, ok, err := reader.Object(ctx, "", "nodes", "", name, false)
	if err != nil || !ok {
		return nil, err
	}
	labels := map[string]string{}
	for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion} {
		if value, set := obj.GetLabels()[key]; set {
			labels[key] = value
		}
	}
	return labels, nil
}

func merged(into, from map[string]string) map[string]string {
	if into == nil {
		into = make(map[string]string, len(from))
	}
	maps.Copy(into, from)
	return into
}

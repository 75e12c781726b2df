package admission

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// TaintNodesByCondition keeps pods off a new node until its kubelet has reported that it is ready; the node lifecycle controller takes
// the taint off.
func TaintNodesByCondition() Plugin {
	return Plugin{Name: "TaintNodesByCondition", Mutate: func(_ context.Context, a *Attributes) error {
		node, ok := a.Object.(*corev1.Node)
		if !ok || a.Operation != Create || a.Subresource != "" || isReady(node) {
			return nil
		}
		taint := corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}
		if !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&taint) }) {
			node.Spec.Taints = append(node.Spec.Taints, taint)
		}
		return nil
	}}
}

func isReady(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

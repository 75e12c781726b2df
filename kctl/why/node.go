package why

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Node explains why a node takes no pods or may lose those it has.
func Node(n *corev1.Node) []Finding {
	var out []Finding
	for _, c := range n.Status.Conditions {
		healthy := corev1.ConditionFalse
		if c.Type == corev1.NodeReady {
			healthy = corev1.ConditionTrue
		}
		if c.Status == healthy {
			continue
		}
		hint := ""
		switch {
		case c.Status == corev1.ConditionUnknown:
			hint = "its kubelet does not report; on the node see /var/log/bareboat/kubelet.log or: journalctl -u bareboat-kubelet"
		case c.Type == corev1.NodeDiskPressure:
			hint = "free disk space on the node, e.g. with: kctl image rm"
		case c.Type == corev1.NodeMemoryPressure:
			hint = "see what uses it: kctl top pods -A"
		}
		out = append(out, Finding{"condition " + string(c.Type), fmt.Sprintf("is %s: %s: %s", c.Status, c.Reason, c.Message), hint})
	}
	if len(n.Status.Conditions) == 0 {
		out = append(out, Finding{"kubelet", "has not reported yet", "is it running on the node?"})
	}
	if n.Spec.Unschedulable {
		out = append(out, Finding{"node", "is cordoned: no new pods come to it", "kctl uncordon " + n.Name})
	}
	for _, t := range n.Spec.Taints {
		if !strings.HasPrefix(t.Key, "node.kubernetes.io/") {
			out = append(out, Finding{"taint", t.ToString() + " keeps pods away that do not tolerate it", fmt.Sprintf("kctl taint node %s %s:%s-", n.Name, t.Key, t.Effect)})
		}
	}
	return out
}

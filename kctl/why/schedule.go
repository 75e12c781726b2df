package why

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// maxNodes is how many nodes an explanation goes through; beyond that the scheduler's own counts say more.
const maxNodes = 8

// Placement says for each node why a pod without one cannot run there, and what would let it. The scheduler decides by more
// than this; what it alone knows stands in its own words. Pods are all that are bound to a node.
func Placement(pod *corev1.Pod, nodes []*corev1.Node, pods []*corev1.Pod) []Finding {
	if len(nodes) == 0 {
		return []Finding{{"scheduler", "the cluster has no nodes", "start one, or see whether its kubelet can reach the API: kctl up"}}
	}
	var out []Finding
	for i, n := range nodes {
		if i == maxNodes {
			return append(out, Finding{"nodes", fmt.Sprintf("%d more are not shown", len(nodes)-maxNodes), ""})
		}
		if f, bad := onNode(pod, n, pods); bad {
			out = append(out, f)
		}
	}
	return out
}

func onNode(pod *corev1.Pod, n *corev1.Node, pods []*corev1.Pod) (Finding, bool) {
	subject := "node " + n.Name
	if n.Spec.Unschedulable && !tolerates(pod, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}) {
		return Finding{subject, "is cordoned", "kctl uncordon " + n.Name}, true
	}
	for _, t := range n.Spec.Taints {
		if t.Effect != corev1.TaintEffectPreferNoSchedule && !tolerates(pod, t) {
			return Finding{subject, fmt.Sprintf("has the taint %s, which the pod does not tolerate", t.ToString()), taintHint(n, t)}, true
		}
	}
	for _, key := range sortedKeys(pod.Spec.NodeSelector) {
		want := pod.Spec.NodeSelector[key]
		if have, ok := n.Labels[key]; !ok || have != want {
			return Finding{subject, fmt.Sprintf("has %s, and the pod's nodeSelector wants %s=%s", label(key, have, ok), key, want), fmt.Sprintf("kctl label node %s %s=%s --overwrite", n.Name, key, want)}, true
		}
	}
	if text := affinity(pod, n); text != "" {
		return Finding{subject, text, "change spec.affinity.nodeAffinity, or label the node"}, true
	}
	return lacks(pod, n, pods)
}

func taintHint(n *corev1.Node, t corev1.Taint) string {
	if strings.HasPrefix(t.Key, "node.kubernetes.io/") {
		return "the node's own state set it; see: kctl describe node " + n.Name
	}
	return fmt.Sprintf("add a toleration to the pod, or: kctl taint node %s %s:%s-", n.Name, t.Key, t.Effect)
}

func label(key, value string, ok bool) string {
	if !ok {
		return "no label " + key
	}
	return key + "=" + value
}

func tolerates(pod *corev1.Pod, t corev1.Taint) bool {
	return slices.ContainsFunc(pod.Spec.Tolerations, func(tol corev1.Toleration) bool {
		if tol.Effect != "" && tol.Effect != t.Effect || tol.Key != "" && tol.Key != t.Key {
			return false
		}
		return tol.Operator == corev1.TolerationOpExists || tol.Key != "" && tol.Value == t.Value
	})
}

// affinity says which required node affinity the node does not meet; the terms are alternatives.
func affinity(pod *corev1.Pod, n *corev1.Node) string {
	a := pod.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	first := ""
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		unmet := ""
		for _, e := range term.MatchExpressions {
			if !meets(n.Labels, e) {
				unmet = strings.TrimSpace(fmt.Sprintf("does not meet the pod's node affinity: %s %s %s", e.Key, e.Operator, strings.Join(e.Values, ",")))
				break
			}
		}
		if unmet == "" {
			return ""
		}
		if first == "" {
			first = unmet
		}
	}
	return first
}

func meets(have map[string]string, e corev1.NodeSelectorRequirement) bool {
	ops := map[corev1.NodeSelectorOperator]selection.Operator{
		corev1.NodeSelectorOpIn: selection.In, corev1.NodeSelectorOpNotIn: selection.NotIn, corev1.NodeSelectorOpExists: selection.Exists,
		corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist, corev1.NodeSelectorOpGt: selection.GreaterThan, corev1.NodeSelectorOpLt: selection.LessThan,
	}
	r, err := labels.NewRequirement(e.Key, ops[e.Operator], e.Values)
	return err != nil || r.Matches(labels.Set(have)) // what cannot be judged here is left to the scheduler
}

// lacks says which resource the node has too little of, with the figures that decide.
func lacks(pod *corev1.Pod, n *corev1.Node, pods []*corev1.Pod) (Finding, bool) {
	used := map[corev1.ResourceName]resource.Quantity{}
	count := int64(0)
	for _, p := range pods {
		if p.Spec.NodeName != n.Name || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		count++
		for name, q := range Requests(p) {
			sum := used[name]
			sum.Add(q)
			used[name] = sum
		}
	}
	if room := n.Status.Allocatable.Pods().Value(); room > 0 && count >= room {
		return Finding{"node " + n.Name, fmt.Sprintf("runs %d pods already, the most it may", count), "delete pods, or raise the kubelet's maxPods"}, true
	}
	wants := Requests(pod)
	var names []string
	for name := range wants {
		names = append(names, string(name))
	}
	slices.Sort(names)
	var texts []string
	hint := "ask for less, or free some: kctl describe node " + n.Name
	for _, name := range names {
		rn := corev1.ResourceName(name)
		want, all := wants[rn], n.Status.Allocatable[rn]
		free := all.DeepCopy()
		u := used[rn]
		free.Sub(u)
		if want.Cmp(free) <= 0 {
			continue
		}
		texts = append(texts, fmt.Sprintf("the pod asks for %s %s, and %s of %s are free", name, want.String(), free.String(), all.String()))
		if want.Cmp(all) > 0 {
			hint = fmt.Sprintf("no pod that asks for so much %s can ever run on this node; lower resources.requests", name)
		}
	}
	if len(texts) == 0 {
		return Finding{}, false
	}
	return Finding{"node " + n.Name, strings.Join(texts, "; "), hint}, true
}

// Requests sums what a pod asks of a node. Init containers run before the others, so that the larger of both counts; those that
// go on beside the others (restartPolicy Always) add to them.
func Requests(pod *corev1.Pod) corev1.ResourceList {
	sum, sidecars, most := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for _, c := range pod.Spec.InitContainers {
		now := sidecars.DeepCopy()
		add(now, c.Resources.Requests)
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(sidecars, c.Resources.Requests)
		}
		atLeast(most, now)
	}
	for _, c := range pod.Spec.Containers {
		add(sum, c.Resources.Requests)
	}
	add(sum, sidecars)
	atLeast(sum, most)
	add(sum, pod.Spec.Overhead)
	return sum
}

func add(to, list corev1.ResourceList) {
	for name, q := range list {
		sum := to[name]
		sum.Add(q)
		to[name] = sum
	}
}

func atLeast(list, least corev1.ResourceList) {
	for name, q := range least {
		if have := list[name]; q.Cmp(have) > 0 {
			list[name] = q
		}
	}
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

package plan

import (
	corev1 "k8s.io/api/core/v1"
)

// filterObject checks what depends on the node's object alone. There is no check of spec.nodeName: a pod that has one is bound.
func (s *shape) filterObject(c *Cluster, n *node) verdictID {
	if n.obj.Spec.Unschedulable && !tolerated(s.tolerations, &corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}) {
		return c.verdicts.id(verdict{NodeUnschedulable, []string{"node(s) were unschedulable"}, false})
	}
	for i := range n.obj.Spec.Taints {
		t := &n.obj.Spec.Taints[i]
		if (t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute) && !tolerated(s.tolerations, t) {
			return c.verdicts.id(verdict{TaintToleration, []string{"node(s) had untolerated taint {" + t.Key + ": " + t.Value + "}"}, false})
		}
	}
	if !s.matchesAffinity(n.obj) {
		return c.verdicts.id(verdict{NodeAffinity, []string{"node(s) didn't match Pod's node affinity/selector"}, false})
	}
	return feasible
}

// matchesAffinity checks nodeSelector and required node affinity; a term that cannot be parsed matches nothing.
func (s *shape) matchesAffinity(obj *corev1.Node) bool {
	if s.affinity == nil {
		return true
	}
	ok, err := s.affinity.Match(obj)
	return ok && err == nil
}

// filterPods checks what depends on the pods on the node.
func (s *shape) filterPods(c *Cluster, n *node) verdictID {
	for _, p := range s.ports {
		for _, q := range n.ports {
			if p.conflicts(q) {
				return c.verdicts.id(verdict{NodePorts, []string{"node(s) didn't have free ports for the requested pod ports"}, true})
			}
		}
	}
	if s.fits(n) {
		return feasible
	}
	return c.verdicts.id(s.misfit(c, n))
}

// fits is NodeResourcesFit.
func (s *shape) fits(n *node) bool {
	if len(n.pods)+1 > n.allowedPods {
		return false
	}
	for _, a := range s.amounts {
		if a.value > at(n.allocatable, a.id)-at(n.used, a.id) {
			return false
		}
	}
	return true
}

// misfit spells out why a shape does not fit. What exceeds the whole node no preemption can help.
func (s *shape) misfit(c *Cluster, n *node) verdict {
	v := verdict{plugin: NodeResourcesFit, resolvable: true}
	if len(n.pods)+1 > n.allowedPods {
		v.reasons = append(v.reasons, "Too many pods")
	}
	for _, a := range s.amounts {
		if total := at(n.allocatable, a.id); a.value > total-at(n.used, a.id) {
			v.reasons = append(v.reasons, "Insufficient "+string(c.resources.names[a.id]))
			v.resolvable = v.resolvable && a.value <= total
		}
	}
	return v
}

// tolerated tells whether any toleration tolerates the taint.
func tolerated(tolerations []corev1.Toleration, taint *corev1.Taint) bool {
	for i := range tolerations {
		t := &tolerations[i]
		if (t.Effect != "" && t.Effect != taint.Effect) || (t.Key != "" && t.Key != taint.Key) {
			continue
		}
		switch t.Operator {
		case corev1.TolerationOpExists:
			return true
		case "", corev1.TolerationOpEqual:
			if t.Key != "" && t.Value == taint.Value {
				return true
			}
		}
	}
	return false
}

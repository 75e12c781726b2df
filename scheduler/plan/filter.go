package plan

import (
	corev1 "k8s.io/api/core/v1"
)

// filterObject checks what depends on the node's object alone. There is no check of spec.nodeName: a pod that has one is bound.
func (s *shape) filterObject(c *Cluster, n *node, affine bool) verdictID {
	if n.obj.Spec.Unschedulable && !tolerated(s.tolerations, &corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}) {
		return unschedulable
	}
	for i := range n.obj.Spec.Taints {
		t := &n.obj.Spec.Taints[i]
		if (t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute) && !tolerated(s.tolerations, t) {
			return c.verdicts.taint(t.Key, t.Value)
		}
	}
	if !affine {
		return affinityMismatch
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
				return portsTaken
			}
		}
	}
	if s.fits(n) {
		return feasible
	}
	return c.verdicts.misfit(s.misfit(n), c.resources.names)
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

// misfit tells why a shape does not fit. What exceeds the whole node no preemption can help.
func (s *shape) misfit(n *node) misfit {
	m := misfit{pods: len(n.pods)+1 > n.allowedPods, resolvable: true}
	for _, a := range s.amounts {
		if total := at(n.allocatable, a.id); a.value > total-at(n.used, a.id) {
			m.resources |= 1 << min(a.id, maxMisfit)
			m.resolvable = m.resolvable && a.value <= total
		}
	}
	return m
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

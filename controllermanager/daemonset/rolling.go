package daemonset

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/controllermanager/pods"
)

// pair is a node's pod of the template in use and the one of an older template.
type pair struct {
	node         string
	current, old *corev1.Pod
}

// pairs returns the pods of every node that should have one.
func (s *step) pairs() []pair {
	var out []pair
	for _, node := range s.Nodes {
		if run, _ := Fits(s.Set, node); !run {
			continue
		}
		p := pair{node: node.Name}
		for _, pod := range s.on[node.Name] {
			switch {
			case pod.DeletionTimestamp != nil || pods.Finished(pod) || s.doomed[pod]:
			case s.updated(pod) && p.current == nil:
				p.current = pod
			case !s.updated(pod) && p.old == nil:
				p.old = pod
			}
		}
		out = append(out, p)
	}
	return out
}

// roll replaces pods of older templates.
func (s *step) roll() {
	if s.Set.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType {
		return
	}
	pairs := s.pairs()
	unavailable, surge := s.bounds(len(pairs))
	if surge > 0 {
		s.surge(pairs, unavailable, surge)
		return
	}
	spare := unavailable
	var candidates []*corev1.Pod
	for _, p := range pairs {
		switch {
		case p.current != nil && p.old != nil:
			// Left over from a surge; the old one goes when the new one is there to stay.
			if s.available(p.current) {
				s.delete(p.old, "")
			}
		case p.current != nil && s.available(p.current):
		case p.old != nil && s.available(p.old):
			candidates = append(candidates, p.old)
		case p.old != nil:
			spare--
			s.delete(p.old, "")
		default:
			spare--
		}
	}
	for _, pod := range candidates[:max(0, min(spare, len(candidates)))] {
		s.delete(pod, "")
	}
}

// surge starts a new pod beside the old one, which goes when the new one is available.
func (s *step) surge(pairs []pair, unavailable, surge int) {
	var waiting []pair
	spare := unavailable
	for _, p := range pairs {
		switch {
		case p.old != nil && p.current != nil:
			if s.available(p.current) {
				s.delete(p.old, "")
			}
			// It counts until it can be seen to go.
			surge--
		case p.old != nil && s.available(p.old):
			waiting = append(waiting, p)
		case p.old != nil:
			// It is missed already; its place is free for the new one.
			s.delete(p.old, "")
			spare--
		case p.current == nil || !s.available(p.current):
			spare--
		}
	}
	for _, p := range waiting {
		switch {
		case surge > 0:
			surge--
			s.create(p.node)
		case spare > 0:
			spare--
			s.delete(p.old, "")
		}
	}
}

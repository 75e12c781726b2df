package plan

import (
	"math"

	corev1 "k8s.io/api/core/v1"
)

// constraints is what one waiting pod and the placed pods demand of each other, ready to be checked node by node.
type constraints struct {
	hard, soft []spreadCheck
	affinity   []*counter
	// first tells that no pod matches the affinity terms yet and the pod matches them itself, so that it may be the first.
	first bool
	anti  []*counter
	// keepOut are placed pods' anti-affinity terms that match the pod.
	keepOut []*term
	// pulls score: placed pods that the pod prefers, and placed pods that prefer the pod.
	pulls []pull
}

// pull adds weight for each pod counted in the node's domain.
type pull struct {
	tally  *tally
	weight int64
}

// spreadCheck is one spread constraint with what is counted for this decision.
type spreadCheck struct {
	*spreadConstraint
	counter *counter
	// self is 1 if the pod matches the constraint's own selector.
	self int64
	// counts by domain over eligible nodes; least is the smallest of them. seen marks the domains that there are.
	counts []int64
	seen   []bool
	least  int64
	weight float64
}

// constraintsOf gathers a pod's constraints; nil if neither it nor any placed pod demands anything.
func (t *topology) constraintsOf(c *Cluster, pod *corev1.Pod, s *shape) (*constraints, error) {
	own, err := t.compile(c, pod)
	if err != nil {
		return nil, err
	}
	k := &constraints{}
	for _, term := range t.terms {
		if !term.matcher.matches(pod) {
			continue
		}
		if term.kind == requiredAnti {
			k.keepOut = append(k.keepOut, term)
		} else {
			k.pulls = append(k.pulls, pull{&term.tally, term.weight})
		}
	}
	if own != nil {
		t.gather(c, pod, own, k)
	}
	if len(k.hard)+len(k.soft)+len(k.affinity)+len(k.anti)+len(k.keepOut)+len(k.pulls) == 0 {
		return nil, nil
	}
	k.countSpread(c, s)
	return k, nil
}

// gather finds the counters of the pod's own constraints.
func (t *topology) gather(c *Cluster, pod *corev1.Pod, own *compiled, k *constraints) {
	for i := range own.spread {
		sc := &own.spread[i]
		check := spreadCheck{spreadConstraint: sc, counter: t.counter(c, sc.text, sc.key, []podMatcher{sc.matcher}, true)}
		if sc.matcher.matches(pod) {
			check.self = 1
		}
		if sc.hard {
			k.hard = append(k.hard, check)
		} else {
			k.soft = append(k.soft, check)
		}
	}
	total, self := 0, len(own.affinity) > 0
	for i := range own.affinity {
		counter := t.counter(c, own.affinity[i].text, own.affinity[i].key, own.joint, false)
		k.affinity = append(k.affinity, counter)
		for _, n := range counter.byDomain {
			total += int(n)
		}
		self = self && own.affinity[i].matcher.matches(pod)
	}
	k.first = self && total == 0
	for i := range own.anti {
		a := &own.anti[i]
		k.anti = append(k.anti, t.counter(c, a.text, a.key, []podMatcher{a.matcher}, false))
	}
	for i := range own.preferred {
		p := &own.preferred[i]
		k.pulls = append(k.pulls, pull{&t.counter(c, p.text, p.key, []podMatcher{p.matcher}, false).tally, p.weight})
	}
}

// reject checks one node that the shape's ranking accepts.
func (k *constraints) reject(c *Cluster, i int32) verdictID {
	n := &c.nodes[i]
	for j := range k.hard {
		h := &k.hard[j]
		d := n.domain(h.key)
		if d == unlabelled {
			return c.verdicts.id(verdict{PodTopologySpread, []string{"node(s) didn't match pod topology spread constraints (missing required label)"}, false})
		}
		if h.in(d)+h.self-h.least > h.maxSkew {
			return c.verdicts.id(verdict{PodTopologySpread, []string{"node(s) didn't match pod topology spread constraints"}, true})
		}
	}
	return k.rejectAffinity(c, n)
}

func (k *constraints) rejectAffinity(c *Cluster, n *node) verdictID {
	for _, counter := range k.affinity {
		d := n.domain(counter.key)
		if d == unlabelled || (counter.in(d) == 0 && !k.first) {
			return c.verdicts.id(verdict{InterPodAffinity, []string{"node(s) didn't match pod affinity rules"}, false})
		}
	}
	for _, counter := range k.anti {
		if counter.in(n.domain(counter.key)) > 0 {
			return c.verdicts.id(verdict{InterPodAffinity, []string{"node(s) didn't match pod anti-affinity rules"}, true})
		}
	}
	for _, term := range k.keepOut {
		if term.in(n.domain(term.key)) > 0 {
			return c.verdicts.id(verdict{InterPodAffinity, []string{"node(s) didn't satisfy existing pods anti-affinity rules"}, true})
		}
	}
	return feasible
}

// best checks every node that the shape's ranking accepts and returns one of the highest score, or why there is none.
func (k *constraints) best(c *Cluster, s *shape) (int32, *Unschedulable) {
	r := s.ranking
	rejected := map[verdictID]int{}
	candidates := c.candidates[:0]
	for i := range r.entries {
		e := &r.entries[i]
		if !e.known || e.verdict != feasible {
			continue
		}
		if v := k.reject(c, int32(i)); v != feasible {
			rejected[v]++
			continue
		}
		candidates = append(candidates, candidate{node: int32(i)})
	}
	c.candidates = candidates
	if len(candidates) == 0 {
		why := r.explain(c)
		for v, n := range rejected {
			why.count(c.verdicts.list[v], n)
		}
		return none, why
	}
	k.score(c, s, candidates)
	best := 0
	for i := range candidates {
		if candidates[i].score > candidates[best].score {
			best = i
		}
	}
	return candidates[best].node, nil
}

// candidate is a node that passed every filter.
type candidate struct {
	node int32
	// pull and spread are raw scores; ignored nodes lack a soft constraint's key.
	pull    int64
	spread  int64
	ignored bool
	score   int
}

// score computes the candidates' scores.
func (k *constraints) score(c *Cluster, s *shape, candidates []candidate) {
	maxPreferred, maxTaints := int64(0), int32(0)
	minPull, maxPull := int64(math.MaxInt64), int64(math.MinInt64)
	k.weighSoft(c, candidates)
	for i := range candidates {
		cd := &candidates[i]
		n := &c.nodes[cd.node]
		key := &s.ranking.classes[s.ranking.entries[cd.node].class].key
		maxPreferred, maxTaints = max(maxPreferred, key.preferred), max(maxTaints, key.taints)
		for _, p := range k.pulls {
			cd.pull += p.weight * int64(p.tally.in(n.domain(p.tally.key)))
		}
		minPull, maxPull = min(minPull, cd.pull), max(maxPull, cd.pull)
	}
	k.spreadScores(c, candidates)
	for i := range candidates {
		cd := &candidates[i]
		e := &s.ranking.entries[cd.node]
		cd.score = int(e.level) + s.ranking.classes[e.class].key.static(maxPreferred, maxTaints) + weightSpread*int(cd.spread)
		if maxPull > minPull {
			cd.score += weightInterPod * int(maxScore*float64(cd.pull-minPull)/float64(maxPull-minPull))
		}
	}
}

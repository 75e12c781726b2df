package plan

import (
	corev1 "k8s.io/api/core/v1"
)

// constraints is what one waiting pod and the placed pods demand of each other, ready to be checked.
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

// constraintsOf gathers a pod's constraints; nil if neither it nor any placed pod demands anything.
func (t *topology) constraintsOf(c *Cluster, pod *corev1.Pod) (*constraints, error) {
	own, err := t.compile(c, pod)
	if err != nil {
		return nil, err
	}
	var k *constraints
	if own != nil {
		k = &constraints{}
		t.gather(c, pod, own, k)
	}
	for _, term := range t.terms {
		if !term.matcher.matches(pod) {
			continue
		}
		if k == nil {
			k = &constraints{}
		}
		if term.kind == requiredAnti {
			k.keepOut = append(k.keepOut, term)
		} else {
			k.pulls = append(k.pulls, pull{&term.tally, term.weight})
		}
	}
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
	exists, self := false, len(own.affinity) > 0
	for i := range own.affinity {
		counter := t.counter(c, own.affinity[i].text, own.affinity[i].key, own.joint, false)
		k.affinity = append(k.affinity, counter)
		exists = exists || counter.inDomains > 0
		self = self && own.affinity[i].matcher.matches(pod)
	}
	k.first = self && !exists
	for i := range own.anti {
		a := &own.anti[i]
		k.anti = append(k.anti, t.counter(c, a.text, a.key, []podMatcher{a.matcher}, false))
	}
	for i := range own.preferred {
		p := &own.preferred[i]
		k.pulls = append(k.pulls, pull{&t.counter(c, p.text, p.key, []podMatcher{p.matcher}, false).tally, p.weight})
	}
}

// domainOf returns the domain under a topology key of a node, or of all nodes of a class.
type domainOf func(key int32) int32

// reject checks a place that is in the given domains. Only constraints whose key concerns selects are looked at; it is nil for all.
func (k *constraints) reject(in domainOf, concerns func(key int32) bool) verdictID {
	for j := range k.hard {
		h := &k.hard[j]
		if concerns != nil && !concerns(h.key) {
			continue
		}
		d := in(h.key)
		if d == unlabelled {
			return spreadMissingLabel
		}
		if h.in(d)+h.self-h.least > h.maxSkew {
			return spreadSkew
		}
	}
	for _, counter := range k.affinity {
		if concerns != nil && !concerns(counter.key) {
			continue
		}
		d := in(counter.key)
		if d == unlabelled || (counter.in(d) == 0 && !k.first) {
			return podAffinity
		}
	}
	for _, counter := range k.anti {
		if (concerns == nil || concerns(counter.key)) && counter.in(in(counter.key)) > 0 {
			return podAntiAffinity
		}
	}
	for _, term := range k.keepOut {
		if (concerns == nil || concerns(term.key)) && term.in(in(term.key)) > 0 {
			return keptOut
		}
	}
	return feasible
}

// pull adds up what draws the pod to a place.
func (k *constraints) pull(in domainOf) (sum int64) {
	for _, p := range k.pulls {
		sum += p.weight * int64(p.tally.in(in(p.tally.key)))
	}
	return sum
}

// defaultFewDomains is up to how many domains a topology key may have to divide rankings by it: zones and racks, not hosts.
const defaultFewDomains = 64

// split chooses the keys to divide the ranking by: those of few domains. nodeFilters tells that other keys filter, so that
// nodes must be looked at one by one, nodeScores that other keys score, so that all of them must be.
func (k *constraints) split(c *Cluster) (by partition, nodeFilters, nodeScores bool) {
	used := 0
	place := func(key int32) bool {
		if by.position(key) >= 0 {
			return true
		}
		if used == maxPartition || len(c.topology.domains[key].ids) > c.fewDomains {
			return false
		}
		by[used] = key + 1
		used++
		return true
	}
	for j := range k.hard {
		nodeFilters = !place(k.hard[j].key) || nodeFilters
	}
	for _, counter := range k.affinity {
		nodeFilters = !place(counter.key) || nodeFilters
	}
	for _, counter := range k.anti {
		nodeFilters = !place(counter.key) || nodeFilters
	}
	for _, term := range k.keepOut {
		nodeFilters = !place(term.key) || nodeFilters
	}
	for j := range k.soft {
		nodeScores = !place(k.soft[j].key) || k.soft[j].hostname || nodeScores
	}
	for _, p := range k.pulls {
		nodeScores = !place(p.tally.key) || nodeScores
	}
	for i := 1; i < used; i++ { // in order, so that the same keys make the same partition
		for j := i; j > 0 && by[j] < by[j-1]; j-- {
			by[j], by[j-1] = by[j-1], by[j]
		}
	}
	return by, nodeFilters, nodeScores
}

// best returns a node of the highest score, or why there is none.
func (k *constraints) best(c *Cluster, s *shape) (int32, *Unschedulable) {
	by, nodeFilters, nodeScores := k.split(c)
	r := c.ranking(s, by)
	k.countSpread(c, r)
	if nodeScores {
		c.candidates = k.everyNode(c, r, c.candidates[:0])
	} else {
		c.candidates = k.everyClass(c, r, nodeFilters, c.candidates[:0])
	}
	if len(c.candidates) == 0 {
		return none, k.explain(c, r)
	}
	k.score(r, c.candidates)
	best := 0
	for i := range c.candidates {
		if c.candidates[i].score > c.candidates[best].score {
			best = i
		}
	}
	return c.candidates[best].node, nil
}

// candidate is a node that passed every filter, or the best one of a class.
type candidate struct {
	node, class int32
	level       int
	// pull and spread are raw scores; ignored nodes lack a soft constraint's key.
	pull    int64
	spread  int64
	ignored bool
	score   int
}

// everyNode lists all nodes that pass, with their raw scores.
func (k *constraints) everyNode(c *Cluster, r *ranking, out []candidate) []candidate {
	var n *node
	var i int32
	in := func(key int32) int32 { return n.domain(key) }
	for j := range r.entries {
		e := &r.entries[j]
		if !e.known || e.verdict != feasible {
			continue
		}
		n, i = &c.nodes[j], int32(j)
		if k.reject(in, nil) == feasible {
			out = append(out, candidate{node: i, class: e.class, level: int(e.level), pull: k.pull(in)})
		}
	}
	k.weighSoft(out, func(cd *candidate) domainOf { n = &c.nodes[cd.node]; return in })
	return out
}

// everyClass lists the best passing node of each class. That is enough where all nodes of a class score alike but for their level.
func (k *constraints) everyClass(c *Cluster, r *ranking, nodeFilters bool, out []candidate) []candidate {
	var key *classKey
	in := func(topologyKey int32) int32 { return key.domains[r.by.position(topologyKey)] }
	divides := func(topologyKey int32) bool { return r.by.position(topologyKey) >= 0 }
	for id := range r.classes {
		cl := &r.classes[id]
		if key = &cl.key; cl.size == 0 || k.reject(in, divides) != feasible {
			continue
		}
		node, level := cl.head[cl.highest()], cl.top
		if nodeFilters {
			if node, level = k.firstPassing(c, r, cl, divides); node == none {
				continue
			}
		}
		out = append(out, candidate{node: node, class: int32(id), level: level, pull: k.pull(in)})
	}
	k.weighSoft(out, func(cd *candidate) domainOf { key = &r.classes[cd.class].key; return in })
	return out
}

// firstPassing looks through a class from its highest level down for a node that passes what the class as a whole has not been
// checked for.
func (k *constraints) firstPassing(c *Cluster, r *ranking, cl *class, divides func(int32) bool) (int32, int) {
	var n *node
	in := func(key int32) int32 { return n.domain(key) }
	remaining := func(key int32) bool { return !divides(key) }
	for level := cl.highest(); level >= 0; level-- {
		for i := cl.head[level]; i != none; i = r.entries[i].next {
			if n = &c.nodes[i]; k.reject(in, remaining) == feasible {
				return i, level
			}
		}
	}
	return none, 0
}

// explain counts why each node was rejected, after no one passed.
func (k *constraints) explain(c *Cluster, r *ranking) *Unschedulable {
	why := r.explain(c)
	var n *node
	in := func(key int32) int32 { return n.domain(key) }
	for i := range r.entries {
		if e := &r.entries[i]; e.known && e.verdict == feasible {
			n = &c.nodes[i]
			why.count(c.verdicts.list[k.reject(in, nil)], 1)
		}
	}
	return why
}

// score turns the candidates' raw scores into totals.
func (k *constraints) score(r *ranking, candidates []candidate) {
	maxPreferred, maxTaints := int64(0), int32(0)
	minPull, maxPull := candidates[0].pull, candidates[0].pull
	for i := range candidates {
		cd := &candidates[i]
		key := &r.classes[cd.class].key
		maxPreferred, maxTaints = max(maxPreferred, key.preferred), max(maxTaints, key.taints)
		minPull, maxPull = min(minPull, cd.pull), max(maxPull, cd.pull)
	}
	k.normalizeSpread(candidates)
	for i := range candidates {
		cd := &candidates[i]
		cd.score = cd.level + r.classes[cd.class].key.static(maxPreferred, maxTaints) + weightSpread*int(cd.spread)
		if maxPull > minPull {
			cd.score += weightInterPod * int(maxScore*float64(cd.pull-minPull)/float64(maxPull-minPull))
		}
	}
}

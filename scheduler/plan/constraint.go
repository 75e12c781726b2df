package plan

import (
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/scheduler/devices"
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
	// volumes is what the pod's claims demand; nil if it uses none.
	volumes *volumeDemand
	// devices is what the pod's resource claims ask for; nil if it has none.
	devices *devices.Demand
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
	if d := c.volumes.demandOf(pod); d != nil {
		if k == nil {
			k = &constraints{}
		}
		k.volumes = d
	}
	if d := c.devices.DemandOf(pod); d != nil {
		if k == nil {
			k = &constraints{}
		}
		k.devices = d
	}
	t.scratchTerms = t.termIndex.candidates(pod, t.scratchTerms[:0])
	for _, term := range t.scratchTerms {
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

// rejectNode checks one node for everything.
func (k *constraints) rejectNode(c *Cluster, n *node) verdictID {
	if k.volumes != nil {
		if v := k.volumes.reject(c, n); v != feasible {
			return v
		}
	}
	if v := k.reject(n.domain, nil); v != feasible || k.devices == nil {
		return v
	}
	return k.rejectClaims(n)
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

// search is how a decision looks for its node.
type search struct {
	// by divides the ranking by the topology keys of few domains.
	by partition
	// nodeFilters tells that other keys filter, so that nodes must be looked at one by one until one passes.
	nodeFilters bool
	// everyNode tells that other keys score in such a way that every node must be looked at.
	everyNode bool
	// apart are counts of keys that tell hosts apart and score: the nodes that have any are looked at one by one, the others are
	// alike.
	apart []*tally
}

// split divides the constraints by how their topology keys can be handled.
func (k *constraints) split(c *Cluster) search {
	out := search{nodeFilters: k.devices != nil}
	used := 0
	place := func(key int32) bool {
		if out.by.position(key) >= 0 {
			return true
		}
		if used == maxPartition || len(c.topology.domains[key].ids) > c.fewDomains {
			return false
		}
		out.by[used] = key + 1
		used++
		return true
	}
	for j := range k.hard {
		out.nodeFilters = !place(k.hard[j].key) || out.nodeFilters
	}
	for _, counter := range k.affinity {
		out.nodeFilters = !place(counter.key) || out.nodeFilters
	}
	for _, counter := range k.anti {
		out.nodeFilters = !place(counter.key) || out.nodeFilters
	}
	for _, term := range k.keepOut {
		out.nodeFilters = !place(term.key) || out.nodeFilters
	}
	for j := range k.soft {
		h := &k.soft[j]
		d := &c.topology.domains[h.key]
		switch placed := place(h.key); {
		case placed && !h.hostname:
		case !placed && h.hostname && d.shared == 0 && d.unlabelled == 0 && !out.nodeFilters:
			h.sparse = true
			out.apart = append(out.apart, &h.counter.tally)
		default:
			out.everyNode = true
		}
	}
	for _, p := range k.pulls {
		if place(p.tally.key) {
			continue
		}
		if out.apart = append(out.apart, p.tally); c.topology.domains[p.tally.key].shared > 0 {
			out.everyNode = true
		}
	}
	out.by.sort(used)
	few := 0
	for _, t := range out.apart {
		few += len(t.occupied)
	}
	// Volumes may be anywhere.
	out.everyNode = out.everyNode || few*c.apartShare > c.live || k.volumes != nil
	return out
}

// sort orders the first n keys, so that the same keys make the same partition.
func (p *partition) sort(n int) {
	for i := 1; i < n; i++ {
		for j := i; j > 0 && p[j] < p[j-1]; j-- {
			p[j], p[j-1] = p[j-1], p[j]
		}
	}
}

// best returns a node of the highest score, or why there is none.
func (k *constraints) best(c *Cluster, s *shape) (int32, *Unschedulable) {
	how := k.split(c)
	r := c.ranking(s, how.by)
	k.countSpread(c, r)
	if how.everyNode {
		c.candidates = k.everyNode(c, r, c.candidates[:0])
	} else {
		c.candidates = k.everyClass(c, r, how, c.candidates[:0])
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
	// nodes is how many it stands for, itself included.
	nodes int
	// apart tells that its domains are its own, not its class's.
	apart bool
	// pull and spread are raw scores; ignored nodes lack a soft constraint's key.
	pull    int64
	spread  int64
	ignored bool
	score   int
}

// everyNode lists all nodes that pass, with their raw scores.
func (k *constraints) everyNode(c *Cluster, r *ranking, out []candidate) []candidate {
	for j := range k.soft {
		k.soft[j].sparse = false
	}
	var n *node
	var i int32
	in := func(key int32) int32 { return n.domain(key) }
	for j := range r.entries {
		e := &r.entries[j]
		if !e.known || e.verdict != feasible {
			continue
		}
		n, i = &c.nodes[j], int32(j)
		if k.rejectNode(c, n) == feasible {
			out = append(out, candidate{node: i, class: e.class, level: int(e.level), nodes: 1, pull: k.pull(in)})
		}
	}
	k.weighSoft(out, func(cd *candidate) domainOf { n = &c.nodes[cd.node]; return in })
	return out
}

// everyClass lists the best passing node of each class, and the nodes that are told apart. That is enough where all other nodes of
// a class score alike but for their level.
func (k *constraints) everyClass(c *Cluster, r *ranking, how search, out []candidate) []candidate {
	var key *classKey
	in := func(topologyKey int32) int32 {
		if i := r.by.position(topologyKey); i >= 0 {
			return key.domains[i]
		}
		return unlabelled // as good as a domain without any of the pods that count
	}
	divides := func(topologyKey int32) bool { return r.by.position(topologyKey) >= 0 }
	marked := c.markApart(how.apart)
	r.countApart(marked)
	for id := range r.classes {
		cl := &r.classes[id]
		key = &cl.key
		cl.passes = cl.size > 0 && k.reject(in, divides) == feasible
		if !cl.passes {
			continue
		}
		node, level := cl.head[cl.highest()], cl.top
		if how.nodeFilters || len(marked) > 0 {
			if node, level = k.firstPassing(c, r, cl, divides); node == none {
				continue
			}
		}
		out = append(out, candidate{node: node, class: int32(id), level: level, nodes: cl.size - cl.apart, pull: k.pull(in)})
	}
	out = k.addApart(c, r, marked, divides, out)
	var n *node
	own := func(topologyKey int32) int32 { return n.domain(topologyKey) }
	k.weighSoft(out, func(cd *candidate) domainOf {
		if cd.apart {
			n = &c.nodes[cd.node]
			return own
		}
		key = &r.classes[cd.class].key
		return in
	})
	return out
}

// markApart marks the nodes that are told apart and returns them.
func (c *Cluster) markApart(tallies []*tally) []int32 {
	c.decisions++
	if len(tallies) == 0 {
		return nil
	}
	for len(c.marks) < len(c.nodes) {
		c.marks = append(c.marks, 0)
	}
	var out []int32
	for _, t := range tallies {
		for _, i := range t.occupied {
			if c.marks[i] != c.decisions {
				c.marks[i] = c.decisions
				out = append(out, i)
			}
		}
	}
	return out
}

// marked tells whether a node is told apart in this decision.
func (c *Cluster) marked(i int32) bool { return int(i) < len(c.marks) && c.marks[i] == c.decisions }

// countApart counts the feasible ones of the nodes told apart by class.
func (r *ranking) countApart(nodes []int32) {
	for id := range r.classes {
		r.classes[id].apart = 0
	}
	for _, i := range nodes {
		if int(i) < len(r.entries) && r.entries[i].known && r.entries[i].verdict == feasible {
			r.classes[r.entries[i].class].apart++
		}
	}
}

// addApart adds the passing nodes among those told apart.
func (k *constraints) addApart(c *Cluster, r *ranking, nodes []int32, divides func(int32) bool, out []candidate) []candidate {
	var n *node
	in := func(key int32) int32 { return n.domain(key) }
	remaining := func(key int32) bool { return !divides(key) }
	for _, i := range nodes {
		if int(i) >= len(r.entries) {
			continue
		}
		e := &r.entries[i]
		if !e.known || e.verdict != feasible || !r.classes[e.class].passes {
			continue
		}
		if n = &c.nodes[i]; k.reject(in, remaining) == feasible && k.hasDevices(n) {
			out = append(out, candidate{node: i, class: e.class, level: int(e.level), nodes: 1, apart: true, pull: k.pull(in)})
		}
	}
	return out
}

// firstPassing looks through a class from its highest level down for a node that is not told apart and passes what the class as a
// whole has not been checked for.
func (k *constraints) firstPassing(c *Cluster, r *ranking, cl *class, divides func(int32) bool) (int32, int) {
	var n *node
	in := func(key int32) int32 { return n.domain(key) }
	remaining := func(key int32) bool { return !divides(key) }
	for level := cl.highest(); level >= 0; level-- {
		for i := cl.head[level]; i != none; i = r.entries[i].next {
			if n = &c.nodes[i]; !c.marked(i) && k.reject(in, remaining) == feasible && k.hasDevices(n) {
				return i, level
			}
		}
	}
	return none, 0
}

// explain counts why each node was rejected, after no one passed.
func (k *constraints) explain(c *Cluster, r *ranking) *Unschedulable {
	why := r.explain(c)
	for i := range r.entries {
		if e := &r.entries[i]; e.known && e.verdict == feasible {
			why.count(c.verdicts.list[k.rejectNode(c, &c.nodes[i])], 1)
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

package plan

import (
	"math"

	corev1 "k8s.io/api/core/v1"
)

// countSpread counts, for each spread constraint, matching pods by domain over the nodes that take part: those that have every
// constraint's key and pass the constraint's inclusion policies (KEP-3094).
func (k *constraints) countSpread(c *Cluster, s *shape) {
	for _, checks := range [][]spreadCheck{k.hard, k.soft} {
		for j := range checks {
			h := &checks[j]
			h.counts = make([]int64, len(c.topology.domains[h.key].ids))
			h.seen = make([]bool, len(h.counts))
		}
		if len(checks) == 0 {
			continue
		}
		for i := range c.nodes {
			if n := &c.nodes[i]; n.exists() && hasKeys(n, checks) {
				for j := range checks {
					if checks[j].includes(s, n) {
						checks[j].take(n, int32(i))
					}
				}
			}
		}
		for j := range checks {
			checks[j].findLeast()
		}
	}
}

func hasKeys(n *node, checks []spreadCheck) bool {
	for j := range checks {
		if n.domain(checks[j].key) == unlabelled {
			return false
		}
	}
	return true
}

// includes tells whether a node takes part in a constraint's counts.
func (h *spreadCheck) includes(s *shape, n *node) bool {
	if !h.anyAffinity && !s.matchesAffinity(n.obj) {
		return false
	}
	if h.honorTaints {
		for i := range n.obj.Spec.Taints {
			t := &n.obj.Spec.Taints[i]
			if (t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute) && !tolerated(s.tolerations, t) {
				return false
			}
		}
	}
	return true
}

func (h *spreadCheck) take(n *node, i int32) {
	d := n.domain(h.key)
	h.seen[d] = true
	h.counts[d] += int64(h.counter.on(i))
}

// findLeast is the global minimum that skew is measured from: 0 while there are fewer domains than minDomains.
func (h *spreadCheck) findLeast() {
	domains := 0
	least := int64(math.MaxInt64)
	for d, seen := range h.seen {
		if seen {
			domains++
			least = min(least, h.counts[d])
		}
	}
	if h.least = least; domains < h.minDomains || domains == 0 {
		h.least = 0
	}
}

func (h *spreadCheck) in(domain int32) int64 {
	if int(domain) >= len(h.counts) {
		return 0
	}
	return h.counts[domain]
}

// weighSoft gives each soft constraint the weight that makes up for the number of its domains among the candidates, and marks
// the candidates that lack a key.
func (k *constraints) weighSoft(c *Cluster, candidates []candidate) {
	if len(k.soft) == 0 {
		return
	}
	ignored := 0
	domains := make([]map[int32]bool, len(k.soft))
	for j := range domains {
		domains[j] = map[int32]bool{}
	}
	for i := range candidates {
		n := &c.nodes[candidates[i].node]
		if candidates[i].ignored = !hasKeys(n, k.soft); candidates[i].ignored {
			ignored++
			continue
		}
		for j := range k.soft {
			if !k.soft[j].hostname {
				domains[j][n.domain(k.soft[j].key)] = true
			}
		}
	}
	for j := range k.soft {
		size := len(domains[j])
		if k.soft[j].hostname {
			size = len(candidates) - ignored
		}
		k.soft[j].weight = math.Log(float64(size + 2))
	}
}

// spreadScores turns the soft constraints into scores from 0 to 100, the fewest matching pods scoring most.
func (k *constraints) spreadScores(c *Cluster, candidates []candidate) {
	if len(k.soft) == 0 {
		return
	}
	least, most := int64(math.MaxInt64), int64(0)
	for i := range candidates {
		cd := &candidates[i]
		if cd.ignored {
			continue
		}
		sum := 0.0
		for j := range k.soft {
			h := &k.soft[j]
			count := h.in(c.nodes[cd.node].domain(h.key))
			if h.hostname {
				count = int64(h.counter.on(cd.node))
			}
			sum += float64(count)*h.weight + float64(h.maxSkew-1)
		}
		cd.spread = int64(math.Round(sum))
		least, most = min(least, cd.spread), max(most, cd.spread)
	}
	for i := range candidates {
		cd := &candidates[i]
		switch {
		case cd.ignored:
			cd.spread = 0
		case most == 0:
			cd.spread = maxScore
		default:
			cd.spread = maxScore * (most + least - cd.spread) / most
		}
	}
}

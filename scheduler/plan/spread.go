package plan

import (
	"math"

	corev1 "k8s.io/api/core/v1"
)

// spreadCheck is one spread constraint with what is counted for this decision.
type spreadCheck struct {
	*spreadConstraint
	counter *counter
	// self is 1 if the pod matches the constraint's own selector.
	self int64
	// counts by domain over the nodes that take part; least is the smallest of them, and 0 while there are too few domains.
	counts []int32
	least  int64
	weight float64
	// sparse tells that every node is a domain of its own, and only the few that have matching pods are told apart.
	sparse bool
}

// countSpread counts, for each spread constraint, matching pods by domain over the nodes that take part: those that have every
// constraint's key and pass the constraint's inclusion policies (KEP-3094). Where every node takes part the counts are there
// already.
func (k *constraints) countSpread(c *Cluster, r *ranking) {
	for _, checks := range [][]spreadCheck{k.hard, k.soft} {
		labelled := true
		for j := range checks {
			labelled = labelled && c.topology.domains[checks[j].key].unlabelled == 0
		}
		for j := range checks {
			h := &checks[j]
			d := &c.topology.domains[h.key]
			if labelled && !h.honorTaints && (h.anyAffinity || r.shape.affinity == nil) {
				h.counts = h.counter.byDomain
				h.findLeast(d.nodes)
				continue
			}
			h.countNodes(c, r, checks, len(d.ids))
		}
	}
}

// countNodes counts over the nodes that take part, one by one.
func (h *spreadCheck) countNodes(c *Cluster, r *ranking, checks []spreadCheck, domains int) {
	h.counts = make([]int32, domains)
	nodes := make([]int32, domains)
	for i := range r.entries {
		n := &c.nodes[i]
		if !r.entries[i].known || !(h.anyAffinity || r.entries[i].affine) || !hasKeys(n.domain, checks) {
			continue
		}
		if h.honorTaints && !toleratesAll(r.shape.tolerations, n.obj.Spec.Taints) {
			continue
		}
		d := n.domain(h.key)
		nodes[d]++
		h.counts[d] += h.counter.on(int32(i))
	}
	h.findLeast(nodes)
}

func toleratesAll(tolerations []corev1.Toleration, taints []corev1.Taint) bool {
	for i := range taints {
		t := &taints[i]
		if (t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute) && !tolerated(tolerations, t) {
			return false
		}
	}
	return true
}

func hasKeys(in domainOf, checks []spreadCheck) bool {
	for j := range checks {
		if !checks[j].sparse && in(checks[j].key) == unlabelled {
			return false
		}
	}
	return true
}

// findLeast finds the global minimum that skew is measured from, over the domains that have nodes.
func (h *spreadCheck) findLeast(nodes []int32) {
	if !h.hard {
		return
	}
	domains, least := 0, int64(math.MaxInt64)
	for d, n := range nodes {
		if n > 0 {
			domains++
			least = min(least, h.in(int32(d)))
		}
	}
	if h.least = least; domains < h.minDomains || domains == 0 {
		h.least = 0
	}
}

func (h *spreadCheck) in(domain int32) int64 {
	if domain < 0 || int(domain) >= len(h.counts) {
		return 0
	}
	return int64(h.counts[domain])
}

// weighSoft sums up the soft constraints for each candidate, each with a weight that makes up for the number of its domains among
// the candidates; those that lack a key are left out.
func (k *constraints) weighSoft(candidates []candidate, of func(*candidate) domainOf) {
	if len(k.soft) == 0 {
		return
	}
	counted := 0
	domains := make([]map[int32]bool, len(k.soft))
	for j := range domains {
		domains[j] = map[int32]bool{}
	}
	for i := range candidates {
		in := of(&candidates[i])
		if candidates[i].ignored = !hasKeys(in, k.soft); candidates[i].ignored {
			continue
		}
		counted += candidates[i].nodes
		for j := range k.soft {
			if !k.soft[j].hostname {
				domains[j][in(k.soft[j].key)] = true
			}
		}
	}
	for j := range k.soft {
		size := len(domains[j])
		if k.soft[j].hostname {
			size = counted
		}
		k.soft[j].weight = math.Log(float64(size + 2))
	}
	for i := range candidates {
		cd := &candidates[i]
		if cd.ignored {
			continue
		}
		in, sum := of(cd), 0.0
		for j := range k.soft {
			h := &k.soft[j]
			count := h.in(in(h.key))
			if h.hostname {
				count = int64(h.counter.on(cd.node))
			}
			sum += float64(count)*h.weight + float64(h.maxSkew-1)
		}
		cd.spread = int64(math.Round(sum))
	}
}

// normalizeSpread turns the sums into scores from 0 to 100, the smallest scoring most.
func (k *constraints) normalizeSpread(candidates []candidate) {
	if len(k.soft) == 0 {
		return
	}
	least, most := int64(math.MaxInt64), int64(0)
	for i := range candidates {
		if cd := &candidates[i]; !cd.ignored {
			least, most = min(least, cd.spread), max(most, cd.spread)
		}
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

package plan

import (
	"math"

	corev1 "k8s.io/api/core/v1"
)

// The weights of kube-scheduler's default profile. NodeResourcesFit, BalancedAllocation and ImageLocality weigh 1.
const (
	maxScore       = 100
	weightTaint    = 3
	weightAffinity = 2
	weightSpread   = 2
	weightInterPod = 2
)

// An image scores nothing below minImage and the most above maxImage per container, as in ImageLocality.
const (
	minImage = 23 << 20
	maxImage = 1000 << 20
)

// levels is the number of values of level.
const levels = 2*maxScore + 1

// level is the score that changes with the pods on a node: NodeResourcesFit by least allocation, and BalancedAllocation.
func (s *shape) level(n *node) int {
	return s.leastAllocated(n) + s.balanced(n)
}

// leastAllocated is the mean over cpu and memory of what would be left free, in percent.
func (s *shape) leastAllocated(n *node) int {
	score, parts := int64(0), int64(0)
	for _, r := range [...]struct{ total, used int64 }{
		{at(n.allocatable, cpu), n.scoreCPU + s.scoreCPU}, {at(n.allocatable, memory), n.scoreMemory + s.scoreMemory},
	} {
		if r.total == 0 {
			continue
		}
		parts++
		if r.used <= r.total {
			score += (r.total - r.used) * maxScore / r.total
		}
	}
	if parts == 0 {
		return 0
	}
	return int(score / parts)
}

// balanced is how evenly cpu and memory would be used: 100 less the standard deviation of their fractions. Pods that request
// neither are not scored.
func (s *shape) balanced(n *node) int {
	wantCPU, wantMemory := s.amount(cpu), s.amount(memory)
	if wantCPU == 0 && wantMemory == 0 {
		return 0
	}
	totalCPU, totalMemory := at(n.allocatable, cpu), at(n.allocatable, memory)
	if totalCPU == 0 || totalMemory == 0 {
		return maxScore
	}
	a := min(float64(at(n.used, cpu)+wantCPU)/float64(totalCPU), 1)
	b := min(float64(at(n.used, memory)+wantMemory)/float64(totalMemory), 1)
	return int((1 - math.Abs(a-b)/2) * maxScore)
}

// amount is the request of one of the fixed resources.
func (s *shape) amount(id int) int64 {
	for _, a := range s.amounts {
		if a.id == id {
			return a.value
		}
	}
	return 0
}

// classKey is the part of a node's score for a shape that depends on the node's object alone, before normalizing.
type classKey struct {
	// preferred is the sum of the weights of matching preferred node affinity terms.
	preferred int64
	// taints is how many PreferNoSchedule taints are not tolerated.
	taints int32
	// image is ImageLocality's score.
	image int32
	// domains are the node's domains under the ranking's partition.
	domains [maxPartition]int32
}

func (s *shape) classify(c *Cluster, n *node, by partition) classKey {
	var k classKey
	for i, key := range by {
		if key != 0 {
			k.domains[i] = n.domain(key - 1)
		}
	}
	if s.preferred != nil {
		k.preferred = s.preferred.Score(n.obj)
	}
	for i := range n.obj.Spec.Taints {
		if t := &n.obj.Spec.Taints[i]; t.Effect == corev1.TaintEffectPreferNoSchedule && !tolerated(s.tolerations, t) {
			k.taints++
		}
	}
	k.image = s.imageScore(c, n)
	return k
}

// imageScore is ImageLocality: the size of the pod's images that the node has, each weighed by how widely it is spread, so
// that not every pod goes to the one node that has an image.
func (s *shape) imageScore(c *Cluster, n *node) int32 {
	sum := int64(0)
	for _, name := range s.images {
		if size, ok := n.images[name]; ok {
			sum += int64(float64(size) * (float64(c.images.nodes[name]) / float64(c.live)))
		}
	}
	top := int64(maxImage) * int64(s.containers)
	sum = min(max(sum, minImage), top)
	if top <= minImage {
		return 0
	}
	return int32(maxScore * (sum - minImage) / (top - minImage))
}

// static is what a class adds to a node's level, given the greatest values among feasible nodes.
func (k classKey) static(maxPreferred int64, maxTaints int32) int {
	score := int(k.image) + weightTaint*maxScore
	if maxTaints > 0 {
		score -= weightTaint * int(maxScore*k.taints/maxTaints)
	}
	if maxPreferred > 0 {
		score += weightAffinity * int(maxScore*k.preferred/maxPreferred)
	}
	return score
}

package plan

// ranking keeps one shape's verdict and score of every node. Feasible nodes are filed in their class under their level, in lists
// threaded through the entries, so that taking a change over costs the same however many nodes there are.
//
// Invariant: after catchUp, entry i is what evaluating the shape on node i from scratch gives.
type ranking struct {
	shape *shape
	by    partition
	// lastUse orders rankings by when they were last asked for.
	lastUse uint64

	entries []rankEntry
	classes []class
	classOf map[classKey]int32
	// rejected counts nodes by verdict, feasible those without one.
	rejected []int32
	feasible int
	// position in the cluster's list of changes up to which the ranking has read it.
	position uint64
	// images is the epoch of the image counts that went into the classes.
	images uint64
}

// rankEntry is one node's place in a ranking.
type rankEntry struct {
	// known tells that the other fields are filled; a node without object is not.
	known bool
	// affine tells that the node matches the shape's node affinity.
	affine bool
	level  int16
	// object is the verdict on the node's object, verdict the whole one.
	object, verdict verdictID
	class           int32
	next, prev      int32
}

// none ends a list.
const none = -1

// class is the feasible nodes of equal classKey, filed by level.
type class struct {
	key        classKey
	head, tail [levels]int32
	// top is at least the highest level that has a node.
	top  int
	size int
	// passes and apart are scratch of the decision under way: whether the class passes its filters, and how many of its nodes are
	// told apart.
	passes bool
	apart  int
}

// maxPartition is by how many topology keys a ranking can be divided.
const maxPartition = 3

// partition names topology keys, each by its number plus one, in ascending order; 0 for none. Nodes in different domains of them
// are in different classes, so that what holds of a domain is found out once for all its nodes.
type partition [maxPartition]int32

// position returns where a key is in a partition, -1 if it is not.
func (p partition) position(key int32) int {
	for i, k := range p {
		if k == key+1 {
			return i
		}
	}
	return -1
}

// rankingMemory bounds what rankings take together, and minRankings how many there may be however large they are: at 5,000 nodes
// 900 of them fit, at 50,000 nodes 90.
const (
	rankingMemory = 128 << 20
	entryBytes    = 28
	minRankings   = 16
)

// ranking returns a shape's ranking, up to date. When there are too many, the least recently used is dropped.
func (c *Cluster) ranking(s *shape, by partition) *ranking {
	c.uses++
	r := s.rankings[by]
	if r == nil {
		limit := c.maxRankings
		if limit == 0 {
			limit = max(minRankings, rankingMemory/(entryBytes*(len(c.nodes)+1)))
		}
		if len(c.ranked) >= limit {
			c.dropRanking()
		}
		r = &ranking{shape: s, by: by, classOf: map[classKey]int32{}}
		s.rankings[by] = r
		c.ranked = append(c.ranked, r)
	}
	r.lastUse = c.uses
	r.catchUp(c)
	return r
}

func (c *Cluster) dropRanking() {
	oldest := 0
	for i := range c.ranked {
		if c.ranked[i].lastUse < c.ranked[oldest].lastUse {
			oldest = i
		}
	}
	r := c.ranked[oldest]
	delete(r.shape.rankings, r.by)
	c.ranked[oldest] = c.ranked[len(c.ranked)-1]
	c.ranked = c.ranked[:len(c.ranked)-1]
}

// catchUp takes over what has changed since the ranking was last used.
func (r *ranking) catchUp(c *Cluster) {
	end := c.base + uint64(len(c.changes))
	if r.position < c.base || r.images != c.images.epoch || len(r.entries) == 0 {
		r.rebuild(c)
		r.position = end
		return
	}
	for ; r.position < end; r.position++ {
		ch := c.changes[r.position-c.base]
		r.refresh(c, ch.node, ch.object)
	}
}

func (r *ranking) rebuild(c *Cluster) {
	*r = ranking{shape: r.shape, by: r.by, lastUse: r.lastUse, classOf: map[classKey]int32{}, images: c.images.epoch, entries: r.entries[:0]}
	for i := range c.nodes {
		r.refresh(c, int32(i), true)
	}
}

// refresh evaluates one node; object tells whether its object may have changed.
func (r *ranking) refresh(c *Cluster, i int32, object bool) {
	for len(r.entries) <= int(i) {
		r.entries = append(r.entries, rankEntry{})
	}
	e, s := &r.entries[i], r.shape
	if e.known {
		r.unfile(i)
	}
	n := &c.nodes[i]
	if !n.exists() {
		e.known = false
		return
	}
	if object || !e.known {
		e.affine = s.matchesAffinity(n.obj)
		if e.object = s.filterObject(c, n, e.affine); e.object == feasible {
			e.class = r.classFor(s.classify(c, n, r.by))
		}
	}
	if e.verdict = e.object; e.verdict == feasible {
		if e.verdict = s.filterPods(c, n); e.verdict == feasible {
			e.level = int16(s.level(n))
		}
	}
	e.known = true
	r.file(i)
}

func (r *ranking) classFor(key classKey) int32 {
	id, ok := r.classOf[key]
	if !ok {
		id = int32(len(r.classes))
		r.classOf[key] = id
		cl := class{key: key}
		for l := range cl.head {
			cl.head[l], cl.tail[l] = none, none
		}
		r.classes = append(r.classes, cl)
	}
	return id
}

// file puts an evaluated entry at the end of its list.
func (r *ranking) file(i int32) {
	e := &r.entries[i]
	if e.verdict != feasible {
		for len(r.rejected) <= int(e.verdict) {
			r.rejected = append(r.rejected, 0)
		}
		r.rejected[e.verdict]++
		return
	}
	r.feasible++
	cl := &r.classes[e.class]
	cl.size++
	l := int(e.level)
	cl.top = max(cl.top, l)
	e.next, e.prev = none, cl.tail[l]
	if e.prev == none {
		cl.head[l] = i
	} else {
		r.entries[e.prev].next = i
	}
	cl.tail[l] = i
}

// unfile undoes file.
func (r *ranking) unfile(i int32) {
	e := &r.entries[i]
	if e.verdict != feasible {
		r.rejected[e.verdict]--
		return
	}
	r.feasible--
	cl := &r.classes[e.class]
	cl.size--
	l := int(e.level)
	if e.prev == none {
		cl.head[l] = e.next
	} else {
		r.entries[e.prev].next = e.next
	}
	if e.next == none {
		cl.tail[l] = e.prev
	} else {
		r.entries[e.next].prev = e.prev
	}
}

// highest is the highest level of a class that has nodes.
func (cl *class) highest() int {
	for cl.head[cl.top] == none {
		cl.top--
	}
	return cl.top
}

// best returns a feasible node of the highest score, or none. Of equal nodes it is the one that has waited longest.
func (r *ranking) best() int32 {
	var maxPreferred int64
	var maxTaints int32
	for id := range r.classes {
		if cl := &r.classes[id]; cl.size > 0 {
			maxPreferred, maxTaints = max(maxPreferred, cl.key.preferred), max(maxTaints, cl.key.taints)
		}
	}
	best, bestScore := int32(none), -1
	for id := range r.classes {
		cl := &r.classes[id]
		if cl.size == 0 {
			continue
		}
		if score := cl.highest() + cl.key.static(maxPreferred, maxTaints); score > bestScore {
			best, bestScore = cl.head[cl.top], score
		}
	}
	return best
}

// explain counts the verdicts.
func (r *ranking) explain(c *Cluster) *Unschedulable {
	u := &Unschedulable{Nodes: c.live, Reasons: map[string]int{}}
	for id, n := range r.rejected {
		u.count(c.verdicts.list[id], int(n))
	}
	return u
}

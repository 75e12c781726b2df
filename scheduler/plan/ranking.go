package plan

// ranking keeps one shape's verdict and score of every node. Feasible nodes are filed in their class under their level, in lists
// threaded through the entries, so that taking a change over costs the same however many nodes there are.
//
// Invariant: after catchUp, entry i is what evaluating the shape on node i from scratch gives.
type ranking struct {
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
	level int16
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
}

func newRanking(c *Cluster) *ranking {
	return &ranking{classOf: map[classKey]int32{}, images: c.images.epoch - 1}
}

// catchUp takes over what has changed since the ranking was last used.
func (r *ranking) catchUp(c *Cluster, s *shape) {
	end := c.base + uint64(len(c.changes))
	if r.position < c.base || r.images != c.images.epoch || len(r.entries) == 0 {
		r.rebuild(c, s)
		r.position = end
		return
	}
	for ; r.position < end; r.position++ {
		ch := c.changes[r.position-c.base]
		r.refresh(c, s, ch.node, ch.object)
	}
}

func (r *ranking) rebuild(c *Cluster, s *shape) {
	*r = ranking{classOf: map[classKey]int32{}, images: c.images.epoch, entries: r.entries[:0]}
	for i := range c.nodes {
		r.refresh(c, s, int32(i), true)
	}
}

// refresh evaluates one node; object tells whether its object may have changed.
func (r *ranking) refresh(c *Cluster, s *shape, i int32, object bool) {
	for len(r.entries) <= int(i) {
		r.entries = append(r.entries, rankEntry{})
	}
	e := &r.entries[i]
	if e.known {
		r.unfile(i)
	}
	n := &c.nodes[i]
	if !n.exists() {
		e.known = false
		return
	}
	if object || !e.known {
		if e.object = s.filterObject(c, n); e.object == feasible {
			e.class = r.classFor(s.classify(c, n))
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

// best returns a feasible node of the highest score, or none. Of equal nodes it is the one that has waited longest.
func (r *ranking) best() int32 {
	maxPreferred, maxTaints := r.normalizers()
	best, bestScore := int32(none), -1
	for id := range r.classes {
		cl := &r.classes[id]
		if cl.size == 0 {
			continue
		}
		for cl.head[cl.top] == none {
			cl.top--
		}
		if score := cl.top + cl.key.static(maxPreferred, maxTaints); score > bestScore {
			best, bestScore = cl.head[cl.top], score
		}
	}
	return best
}

// normalizers are the greatest values among feasible nodes, to which kube-scheduler scales scores.
func (r *ranking) normalizers() (preferred int64, taints int32) {
	for id := range r.classes {
		if cl := &r.classes[id]; cl.size > 0 {
			preferred, taints = max(preferred, cl.key.preferred), max(taints, cl.key.taints)
		}
	}
	return preferred, taints
}

// explain counts the verdicts.
func (r *ranking) explain(c *Cluster) *Unschedulable {
	u := &Unschedulable{Nodes: c.live, Reasons: map[string]int{}}
	for id, n := range r.rejected {
		u.count(c.verdicts.list[id], int(n))
	}
	return u
}

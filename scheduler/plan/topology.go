package plan

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// unlabelled is the domain of a node that lacks a topology key's label.
const unlabelled = -1

// topology counts pods by topology domain: those that a waiting pod's selectors match, and those that carry terms which may
// match a waiting pod. Every pod and node change is taken in when it happens.
type topology struct {
	keys    map[string]int32
	domains []domainTable
	// counters by what they count, terms by what they say.
	counters     map[string]*counter
	terms        map[string]*term
	counterIndex *matcherIndex[*counter]
	termIndex    *matcherIndex[*term]
	// made numbers counters and terms in the order of their making.
	made uint64
	// compiled constraints by their text.
	compiled   map[string]*compiled
	namespaces map[string]labels.Set
	uses       uint64

	scratch      []*counter // reused
	scratchTerms []*term    // reused
}

// domainTable numbers the values of one topology key.
type domainTable struct {
	key string
	ids map[string]int32
	// nodes counts nodes by domain, unlabelled those in none.
	nodes      []int32
	unlabelled int
	// shared counts the domains of more than one node; none are if the key tells hosts apart.
	shared int
}

// count adds n nodes to a domain.
func (d *domainTable) count(domain, n int32) {
	if domain == unlabelled {
		d.unlabelled += int(n)
		return
	}
	d.nodes = grown(d.nodes, domain)
	if d.nodes[domain] > 1 {
		d.shared--
	}
	if d.nodes[domain] += n; d.nodes[domain] > 1 {
		d.shared++
	}
}

func newTopology() *topology {
	return &topology{
		keys: map[string]int32{}, counters: map[string]*counter{}, terms: map[string]*term{}, compiled: map[string]*compiled{},
		namespaces: map[string]labels.Set{}, counterIndex: newMatcherIndex[*counter](), termIndex: newMatcherIndex[*term](),
	}
}

// SetNamespace tells a namespace's labels, which affinity terms may select by; nil for one that is gone.
func (c *Cluster) SetNamespace(name string, set map[string]string) {
	t := c.topology
	if old, ok := t.namespaces[name]; ok && set != nil && maps.Equal(old, set) {
		return
	}
	if set == nil {
		delete(t.namespaces, name)
	} else {
		t.namespaces[name] = maps.Clone(set)
	}
	clear(t.counters) // counted anew when next asked for
	t.counterIndex = newMatcherIndex[*counter]()
	clear(t.compiled)
}

// key numbers a topology key; a new one is looked up on every node.
func (t *topology) key(c *Cluster, name string) int32 {
	id, ok := t.keys[name]
	if !ok {
		id = int32(len(t.domains))
		t.keys[name] = id
		t.domains = append(t.domains, domainTable{key: name, ids: map[string]int32{}})
		d := &t.domains[id]
		for i := range c.nodes {
			if n := &c.nodes[i]; n.counted {
				n.domains = append(n.domains, d.of(n.obj))
				d.count(n.domains[id], 1)
			}
		}
	}
	return id
}

func (d *domainTable) of(obj *corev1.Node) int32 {
	value, ok := obj.Labels[d.key]
	if !ok {
		return unlabelled
	}
	id, ok := d.ids[value]
	if !ok {
		id = int32(len(d.ids))
		d.ids[value] = id
	}
	return id
}

// domain is a node's domain under a key.
func (n *node) domain(key int32) int32 {
	if int(key) >= len(n.domains) {
		return unlabelled
	}
	return n.domains[key]
}

// nodeChanged takes over a node's new labels, its pods with it.
func (t *topology) nodeChanged(c *Cluster, i int32) {
	n := &c.nodes[i]
	fresh := make([]int32, len(t.domains))
	for k := range t.domains {
		fresh[k] = t.domains[k].of(n.obj)
	}
	if n.counted && slices.Equal(fresh, n.domains) {
		return
	}
	t.nodeRemoved(c, i)
	n.domains, n.counted = fresh, true
	for k, d := range fresh {
		t.domains[k].count(d, 1)
	}
	for _, p := range n.pods {
		t.podAdded(c, p)
	}
}

// nodeRemoved takes a node's pods out of the counts; they are in no domain then.
func (t *topology) nodeRemoved(c *Cluster, i int32) {
	n := &c.nodes[i]
	for _, p := range n.pods {
		t.podRemoved(c, p)
	}
	for k, d := range n.domains {
		t.domains[k].count(d, -1)
	}
	n.domains, n.counted = nil, false
}

// podAdded counts a pod, unless its node has no object.
func (t *topology) podAdded(c *Cluster, p *placed) {
	if !c.nodes[p.node].counted {
		return
	}
	p.terms = t.termsOf(c, p.pod)
	for _, term := range p.terms {
		term.add(c, p.node, 1)
	}
	t.count(c, p, 1)
}

// podRemoved undoes podAdded.
func (t *topology) podRemoved(c *Cluster, p *placed) {
	if !c.nodes[p.node].counted {
		return
	}
	for _, term := range p.terms {
		if term.add(c, p.node, -1); term.pods == 0 {
			delete(t.terms, term.text)
			t.termIndex.remove(&term.matcher, term)
		}
	}
	p.terms = nil
	t.count(c, p, -1)
}

// count adds a pod to the counters that match it, or takes it away.
func (t *topology) count(c *Cluster, p *placed, n int32) {
	t.scratch = t.counterIndex.candidates(p.pod, t.scratch[:0])
	for _, counter := range t.scratch {
		if counter.matches(p.pod) {
			counter.add(c, p.node, n)
		}
	}
}

// tally is a number of pods by node and by domain of one key.
type tally struct {
	key      int32
	byNode   []int32
	byDomain []int32
	// pods counts all, inDomains those on nodes that have the key's label.
	pods, inDomains int
	// occupied lists the nodes that have any, in no order; place is where in it a node is, plus one.
	occupied, place []int32
}

func (t *tally) add(c *Cluster, node, n int32) {
	t.pods += int(n)
	t.byNode, t.place = grown(t.byNode, node), grown(t.place, node)
	t.byNode[node] += n
	switch has := t.byNode[node] > 0; {
	case has && t.place[node] == 0:
		t.occupied = append(t.occupied, node)
		t.place[node] = int32(len(t.occupied))
	case !has && t.place[node] > 0:
		last := t.occupied[len(t.occupied)-1]
		t.occupied[t.place[node]-1], t.place[last] = last, t.place[node]
		t.occupied, t.place[node] = t.occupied[:len(t.occupied)-1], 0
	}
	if d := c.nodes[node].domain(t.key); d != unlabelled {
		t.byDomain = grown(t.byDomain, d)
		t.byDomain[d] += n
		t.inDomains += int(n)
	}
}

// in is the number in a domain.
func (t *tally) in(domain int32) int32 {
	if domain == unlabelled || int(domain) >= len(t.byDomain) {
		return 0
	}
	return t.byDomain[domain]
}

// on is the number on a node.
func (t *tally) on(node int32) int32 {
	if int(node) >= len(t.byNode) {
		return 0
	}
	return t.byNode[node]
}

func grown(list []int32, i int32) []int32 {
	for len(list) <= int(i) {
		list = append(list, 0)
	}
	return list
}

// counter counts the pods that all its matchers match.
type counter struct {
	tally
	matchers []podMatcher
	// skipTerminating leaves out pods under deletion, as PodTopologySpread does.
	skipTerminating bool
	lastUse         uint64
	seq             uint64
}

func (k *counter) order() uint64 { return k.seq }

func (k *counter) matches(pod *corev1.Pod) bool {
	if k.skipTerminating && pod.DeletionTimestamp != nil {
		return false
	}
	for i := range k.matchers {
		if !k.matchers[i].matches(pod) {
			return false
		}
	}
	return true
}

// maxCounters bounds the memory of counters: at 5,000 nodes one takes up to 60 KiB, 1,024 of them 60 MiB. The least recently used
// goes first, and is counted anew when asked for again.
const maxCounters = 1024

// counter returns the counter of a description, counting all pods if there is none yet.
func (t *topology) counter(c *Cluster, text string, key int32, matchers []podMatcher, skipTerminating bool) *counter {
	t.uses++
	k := t.counters[text]
	if k == nil {
		if len(t.counters) >= maxCounters {
			t.dropOldest()
		}
		t.made++
		k = &counter{tally: tally{key: key}, matchers: matchers, skipTerminating: skipTerminating, seq: t.made}
		for _, p := range c.pods {
			if c.nodes[p.node].counted && k.matches(p.pod) {
				k.add(c, p.node, 1)
			}
		}
		t.counters[text] = k
		t.counterIndex.add(&matchers[0], k)
	}
	k.lastUse = t.uses
	return k
}

func (t *topology) dropOldest() {
	oldest := ""
	for text, k := range t.counters {
		if oldest == "" || k.lastUse < t.counters[oldest].lastUse {
			oldest = text
		}
	}
	k := t.counters[oldest]
	t.counterIndex.remove(&k.matchers[0], k)
	delete(t.counters, oldest)
}

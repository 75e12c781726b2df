// Package nodeipam gives every node its own range of pod addresses.
//
// Allocate is pure: from all nodes it finds the ranges in use and plans one free range per family for each node that has
// none. It is run for all nodes at once, one step at a time, and the engine lets the next step see what the last one wrote,
// so a range is never given twice; after a restart the nodes themselves say what is in use. A range, once set, never changes
// (the API refuses it), and is free again when its node is deleted.
package nodeipam

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/controllermanager/plan"
)

// Burst is the most nodes that get a range in one step: one batch of writes.
const Burst = 500

// maxRanges bounds the ranges of one family, 2^20: 128 KiB of bitmap, and far more nodes than a cluster has.
const maxRangeBits = 20

// Pool is a cluster range and the size of the parts that nodes get.
type Pool struct {
	// Cluster is the whole range, "10.244.0.0/16".
	Cluster netip.Prefix
	// NodeBits is the prefix length of a node's part, 24.
	NodeBits int
}

// NewPool checks a pool.
func NewPool(cluster string, nodeBits int) (Pool, error) {
	prefix, err := netip.ParsePrefix(cluster)
	if err != nil {
		return Pool{}, fmt.Errorf("cluster CIDR: %w", err)
	}
	switch {
	case nodeBits < prefix.Bits() || nodeBits > prefix.Addr().BitLen():
		return Pool{}, fmt.Errorf("node mask /%d does not fit into the cluster CIDR %s", nodeBits, cluster)
	case nodeBits-prefix.Bits() > maxRangeBits:
		return Pool{}, fmt.Errorf("cluster CIDR %s holds more than 2^%d node ranges of /%d; use larger node ranges", cluster, maxRangeBits, nodeBits)
	}
	return Pool{prefix.Masked(), nodeBits}, nil
}

// size is how many ranges the pool has.
func (p Pool) size() int { return 1 << (p.NodeBits - p.Cluster.Bits()) }

// at returns the i-th range.
func (p Pool) at(i int) netip.Prefix {
	raw := p.Cluster.Addr().AsSlice()
	// The index goes into the 64-bit word that ends at the range's last network bit; bits beyond the word carry nothing, since
	// an index has at most 20.
	var wide [16]byte
	copy(wide[16-len(raw):], raw)
	bit := (16-len(raw))*8 + p.NodeBits
	shift := uint(128 - bit)
	hi, lo := binary.BigEndian.Uint64(wide[:8]), binary.BigEndian.Uint64(wide[8:])
	if shift >= 64 {
		hi |= uint64(i) << (shift - 64)
	} else {
		lo |= uint64(i) << shift
		if shift > 0 {
			hi |= uint64(i) >> (64 - shift)
		}
	}
	binary.BigEndian.PutUint64(wide[:8], hi)
	binary.BigEndian.PutUint64(wide[8:], lo)
	addr, _ := netip.AddrFromSlice(wide[16-len(raw):])
	return netip.PrefixFrom(addr, p.NodeBits)
}

// index returns the first and last range that prefix touches; ok is false if it lies outside.
func (p Pool) index(prefix netip.Prefix) (first, last int, ok bool) {
	if !p.Cluster.Overlaps(prefix) {
		return 0, 0, false
	}
	if prefix.Bits() <= p.Cluster.Bits() {
		return 0, p.size() - 1, true
	}
	raw := prefix.Masked().Addr().AsSlice()
	var wide [16]byte
	copy(wide[16-len(raw):], raw)
	bit := (16-len(raw))*8 + p.NodeBits
	hi, lo := binary.BigEndian.Uint64(wide[:8]), binary.BigEndian.Uint64(wide[8:])
	shift := uint(128 - bit)
	var v uint64
	if shift >= 64 {
		v = hi >> (shift - 64)
	} else {
		v = lo >> shift
		if shift > 0 {
			v |= hi << (64 - shift)
		}
	}
	first = int(v & uint64(p.size()-1))
	last = first
	if prefix.Bits() < p.NodeBits {
		last = first + 1<<(p.NodeBits-prefix.Bits()) - 1
	}
	return first, last, true
}

// used is a bitmap of ranges.
type used []uint64

func (u used) set(first, last int) {
	for i := first; i <= last; i++ {
		u[i/64] |= 1 << (i % 64)
	}
}

// free returns the lowest free range from start on, wrapping around; -1 if there is none.
func (u used) free(start, size int) int {
	for n := 0; n < size; {
		i := (start + n) % size
		word := ^u[i/64] >> (i % 64)
		if word == 0 {
			n += 64 - i%64
			continue
		}
		if next := i + bits.TrailingZeros64(word); next < size {
			return next
		}
		n += size - i
	}
	return -1
}

// Allocate plans ranges for the nodes that have none. next is where the search begins in each pool, so that the range of a
// deleted node is not reused at once; it returns where the next search should.
func Allocate(nodes []*corev1.Node, pools []Pool, next []int) (plan.Plan, []int) {
	var p plan.Plan
	inUse := make([]used, len(pools))
	for i, pool := range pools {
		inUse[i] = make(used, (pool.size()+63)/64)
	}
	var needy []*corev1.Node
	for _, n := range nodes {
		cidrs := n.Spec.PodCIDRs
		if len(cidrs) == 0 && n.Spec.PodCIDR != "" {
			cidrs = []string{n.Spec.PodCIDR}
		}
		if len(cidrs) == 0 && n.DeletionTimestamp == nil {
			needy = append(needy, n)
		}
		for _, cidr := range cidrs {
			occupy(inUse, pools, cidr)
		}
	}
	slices.SortFunc(needy, func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	next = slices.Clone(next)
	for _, n := range needy[:min(len(needy), Burst)] {
		cidrs, ok := take(inUse, pools, next)
		if !ok {
			p.Event(n, corev1.EventTypeNormal, "CIDRNotAvailable", "Node %s status is now: CIDRNotAvailable", n.Name)
			continue
		}
		changed := n.DeepCopy()
		changed.Spec.PodCIDR, changed.Spec.PodCIDRs = cidrs[0], cidrs
		p.Add(plan.Update(plan.Nodes, changed))
	}
	return p, next
}

func occupy(inUse []used, pools []Pool, cidr string) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return
	}
	for i, pool := range pools {
		if first, last, ok := pool.index(prefix); ok {
			inUse[i].set(first, last)
		}
	}
}

// take takes one range of every pool, or none.
func take(inUse []used, pools []Pool, next []int) ([]string, bool) {
	picks := make([]int, len(pools))
	for i, pool := range pools {
		if picks[i] = inUse[i].free(next[i]%pool.size(), pool.size()); picks[i] < 0 {
			return nil, false
		}
	}
	var out []string
	for i, pool := range pools {
		inUse[i].set(picks[i], picks[i])
		next[i] = picks[i] + 1
		out = append(out, pool.at(picks[i]).String())
	}
	return out, true
}

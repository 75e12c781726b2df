package owner

import (
	"encoding/binary"
	"hash/fnv"
	"strconv"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
)

const (
	// suffixLen is the length of a generated suffix, as generateName's. 27 letters to the fifth are 14 million names.
	suffixLen = 5
	// maxGeneratedBase keeps a generated name within the 63 characters of a label value.
	maxGeneratedBase = 63 - suffixLen
	alphabet         = "bcdfghjklmnpqrstvwxz2456789"
)

// Names yields the names of an owner's dependents: base plus a five-letter suffix that depends only on the seed and a
// counter. Two plans made from the same view choose the same names, so a creation that was carried out already fails
// with AlreadyExists when it is tried again, instead of making a second object.
type Names struct {
	base  string
	seed  string
	next  uint64
	taken func(string) bool
	given map[string]bool
}

// NewNames starts the sequence of a dependent of an owner. taken reports names that are in use, or were so recently that
// their return would confuse a reader of the logs.
func NewNames(base string, uid types.UID, salt string, taken func(string) bool) *Names {
	if len(base) > maxGeneratedBase {
		base = base[:maxGeneratedBase]
	}
	return &Names{base: base, seed: string(uid) + "/" + salt, taken: taken, given: map[string]bool{}}
}

// Next returns the next free name.
func (n *Names) Next() string {
	for {
		name := n.base + suffix(n.seed, n.next)
		n.next++
		if !n.given[name] && !n.taken(name) {
			n.given[name] = true
			return name
		}
	}
}

func suffix(seed string, i uint64) string {
	h := fnv.New64a()
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], i)
	h.Write([]byte(seed))
	h.Write(counter[:])
	// The low bits of FNV are weak for inputs that differ only in their last byte; fold and mix once.
	v := h.Sum64()
	v ^= v >> 31
	v *= 0x9e3779b97f4a7c15
	v ^= v >> 29
	out := make([]byte, suffixLen)
	for j := range out {
		out[j] = alphabet[v%uint64(len(alphabet))]
		v /= uint64(len(alphabet))
	}
	return string(out)
}

// Hash returns a short, label-safe hash of the given parts.
func Hash(parts ...[]byte) string {
	h := fnv.New32a()
	for _, p := range parts {
		h.Write(p)
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

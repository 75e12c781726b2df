package podcert

import (
	"hash/fnv"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Credential is a key and its certificates.
type Credential struct {
	// Key and Chain are in PEM: a PKCS #8 key, and the certificates, the leaf first.
	Key, Chain []byte
	// Renew is when to ask for the next one, Expires when this one is no longer good.
	Renew, Expires time.Time
}

// Bundle is both in one file: the key and then the certificates.
func (c Credential) Bundle() []byte { return append(append([]byte(nil), c.Key...), c.Chain...) }

// recoveredPart is the part of its life after which a credential is renewed whose signer's wish is no longer known.
const recoveredPart = 0.7

// Recover makes a credential of what an earlier kubelet wrote to a volume: key and certificates in PEM, from one file or from two.
// False if they are no credential, or no longer a good one.
func Recover(pod types.UID, key, chain []byte, now time.Time) (Credential, bool) {
	k, err := parseKey(key)
	if err != nil {
		return Credential{}, false
	}
	leaf, chain, err := parseChain(chain)
	if err != nil || !matches(leaf, k) || !now.Before(leaf.NotAfter) {
		return Credential{}, false
	}
	if key, err = encodeKey(k); err != nil {
		return Credential{}, false
	}
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	begin := leaf.NotBefore.Add(time.Duration(float64(life) * recoveredPart))
	return Credential{Key: key, Chain: chain, Renew: spread(pod, begin, leaf.NotAfter), Expires: leaf.NotAfter}, true
}

// maxSpread bounds how much later than it might a pod asks.
const maxSpread = 5 * time.Minute

// spread is when a pod asks for its next certificate: a little after it might, by its UID, so that pods of one age do not ask at once,
// and within half of the time that is left then.
func spread(pod types.UID, begin, end time.Time) time.Time {
	h := fnv.New32a()
	_, _ = h.Write([]byte(pod))
	within := min(maxSpread, max(end.Sub(begin)/2, 0))
	return begin.Add(within * time.Duration(h.Sum32()%1000) / 1000)
}

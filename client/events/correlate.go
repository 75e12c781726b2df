package events

import (
	"container/list"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// maxKnown bounds what is remembered of earlier events and of objects' rates, as in client-go: the least recently used is
	// forgotten first. At about 400 bytes an entry both together stay below 4 MiB.
	maxKnown = 4096
	// objectBurst and objectRefill limit one object's events: 25 at once, then one every five minutes, as in client-go.
	objectBurst  = 25
	objectRefill = 5 * time.Minute
)

// identity is what makes two events the same, so that they are counted instead of repeated.
type identity struct {
	kind, namespace, name, fieldPath string
	uid                              types.UID
	eventtype, reason, message       string
}

func identityOf(ref corev1.ObjectReference, eventtype, reason, message string) identity {
	return identity{ref.Kind, ref.Namespace, ref.Name, ref.FieldPath, ref.UID, eventtype, reason, message}
}

// written is an Event that exists, to be counted up.
type written struct {
	namespace, name string
	first           time.Time
	count           int32
}

// subject is what rates are kept for.
type subject struct {
	component, kind, namespace, name string
	uid                              types.UID
}

// allowance is a subject's token bucket.
type allowance struct {
	tokens float64
	at     time.Time
}

// correlator remembers events written and how fast objects make them. It is not locked.
type correlator struct {
	events *lru[identity, *written]
	rates  *lru[subject, *allowance]
}

func newCorrelator() *correlator {
	return &correlator{newLRU[identity, *written](maxKnown), newLRU[subject, *allowance](maxKnown)}
}

// admit takes one token of the object's allowance; false if there is none.
func (c *correlator) admit(ref corev1.ObjectReference, component string, now time.Time) bool {
	key := subject{component, ref.Kind, ref.Namespace, ref.Name, ref.UID}
	a, ok := c.rates.get(key)
	if !ok {
		a = &allowance{objectBurst, now}
		c.rates.put(key, a)
	}
	a.tokens = min(objectBurst, a.tokens+float64(now.Sub(a.at))/float64(objectRefill))
	a.at = now
	if a.tokens < 1 {
		return false
	}
	a.tokens--
	return true
}

// lru is a map that forgets the least recently used entry beyond its size.
type lru[K comparable, V any] struct {
	size    int
	order   *list.List
	entries map[K]*list.Element
}

type lruEntry[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](size int) *lru[K, V] {
	return &lru[K, V]{size, list.New(), map[K]*list.Element{}}
}

func (l *lru[K, V]) get(key K) (V, bool) {
	e, ok := l.entries[key]
	if !ok {
		var zero V
		return zero, false
	}
	l.order.MoveToFront(e)
	return e.Value.(*lruEntry[K, V]).value, true
}

func (l *lru[K, V]) put(key K, value V) {
	if e, ok := l.entries[key]; ok {
		e.Value.(*lruEntry[K, V]).value = value
		l.order.MoveToFront(e)
		return
	}
	l.entries[key] = l.order.PushFront(&lruEntry[K, V]{key, value})
	if l.order.Len() > l.size {
		oldest := l.order.Back()
		l.order.Remove(oldest)
		delete(l.entries, oldest.Value.(*lruEntry[K, V]).key)
	}
}

func (l *lru[K, V]) remove(key K) {
	if e, ok := l.entries[key]; ok {
		l.order.Remove(e)
		delete(l.entries, key)
	}
}

package forward

import (
	"container/list"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Bounds of the cache.
const (
	// maxEntries answers of about 500 bytes each, with their bookkeeping, are 10 MiB at most.
	maxEntries = 10_000
	// maxMessage is the largest answer that is remembered: 10,000 of these would be 80 MiB, but only one in a thousand
	// answers is longer than 1 KiB.
	maxMessage = 8 << 10
	// maxTTL and maxNegativeTTL bound what an owner may ask for (RFC 2308 suggests one to three hours for absences;
	// short ones spare whoever has just created a name).
	maxTTL         = time.Hour
	maxNegativeTTL = 5 * time.Minute
	// failureTTL is how long a failure is remembered: RFC 9520 wants at least a second.
	failureTTL = time.Second
)

// key is what makes two questions the same.
type key struct {
	name   string // lower case
	qtype  uint16
	do, cd bool
}

func keyOf(m *dns.Msg) key {
	q := m.Question[0]
	k := key{name: strings.ToLower(q.Name), qtype: q.Qtype, cd: m.CheckingDisabled}
	if opt := m.IsEdns0(); opt != nil {
		k.do = opt.Do()
	}
	return k
}

// cache is a bounded map of answers; the least recently used goes first. An expired answer is never returned.
type cache struct {
	mu    sync.Mutex
	limit int
	items map[key]*list.Element
	order *list.List // of *item, most recently used first
}

type item struct {
	key            key
	msg            *dns.Msg // never modified
	stored, expiry time.Time
}

func newCache(limit int) *cache {
	return &cache{limit: limit, items: map[key]*list.Element{}, order: list.New()}
}

// get returns a copy of a live answer, with the time that has passed taken off its TTLs.
func (c *cache) get(k key, now time.Time) *dns.Msg {
	c.mu.Lock()
	e := c.items[k]
	if e == nil {
		c.mu.Unlock()
		return nil
	}
	it := e.Value.(*item)
	if !now.Before(it.expiry) {
		c.removeLocked(e)
		c.mu.Unlock()
		return nil
	}
	c.order.MoveToFront(e)
	c.mu.Unlock()

	m := it.msg.Copy()
	age := uint32(now.Sub(it.stored) / time.Second)
	eachRecord(m, func(h *dns.RR_Header) { h.Ttl -= min(age, h.Ttl) })
	return m
}

// put remembers an answer for as long as it may be.
func (c *cache) put(k key, m *dns.Msg, now time.Time) {
	ttl := lifetime(m)
	if ttl <= 0 || m.Len() > maxMessage {
		return
	}
	it := &item{key: k, msg: m.Copy(), stored: now, expiry: now.Add(ttl)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.items[k]; e != nil {
		e.Value = it
		c.order.MoveToFront(e)
		return
	}
	c.items[k] = c.order.PushFront(it)
	for len(c.items) > c.limit {
		c.removeLocked(c.order.Back())
	}
}

func (c *cache) removeLocked(e *list.Element) {
	c.order.Remove(e)
	delete(c.items, e.Value.(*item).key)
}

func (c *cache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.items)
}

// lifetime is how long an answer may be kept. An absence lives as long as the SOA that comes with it says, and without
// one not at all (RFC 2308, section 5).
func lifetime(m *dns.Msg) time.Duration {
	if m.Truncated {
		return 0
	}
	switch {
	case m.Rcode == dns.RcodeServerFailure:
		return failureTTL
	case m.Rcode == dns.RcodeSuccess && len(m.Answer) > 0 && answers(m):
		ttl := maxTTL
		eachRecord(m, func(h *dns.RR_Header) { ttl = min(ttl, time.Duration(h.Ttl)*time.Second) })
		return ttl
	case m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError:
		for _, rr := range m.Ns {
			if soa, ok := rr.(*dns.SOA); ok {
				ttl := min(maxNegativeTTL, time.Duration(min(soa.Minttl, soa.Hdr.Ttl))*time.Second)
				for _, a := range m.Answer { // aliases that lead to the absence
					ttl = min(ttl, time.Duration(a.Header().Ttl)*time.Second)
				}
				return ttl
			}
		}
	}
	return 0
}

// answers says whether the answer has records of the asked type, not just aliases to an absence.
func answers(m *dns.Msg) bool {
	want := m.Question[0].Qtype
	for _, rr := range m.Answer {
		if t := rr.Header().Rrtype; t == want || want == dns.TypeANY {
			return true
		}
	}
	return false
}

func eachRecord(m *dns.Msg, f func(*dns.RR_Header)) {
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if h := rr.Header(); h.Rrtype != dns.TypeOPT {
				f(h)
			}
		}
	}
}

package forward

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Limits of asking.
const (
	// patience is how long a question may take altogether: stub resolvers give up after five seconds.
	patience = 4500 * time.Millisecond
	// hedge is how long one server is waited for alone. Name servers nearby answer within some ten milliseconds and
	// recursion seldom takes longer than this.
	hedge = 500 * time.Millisecond
	// attempts is how often a question is asked at least while nobody answers, of one server if there is only one:
	// datagrams get lost. With one every 500 ms, the last still has three seconds.
	attempts = 4
	// coolOff is how long a server that failed is asked last.
	coolOff = 5 * time.Second
	// maxInFlight questions under way, at a few KiB and one socket each: below the usual limit of 1,024 files, even with
	// every one of them hedged, since most end within milliseconds. Beyond it clients are told to try again.
	maxInFlight = 500
	// udpSize is what upstream servers are told they may send: the size that never fragments (DNS flag day 2020).
	udpSize = 1232
)

// Errors of Resolve.
var (
	ErrNoUpstream = errors.New("no name server to ask")
	ErrBusy       = errors.New("too many questions under way")
	ErrNoAnswer   = errors.New("no name server answered")
)

// Exchange asks one server one question; for tests to replace.
type Exchange func(ctx context.Context, query *dns.Msg, network, server string) (*dns.Msg, error)

// Config is what a Forwarder needs.
type Config struct {
	// Upstreams says whom to ask, in order; it is called for each question that is not remembered and must be quick.
	Upstreams func() []netip.AddrPort
	// Self are the addresses that this server listens on.
	Self []netip.AddrPort
	// Exchange is nil for the network.
	Exchange Exchange
	// Observe, if not nil, is told of each question to a server: whom, how it went, how long it took.
	Observe func(server string, err error, took time.Duration)
}

// Forwarder asks upstream servers.
type Forwarder struct {
	cfg      Config
	cache    *cache
	probe    string // a name that nobody else asks for
	inFlight atomic.Int64
	hits     atomic.Int64
	misses   atomic.Int64
	base     context.Context // ends with Close
	stop     context.CancelFunc
	asking   sync.WaitGroup

	mu      sync.Mutex
	calls   map[key]*call
	failed  map[netip.AddrPort]time.Time // when it last failed
	looping map[netip.AddrPort]bool
	probing netip.AddrPort // whom the loop probe under way was sent to
}

// call is one question under way.
type call struct {
	done chan struct{}
	msg  *dns.Msg
	err  error
}

// New makes a forwarder. nonce is random text of this process; it names the loop probe.
func New(cfg Config, nonce string) *Forwarder {
	if cfg.Exchange == nil {
		cfg.Exchange = overNetwork
	}
	base, stop := context.WithCancel(context.Background())
	return &Forwarder{
		base: base, stop: stop, cfg: cfg, cache: newCache(maxEntries), probe: strings.ToLower(nonce) + ".loop-check.bareboat.",
		calls: map[key]*call{}, failed: map[netip.AddrPort]time.Time{}, looping: map[netip.AddrPort]bool{},
	}
}

// Close abandons the questions under way and returns when they have ended. Resolve must not be called afterwards.
func (f *Forwarder) Close() {
	f.stop()
	f.asking.Wait()
}

// Stats are the cache's figures since the start, and its size now.
func (f *Forwarder) Stats() (hits, misses int64, entries int) {
	return f.hits.Load(), f.misses.Load(), f.cache.len()
}

// Resolve answers a query that has exactly one question. The reply has its id and question.
func (f *Forwarder) Resolve(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	k := keyOf(query)
	if m := f.cache.get(k, time.Now()); m != nil {
		f.hits.Add(1)
		return address(m, query), nil
	}
	f.misses.Add(1)
	c, mine := f.join(k)
	if mine {
		// The question outlives the client that asked first: others may wait for it, and the answer is remembered.
		f.asking.Go(func() {
			ctx, cancel := context.WithTimeout(f.base, patience)
			defer cancel()
			c.msg, c.err = f.ask(ctx, query.Copy())
			if c.err == nil {
				f.cache.put(k, c.msg, time.Now())
			}
			f.leave(k)
			close(c.done)
		})
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c.err != nil {
		return nil, c.err
	}
	return address(c.msg.Copy(), query), nil
}

// address makes m the reply to query.
func address(m, query *dns.Msg) *dns.Msg {
	m.Id, m.RecursionDesired = query.Id, query.RecursionDesired
	// The owner names of the records are spelled as whoever asked first did; only the question is compared by clients.
	m.Question = []dns.Question{query.Question[0]}
	return m
}

func (f *Forwarder) join(k key) (c *call, mine bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.calls[k]; c != nil {
		return c, false
	}
	c = &call{done: make(chan struct{})}
	f.calls[k] = c
	return c, true
}

func (f *Forwarder) leave(k key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.calls, k)
}

// ask asks the servers in order, each joined by the next if it does not answer in time, and returns the first answer. A
// server that failed is not asked the same again; one that is silent is.
func (f *Forwarder) ask(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	if f.inFlight.Add(1) > maxInFlight {
		f.inFlight.Add(-1)
		return nil, ErrBusy
	}
	defer f.inFlight.Add(-1)
	servers := f.servers(time.Now())
	if len(servers) == 0 {
		return nil, ErrNoUpstream
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		msg *dns.Msg
		err error
	}
	limit := max(len(servers), attempts)
	results := make(chan result, limit)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel() // runs before Wait: the slower servers are not waited for
	next, pending := 0, 0
	start := func() {
		s := servers[next%len(servers)]
		next++
		pending++
		running.Go(func() {
			m, err := f.askOne(ctx, query.Copy(), s)
			results <- result{m, err}
		})
	}
	start()
	timer := time.NewTimer(hedge)
	defer timer.Stop()
	var failure *dns.Msg // an answer that another server may better
	var errs []error
	for {
		select {
		case r := <-results:
			pending--
			switch {
			case r.err != nil:
				errs = append(errs, r.err)
			case r.msg.Rcode == dns.RcodeServerFailure || r.msg.Rcode == dns.RcodeRefused || r.msg.Rcode == dns.RcodeNotImplemented:
				failure = r.msg
			default:
				return r.msg, nil
			}
			switch {
			case next < len(servers):
				start()
				timer.Reset(hedge)
			case pending == 0 && failure != nil:
				return failure, nil
			case pending == 0:
				return nil, fmt.Errorf("%w: %w", ErrNoAnswer, errors.Join(errs...))
			}
		case <-timer.C:
			if next < limit {
				start()
				timer.Reset(hedge)
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrNoAnswer, ctx.Err())
		}
	}
}

// askOne asks one server, over TCP if the answer does not fit a datagram.
func (f *Forwarder) askOne(ctx context.Context, query *dns.Msg, server netip.AddrPort) (*dns.Msg, error) {
	start := time.Now()
	prepare(query)
	m, err := f.cfg.Exchange(ctx, query, "udp", server.String())
	if err == nil && m.Truncated {
		m, err = f.cfg.Exchange(ctx, query, "tcp", server.String())
	}
	if err == nil && !sameQuestion(m, query) {
		m, err = nil, errors.New("the answer is to another question")
	}
	if f.cfg.Observe != nil && ctx.Err() == nil {
		f.cfg.Observe(server.String(), err, time.Since(start))
	}
	if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		f.mu.Lock()
		if err != nil {
			f.failed[server] = time.Now()
		} else {
			delete(f.failed, server)
		}
		f.mu.Unlock()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	clean(m)
	return m, nil
}

// prepare makes a client's query our own: a fresh id, no options but the ones that we mean.
func prepare(q *dns.Msg) {
	q.Id = dns.Id()
	q.RecursionDesired = true
	do := false
	if opt := q.IsEdns0(); opt != nil {
		do = opt.Do()
	}
	q.Answer, q.Ns, q.Extra = nil, nil, nil
	q.SetEdns0(udpSize, do)
}

// clean removes the hop-by-hop parts of an answer.
func clean(m *dns.Msg) {
	extra := m.Extra[:0]
	for _, rr := range m.Extra {
		if rr.Header().Rrtype != dns.TypeOPT {
			extra = append(extra, rr)
		}
	}
	m.Extra = extra
	m.Authoritative = false
}

func sameQuestion(m, query *dns.Msg) bool {
	if len(m.Question) != 1 {
		return false
	}
	a, b := m.Question[0], query.Question[0]
	return m.Response && a.Qtype == b.Qtype && a.Qclass == b.Qclass && strings.EqualFold(a.Name, b.Name)
}

// servers are those to ask, the ones that failed lately last.
func (f *Forwarder) servers(now time.Time) []netip.AddrPort {
	f.mu.Lock()
	defer f.mu.Unlock()
	var good, bad []netip.AddrPort
	for _, s := range f.cfg.Upstreams() {
		switch {
		case f.selfLocked(s), f.looping[s]:
		case now.Sub(f.failed[s]) < coolOff:
			bad = append(bad, s)
		default:
			good = append(good, s)
		}
	}
	return append(good, bad...)
}

func (f *Forwarder) selfLocked(s netip.AddrPort) bool {
	for _, self := range f.cfg.Self {
		if s == self {
			return true
		}
	}
	return false
}

// Loop is called by the server with each name that it is asked for; true means that the question is our own probe, which
// some upstream server sent back to us.
func (f *Forwarder) Loop(name string) bool {
	if !strings.EqualFold(name, f.probe) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.probing.IsValid() {
		f.looping[f.probing] = true
	}
	return true
}

// Probe asks each upstream server for a name that only this process knows, and returns those that asked us for it: they
// would send every question that we forward back to us. They are not asked again.
func (f *Forwarder) Probe(ctx context.Context) (looping []netip.AddrPort) {
	f.mu.Lock()
	clear(f.looping) // they may have been set right since
	f.mu.Unlock()
	for _, s := range f.servers(time.Now()) {
		f.mu.Lock()
		f.probing = s
		f.mu.Unlock()
		q := new(dns.Msg)
		q.SetQuestion(f.probe, dns.TypeHINFO)
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		f.cfg.Exchange(one, q, "udp", s.String()) // the answer does not matter, only who sees the question
		cancel()
		f.mu.Lock()
		f.probing = netip.AddrPort{}
		if f.looping[s] {
			looping = append(looping, s)
		}
		f.mu.Unlock()
	}
	return looping
}

// overNetwork asks over UDP or TCP from a fresh socket: an unpredictable port makes forged answers hard.
func overNetwork(ctx context.Context, query *dns.Msg, network, server string) (*dns.Msg, error) {
	c := dns.Client{Net: network, UDPSize: udpSize, Timeout: patience}
	conn, err := c.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// A cancelled question must not hold its socket until the timeout.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	m, _, err := c.ExchangeWithConnContext(ctx, query, conn)
	return m, err
}

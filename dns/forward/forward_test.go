package forward_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"bareboat.dev/dns/forward"
)

var (
	serverA = netip.MustParseAddrPort("192.0.2.1:53")
	serverB = netip.MustParseAddrPort("192.0.2.2:53")
)

func query(name string, t uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, t)
	return m
}

// reply answers a query with records in zone file form; a first word like NXDOMAIN is the code; SOA records are authority.
func reply(q *dns.Msg, lines ...string) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	for _, l := range lines {
		if code, ok := dns.StringToRcode[l]; ok {
			m.Rcode = code
			continue
		}
		rr, err := dns.NewRR(l)
		if err != nil {
			panic(err)
		}
		if rr.Header().Rrtype == dns.TypeSOA {
			m.Ns = append(m.Ns, rr)
		} else {
			m.Answer = append(m.Answer, rr)
		}
	}
	return m
}

const soa = "example. 600 IN SOA ns.example. root.example. 1 2 3 4 60"

// net is a network of name servers that counts what they are asked.
type net struct {
	mu     sync.Mutex
	asked  map[string]int // "server network"
	answer func(ctx context.Context, q *dns.Msg, network, server string) (*dns.Msg, error)
}

func (n *net) exchange(ctx context.Context, q *dns.Msg, network, server string) (*dns.Msg, error) {
	n.mu.Lock()
	n.asked[server+" "+network]++
	n.mu.Unlock()
	return n.answer(ctx, q, network, server)
}

func (n *net) total() (sum int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.asked {
		sum += c
	}
	return sum
}

func start(t *testing.T, answer func(ctx context.Context, q *dns.Msg, network, server string) (*dns.Msg, error)) (*forward.Forwarder, *net) {
	n := &net{asked: map[string]int{}, answer: answer}
	f := forward.New(forward.Config{
		Upstreams: forward.Fixed(serverA, serverB), Self: []netip.AddrPort{netip.MustParseAddrPort("10.96.0.10:53")}, Exchange: n.exchange,
	}, "nonce")
	t.Cleanup(f.Close)
	return f, n
}

func always(lines ...string) func(context.Context, *dns.Msg, string, string) (*dns.Msg, error) {
	return func(_ context.Context, q *dns.Msg, _, _ string) (*dns.Msg, error) { return reply(q, lines...), nil }
}

// An answer is remembered for its TTL, which counts down, and not a moment longer.
func TestRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, n := start(t, always("x.example. 30 IN A 192.0.2.7", "x.example. 90 IN A 192.0.2.8"))
		for _, step := range []struct {
			wait  time.Duration
			asked int
			ttl   uint32
		}{{0, 1, 30}, {10 * time.Second, 1, 20}, {19 * time.Second, 1, 1}, {time.Second, 2, 30}} {
			time.Sleep(step.wait)
			q := query("X.example.", dns.TypeA)
			m, err := f.Resolve(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if n.total() != step.asked || m.Answer[0].Header().Ttl != step.ttl || m.Id != q.Id || m.Question[0].Name != "X.example." {
				t.Errorf("after %v: asked %d times\n%s", step.wait, n.total(), m)
			}
			m.Answer[0].Header().Ttl = 7 // the caller may do as it likes
		}
	})
}

// How long each kind of answer is remembered.
func TestLifetimes(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  time.Duration
	}{
		"absent name":                 {[]string{"NXDOMAIN", soa}, 60 * time.Second},
		"absent type":                 {[]string{soa}, 60 * time.Second},
		"absence without SOA":         {[]string{"NXDOMAIN"}, 0},
		"absence for a day":           {[]string{"NXDOMAIN", strings.Replace(strings.Replace(soa, "600", "86400", 1), "4 60", "4 86400", 1)}, 5 * time.Minute},
		"a week":                      {[]string{"x.example. 604800 IN A 192.0.2.1"}, time.Hour},
		"zero":                        {[]string{"x.example. 0 IN A 192.0.2.1"}, 0},
		"alias to an absence":         {[]string{"x.example. 20 IN CNAME y.example.", soa}, 20 * time.Second},
		"alias without what it names": {[]string{"x.example. 20 IN CNAME y.example."}, 0},
		"failure":                     {[]string{"SERVFAIL"}, time.Second},
		"refusal":                     {[]string{"REFUSED"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, n := start(t, always(c.lines...))
				ask := func() int {
					before := n.total()
					if _, err := f.Resolve(t.Context(), query("x.example.", dns.TypeA)); err != nil {
						t.Fatal(err)
					}
					return n.total() - before
				}
				ask()
				if c.want > 0 {
					time.Sleep(c.want - time.Millisecond)
					if ask() != 0 {
						t.Errorf("asked again before %v", c.want)
					}
					time.Sleep(time.Millisecond)
				}
				if ask() == 0 {
					t.Errorf("still remembered after %v", c.want)
				}
			})
		})
	}
}

// The same question from many clients at once is asked once.
func TestAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, n := start(t, func(_ context.Context, q *dns.Msg, _, _ string) (*dns.Msg, error) {
			time.Sleep(100 * time.Millisecond)
			return reply(q, "x.example. 0 IN A 192.0.2.7"), nil
		})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if m, err := f.Resolve(t.Context(), query("x.example.", dns.TypeA)); err != nil || len(m.Answer) != 1 {
					t.Error(m, err)
				}
			})
		}
		wg.Wait()
		if n.total() != 1 {
			t.Errorf("asked %d times", n.total())
		}
	})
}

// A client that goes away does not take the answer from the others, nor from those who ask later.
func TestImpatientClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, n := start(t, func(ctx context.Context, q *dns.Msg, _, _ string) (*dns.Msg, error) {
			select {
			case <-time.After(100 * time.Millisecond):
				return reply(q, "x.example. 30 IN A 192.0.2.7"), nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := f.Resolve(ctx, query("x.example.", dns.TypeA)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Second)
		if _, err := f.Resolve(t.Context(), query("x.example.", dns.TypeA)); err != nil || n.total() != 1 {
			t.Errorf("asked %d times, %v", n.total(), err)
		}
	})
}

// A silent server is joined by the next one after half a second and asked last from then on; one that fails is replaced
// at once.
func TestOtherServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, n := start(t, func(ctx context.Context, q *dns.Msg, _, server string) (*dns.Msg, error) {
			if server == serverA.String() {
				if strings.HasPrefix(q.Question[0].Name, "fail") {
					return nil, errors.New("refused")
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return reply(q, q.Question[0].Name+" 0 IN A 192.0.2.7"), nil
		})
		begin := time.Now()
		if _, err := f.Resolve(t.Context(), query("x.example.", dns.TypeA)); err != nil || time.Since(begin) != 500*time.Millisecond {
			t.Errorf("took %v, %v", time.Since(begin), err)
		}
		begin = time.Now()
		if _, err := f.Resolve(t.Context(), query("fail.example.", dns.TypeA)); err != nil || time.Since(begin) != 0 {
			t.Errorf("took %v, %v", time.Since(begin), err)
		}
		before := n.asked[serverA.String()+" udp"]
		if _, err := f.Resolve(t.Context(), query("z.example.", dns.TypeA)); err != nil {
			t.Error(err)
		}
		if n.asked[serverA.String()+" udp"] != before {
			t.Error("the failed server was asked first again")
		}
		time.Sleep(6 * time.Second)
		f.Resolve(t.Context(), query("fail2.example.", dns.TypeA))
		if n.asked[serverA.String()+" udp"] == before {
			t.Error("the failed server was never asked again")
		}
	})
}

// A datagram that got lost is sent again, to the only server there is.
func TestLostDatagram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		n := &net{asked: map[string]int{}}
		n.answer = func(ctx context.Context, q *dns.Msg, _, _ string) (*dns.Msg, error) {
			if asked.Add(1) <= 2 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return reply(q, "x.example. 30 IN A 192.0.2.7"), nil
		}
		f := forward.New(forward.Config{Upstreams: forward.Fixed(serverA), Exchange: n.exchange}, "nonce")
		defer f.Close()
		begin := time.Now()
		if _, err := f.Resolve(t.Context(), query("x.example.", dns.TypeA)); err != nil || time.Since(begin) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}

// When nobody answers, the client hears of it before it gives up itself.
func TestNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := start(t, func(ctx context.Context, _ *dns.Msg, _, _ string) (*dns.Msg, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		begin := time.Now()
		_, err := f.Resolve(t.Context(), query("x.example.", dns.TypeA))
		if !errors.Is(err, forward.ErrNoAnswer) || time.Since(begin) >= 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}

// An answer that does not fit is asked for again over TCP; one to another question is not believed.
func TestTruncatedAndForged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, n := start(t, func(_ context.Context, q *dns.Msg, network, server string) (*dns.Msg, error) {
			m := reply(q, q.Question[0].Name+" 30 IN A 192.0.2.7")
			m.Truncated = network == "udp"
			if server == serverA.String() && strings.HasPrefix(q.Question[0].Name, "forged") {
				m.Question[0].Name, m.Truncated = "bank.example.", false
			}
			return m, nil
		})
		m, err := f.Resolve(t.Context(), query("big.example.", dns.TypeA))
		if err != nil || m.Truncated || n.asked[serverA.String()+" tcp"] != 1 {
			t.Errorf("%v %v", m, err)
		}
		m, err = f.Resolve(t.Context(), query("forged.example.", dns.TypeA))
		if err != nil || m.Question[0].Name != "forged.example." || n.asked[serverB.String()+" udp"] != 1 {
			t.Errorf("%v %v", m, err)
		}
	})
}

// What is remembered stays within its bound, however many names there are; so do the questions under way.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := start(t, func(_ context.Context, q *dns.Msg, _, _ string) (*dns.Msg, error) {
			return reply(q, q.Question[0].Name+" 300 IN A 192.0.2.7"), nil
		})
		for i := range 12_000 {
			if _, err := f.Resolve(t.Context(), query(fmt.Sprintf("n%d.example.", i), dns.TypeA)); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, entries := f.Stats(); entries != 10_000 {
			t.Errorf("%d entries", entries)
		}
		block := make(chan struct{})
		var busy atomic.Int32
		g, _ := start(t, func(_ context.Context, q *dns.Msg, _, _ string) (*dns.Msg, error) { <-block; return reply(q), nil })
		var wg sync.WaitGroup
		for i := range 600 {
			wg.Go(func() {
				if _, err := g.Resolve(t.Context(), query(fmt.Sprintf("n%d.example.", i), dns.TypeA)); errors.Is(err, forward.ErrBusy) {
					busy.Add(1)
				}
			})
		}
		synctest.Wait()
		close(block)
		wg.Wait()
		if busy.Load() != 100 {
			t.Errorf("%d of 600 were told that we are busy", busy.Load())
		}
	})
}

// A server that leads back here is found out and not asked any more; our own address never is.
func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		self := netip.MustParseAddrPort("10.96.0.10:53")
		n := &net{asked: map[string]int{}}
		f := forward.New(forward.Config{
			Upstreams: forward.Fixed(self, serverA, serverB), Self: []netip.AddrPort{self}, Exchange: n.exchange,
		}, "Nonce")
		defer f.Close()
		n.answer = func(_ context.Context, q *dns.Msg, _, server string) (*dns.Msg, error) {
			if server == serverA.String() && f.Loop(strings.ToUpper(q.Question[0].Name)) {
				return reply(q, "SERVFAIL"), nil
			}
			return reply(q, "NXDOMAIN", soa), nil
		}
		if got := f.Probe(t.Context()); len(got) != 1 || got[0] != serverA {
			t.Errorf("looping: %v", got)
		}
		clear(n.asked)
		if _, err := f.Resolve(t.Context(), query("x.example.", dns.TypeA)); err != nil {
			t.Error(err)
		}
		if len(n.asked) != 1 || n.asked[serverB.String()+" udp"] != 1 {
			t.Errorf("asked %v", n.asked)
		}
		if f.Loop("x.example.") {
			t.Error("an ordinary name is no probe")
		}
	})
}

// A resolver file is read again when it has changed, and what cannot be read changes nothing.
func TestResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string, at time.Time) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		read := forward.FromResolvConf(path)
		if got := read(); len(got) != 0 {
			t.Errorf("no file: %v", got)
		}
		write("nameserver 192.0.2.1\nnameserver fd00::1\nsearch example\n", time.Now())
		time.Sleep(3 * time.Second)
		if got := fmt.Sprint(read()); got != "[192.0.2.1:53 [fd00::1]:53]" {
			t.Errorf("got %v", got)
		}
		write("nameserver 192.0.2.9\n", time.Now())
		time.Sleep(3 * time.Second)
		if got := fmt.Sprint(read()); got != "[192.0.2.9:53]" {
			t.Errorf("got %v", got)
		}
		os.Remove(path)
		time.Sleep(3 * time.Second)
		if got := fmt.Sprint(read()); got != "[192.0.2.9:53]" {
			t.Errorf("without the file: %v", got)
		}
	})
}

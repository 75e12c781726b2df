package conntrack_test

import (
	"testing"

	"bareboat.dev/proxy/conntrack"
	"bareboat.dev/proxy/internal/lab"
	"bareboat.dev/proxy/internal/suite"
	"bareboat.dev/proxy/nftables"
	"bareboat.dev/proxy/plan"
)

// A UDP client that keeps its socket is served on when its endpoint has gone, or when the service got its first endpoint
// only after the client had begun to send; flows of other services are left alone.
func TestUDPMovesOn(t *testing.T) {
	l := lab.New(t)
	a, b, pod := l.Pod("a", 2), l.Pod("b", 3), l.Pod("pod", 4)
	a.ServeUDP(":8080")
	b.ServeUDP(":8080")
	set := plan.NewSet(plan.IPv4)
	var applier *nftables.Applier
	put := func(name, ip string, eps ...string) {
		t.Helper()
		var slices = suite.Slices(eps...)
		l.Node.Do(func() {
			var err error
			if applier == nil {
				if applier, err = nftables.New(nftables.Config{Family: plan.IPv4}); err != nil {
					t.Error(err)
					return
				}
			}
			if err = applier.Apply(t.Context(), set, set.Put(plan.ForService(suite.Service(name, ip), slices, plan.Node{Name: "node"}, plan.IPv4))); err != nil {
				t.Error(err)
			}
			if _, err = conntrack.Sweep(set); err != nil {
				t.Error(err)
			}
		})
	}
	ask := func(c interface{ Server() (string, error) }, want string) {
		t.Helper()
		if got, err := c.Server(); err != nil || got != want {
			t.Errorf("answered by %q, %v; want %q", got, err, want)
		}
	}
	put("moving", "10.96.0.7", "10.244.0.2@node")
	put("staying", "10.96.0.8", "10.244.0.3@node")
	moving, staying := pod.UDP("10.96.0.7:80"), pod.UDP("10.96.0.8:80")
	ask(moving, "a")
	ask(staying, "b")
	put("moving", "10.96.0.7", "10.244.0.3@node")
	ask(moving, "b")
	ask(staying, "b")

	late := pod.UDP("10.96.0.9:80")
	late.Send() // to nobody: the way of this flow is now tracked, untranslated
	put("late", "10.96.0.9", "10.244.0.2@node")
	ask(late, "a")
}

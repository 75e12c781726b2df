package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	"bareboat.dev/proxy/agent"
	"bareboat.dev/proxy/internal/lab"
	"bareboat.dev/proxy/internal/suite"
	"bareboat.dev/proxy/nftables"
	"bareboat.dev/proxy/plan"
)

// told is an applier that says when it has applied.
type told struct {
	*nftables.Applier
	node *lab.Host
	done chan struct{}
}

func (a told) Apply(ctx context.Context, set *plan.Set, changed []string) (err error) {
	a.node.Do(func() { err = a.Applier.Apply(ctx, set, changed) })
	a.done <- struct{}{}
	return err
}

// From the request that moves an endpoint to the kernel having it: the model API server's, the mirror's, the plan's and the
// kernel's time, among that many services.
func BenchmarkEndpointChange(b *testing.B) {
	for _, n := range []int{100, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			api := clienttest.NewServer(b)
			c := api.Client()
			slices := client.Of(c, client.EndpointSlices())
			var moving *discoveryv1.EndpointSlice
			for i := range n {
				name := fmt.Sprint("s", i)
				if _, err := client.Of(c, client.Services()).Create(b.Context(), service(name, fmt.Sprintf("10.96.%d.%d", i/256, i%256))); err != nil {
					b.Fatal(err)
				}
				s, err := slices.Create(b.Context(), slice(name+"-1", name, fmt.Sprintf("10.244.%d.%d", i/256, i%256), "10.244.100.1"))
				if err != nil {
					b.Fatal(err)
				}
				moving = s
			}
			l := lab.New(b)
			a := told{node: l.Node, done: make(chan struct{}, 64)}
			l.Node.Do(func() {
				var err error
				if a.Applier, err = nftables.New(nftables.Config{Family: plan.IPv4, ClusterCIDRs: suite.ClusterCIDRs()}); err != nil {
					b.Error(err)
				}
			})
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan error, 1)
			ready := make(chan struct{})
			go func() {
				ended <- agent.New(c, agent.Config{
					NodeName: "n1", Log: slog.New(slog.DiscardHandler), Families: []agent.Family{{Family: plan.IPv4, Applier: a}},
					Ready: func() { close(ready) },
				}).Run(ctx)
			}()
			<-ready
			<-a.done
			version := byte(0)
			for b.Loop() {
				version = 1 - version
				moving.Endpoints[0].Addresses[0] = fmt.Sprintf("10.244.200.%d", 1+version)
				var err error
				if moving, err = slices.Update(b.Context(), moving); err != nil {
					b.Fatal(err)
				}
				<-a.done
			}
			cancel()
			<-ended
		})
	}
}

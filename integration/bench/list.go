package bench

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	"bareboat.dev/client"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

const (
	// manyPods is the collection that lists are measured on, repeats how often.
	manyPods, repeats = 10_000, 20
	// listers at once, over listerConns connections, that take what fits HTTP/2's first window and no more: the server then holds, for
	// each of them, as much as it ever does.
	listers, listerConns = 1_000, 50
)

// listPods measures a list of many pods to its last byte, through each door, against the time that encoding those pods once takes;
// and what lists that are under way take of the server's memory.
func listPods(e *Env) ([]Row, error) {
	s := startServer(e, "", "--max-requests-inflight=0")
	c := s.dial(e)
	if err := createPods(c, manyPods); err != nil {
		return nil, err
	}
	request, err := proto.Marshal(&apiv1.ListRequest{Ref: &apiv1.ResourceRef{Version: "v1", Resource: "pods"}})
	if err != nil {
		return nil, err
	}
	grpcList := grpcCall(s.address(), apiv1.ResourceService_List_FullMethodName, func(b []byte, _, _ int) []byte { return append(b, request...) })
	native, rest := s.generator(e, "h2"), s.generator(e, "h2", "http/1.1")
	pods, _, err := client.Of(c, client.Pods()).List(context.Background(), "", client.ListOptions{})
	if err != nil {
		return nil, err
	}
	ways := []*way{
		{name: "gRPC", aim: "≤ 25 ms", do: once(native, grpcList)},
		{name: "gRPC, decoded by the Go client", do: func() error {
			_, _, err := client.Of(c, client.Pods()).List(context.Background(), "", client.ListOptions{})
			return err
		}},
		{name: "REST, protobuf", do: once(rest, restCall(s.address(), "GET", "/api/v1/pods", "application/vnd.kubernetes.protobuf"))},
		{name: "REST, JSON", do: once(rest, restCall(s.address(), "GET", "/api/v1/pods", "application/json"))},
		{name: "REST, JSON compressed, as client-go asks", do: once(rest, compressed(restCall(s.address(), "GET", "/api/v1/pods", "application/json")))},
		{name: "REST, table, as kubectl asks", do: once(rest, compressed(restCall(s.address(), "GET", "/api/v1/pods", "application/json;as=Table;v=v1;g=meta.k8s.io")))},
	}
	encode := &way{do: func() error {
		for _, p := range pods {
			if _, err := p.Marshal(); err != nil {
				return err
			}
		}
		return nil
	}}
	go s.profile(e, "list", 3*time.Second)
	for range repeats {
		for _, w := range append(ways, encode) {
			if err := w.run(s.pid); err != nil {
				return nil, err
			}
		}
	}
	var rows []Row
	for _, w := range ways {
		rows = append(rows, Row{
			fmt.Sprintf("list 10,000 pods, %s, p50 to the last byte", w.name), fmt.Sprintf("%s (server %s of CPU)", ms(w.p50()), ms(w.serving/repeats)),
			"encoding them once " + ms(encode.p50()), fmt.Sprintf("%.2f", float64(w.p50())/float64(encode.p50())), w.aim,
		})
	}
	held, err := heldByLists(e, s, "gRPC", grpcList, "h2")
	if err != nil {
		return nil, err
	}
	heldByREST, err := heldByLists(e, s, "REST with JSON", restCall(s.address(), "GET", "/api/v1/pods", "application/json"), "h2", "http/1.1")
	if err != nil {
		return nil, err
	}
	return append(rows, held, heldByREST), nil
}

// compressed asks for a compressed answer.
func compressed(c call) call {
	c.headers = append(c.headers, hpack.HeaderField{Name: "accept-encoding", Value: "gzip"})
	return c
}

// way is one way to do a thing that takes a while.
type way struct {
	name, aim string
	do        func() error
	took      []time.Duration
	serving   time.Duration
}

func (w *way) run(server int) error {
	used, start := cpuTime([]int{server}), time.Now()
	err := w.do()
	w.took = append(w.took, time.Since(start))
	w.serving += cpuTime([]int{server}) - used
	return err
}

func (w *way) p50() time.Duration { return percentile(w.took, 0.5) }

// once makes one call to its last byte.
func once(g *generator, c call) func() error {
	return func() error {
		_, err := g.run(c, 1, 0)
		return err
	}
}

// heldByLists measures what the server holds for lists whose clients do not read on: for one, and for many. The protocols that clients offer
// say by which door they come.
func heldByLists(e *Env, s *server, door string, c call, protocols ...string) (Row, error) {
	begin := func(conns, each int) error {
		for range conns {
			config := s.tls(e)
			config.NextProtos = protocols
			g := dialWindow(e, s.address(), config, firstWindow)
			for range each {
				if err := g.send(c.headers, c.body(nil, 0, 0)); err != nil {
					return err
				}
			}
			if err := g.out.Flush(); err != nil {
				return err
			}
		}
		return nil
	}
	settle := func() int64 {
		time.Sleep(2 * time.Second)
		return pss(s.pid)
	}
	if err := begin(1, 1); err != nil {
		return Row{}, err
	}
	one := settle()
	if err := begin(listerConns, listers/listerConns); err != nil {
		return Row{}, err
	}
	many := settle()
	return Row{
		"memory of the server with 1 and with 1,000 lists of 10,000 pods through " + door + " under way whose clients do not read on (PSS)",
		fmt.Sprintf("%.0f MiB and %.0f MiB, %.0f KiB a list", float64(one)/(1<<20), float64(many)/(1<<20), float64(many-one)/listers/(1<<10)), "", "", "flat",
	}, nil
}

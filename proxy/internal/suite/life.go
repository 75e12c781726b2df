package suite

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"bareboat.dev/proxy/internal/lab"
	"bareboat.dev/proxy/plan"
)

// Under session affinity one client stays with one endpoint, across connections and changes of the others; when its
// endpoint goes, it gets another.
func affinity(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	ip := map[string]string{"a": "10.244.0.2@node", "b": "10.244.0.3@node", "c": "10.244.0.4@node"}
	serve(w.Pod("a", 2), w.Pod("b", 3), w.Pod("c", 4))
	svc := Service("s", "10.96.0.7", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })
	w.Put(svc, Slice(ip["a"], ip["b"], ip["c"]))
	first, err := w.Client.AskTCP("10.96.0.7:80")
	if err != nil {
		t.Fatal(err)
	}
	stays := func() {
		t.Helper()
		for range 12 {
			if got, err := w.Client.AskTCP("10.96.0.7:80"); err != nil || got.Server != first.Server {
				t.Fatalf("went from %s to %v, %v", first.Server, got, err)
			}
		}
	}
	stays()
	other := "a"
	if first.Server == "a" {
		other = "b"
	}
	rest := map[string]string{}
	for k, v := range ip {
		if k != other {
			rest[k] = v
		}
	}
	w.Put(svc, Slice(values(rest)...))
	stays()
	delete(rest, first.Server)
	w.Put(svc, Slice(values(rest)...))
	first, err = w.Client.AskTCP("10.96.0.7:80")
	if err != nil || rest[first.Server] == "" {
		t.Fatalf("after its endpoint went: %v, %v", first, err)
	}
	w.Put(svc, Slice(values(ip)...))
	stays()
}

// A client that is stuck to an endpoint on another node is led to one of this node when the policy becomes Local.
func affinityTurns(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web, far := w.Pod("web", 2), w.RemotePod("far", 1)
	serve(web, far)
	affine := func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }
	w.Put(Service("s", "10.96.0.7", NodePort(30080), affine), Slice("10.244.1.2@other"))
	w.asks(w.Client, "192.168.50.1:30080", "far", "10.244.1.1")
	w.Put(Service("s", "10.96.0.7", NodePort(30080), affine), Slice("10.244.1.2@other", "10.244.0.2@node"))
	w.asks(w.Client, "192.168.50.1:30080", "far", "10.244.1.1")
	w.Put(Service("s", "10.96.0.7", NodePort(30080), affine, LocalExternal), Slice("10.244.1.2@other", "10.244.0.2@node"))
	w.asks(w.Client, "192.168.50.1:30080", "web", "192.168.50.2")
}

func values(m map[string]string) (out []string) {
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// A pod reaches itself through its service.
func hairpin(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web := w.Pod("web", 2)
	serve(web)
	w.Put(Service("a", "10.96.0.7"), Slice("10.244.0.2@node"))
	w.asks(web, "10.96.0.7:80", "web", "10.244.0.1")
}

// A service without endpoints is refused at once on every kind of address, and served once it has some.
func noEndpoints(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web, pod := w.Pod("web", 2), w.Pod("pod", 3)
	serve(web)
	svc := Service("a", "10.96.0.7", NodePort(30080))
	w.Put(svc)
	for _, from := range []*lab.Host{pod, w.Node, w.Client} {
		w.refused(from, "10.96.0.7:80")
	}
	w.refused(w.Client, "192.168.50.1:30080")
	w.Put(svc, Slice("10.244.0.2@node"))
	w.asks(pod, "10.96.0.7:80", "web", "10.244.0.3")
	w.asks(w.Client, "192.168.50.1:30080", "web", "10.244.0.1")
}

// A cluster address that the node itself has (the cluster DNS daemon's) reaches the listener there while the service has
// no endpoints.
func localAddress(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	pod := w.Pod("pod", 3)
	w.Node.Run("ip", "addr", "add", "10.96.0.10/32", "dev", "lo")
	w.Node.ServeTCP("10.96.0.10:80")
	w.Node.ServeUDP("10.96.0.10:80")
	w.Put(Service("dns", "10.96.0.10"))
	w.asks(pod, "10.96.0.10:80", "node", "10.244.0.3")
	w.asks(w.Node, "10.96.0.10:80", "node", "10.96.0.10")
}

// A new applier finds the rules of the old one, keeps them, and corrects what changed while nobody was there.
func restart(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web, other, pod := w.Pod("web", 2), w.Pod("other", 4), w.Pod("pod", 3)
	serve(web, other)
	w.Put(Service("a", "10.96.0.7"), Slice("10.244.0.2@node"))
	w.Put(Service("gone", "10.96.0.8"), Slice("10.244.0.2@node"))
	open, err := pod.Dial("tcp", "10.96.0.7:80")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	w.Node.Do(func() { w.Applier, err = mk(plan.IPv4, ClusterCIDRs()) })
	if err != nil {
		t.Fatal(err)
	}
	w.Set = plan.NewSet(plan.IPv4)
	w.Set.Put(plan.ForService(Service("a", "10.96.0.7"), []*discoveryv1.EndpointSlice{Slice("10.244.0.2@node")}, w.node, plan.IPv4))
	w.Put(Service("b", "10.96.0.9"), Slice("10.244.0.4@node"))
	if got, err := lab.Ask(open); err != nil || got.Server != "web" {
		t.Errorf("the open connection: %v, %v", got, err)
	}
	w.asks(pod, "10.96.0.7:80", "web", "10.244.0.3")
	w.asks(pod, "10.96.0.9:80", "other", "10.244.0.3")
	w.silent(pod, "10.96.0.8:80") // the deleted service: nobody claims the address
}

// Services move, lose ports and change type without leaving anything of their former self.
func change(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web, other, pod := w.Pod("web", 2), w.Pod("other", 4), w.Pod("pod", 3)
	serve(web, other)
	w.Put(Service("a", "10.96.0.7", NodePort(30080)), Slice("10.244.0.2@node"))
	w.Put(Service("b", "10.96.0.8"), Slice("10.244.0.4@node"))
	w.Put(Service("b", "10.96.0.8", NodePort(30081)), Slice("10.244.0.2@node", "10.244.0.4@node"))
	w.Put(Service("a", "10.96.0.7"), Slice("10.244.0.4@node"))
	w.asks(pod, "10.96.0.7:80", "other", "10.244.0.3")
	w.refused(w.Client, "192.168.50.1:30080")
	// Two services swap addresses in one update.
	first := w.Set.Put(plan.ForService(Service("a", "10.96.0.8"), []*discoveryv1.EndpointSlice{Slice("10.244.0.4@node")}, w.node, plan.IPv4))
	second := w.Set.Put(plan.ForService(Service("b", "10.96.0.7"), []*discoveryv1.EndpointSlice{Slice("10.244.0.2@node")}, w.node, plan.IPv4))
	w.Apply(append(first, second...))
	w.asks(pod, "10.96.0.8:80", "other", "10.244.0.3")
	w.asks(pod, "10.96.0.7:80", "web", "10.244.0.3")
	w.Delete("default/a")
	w.asks(pod, "10.96.0.7:80", "web", "10.244.0.3")
	w.silent(pod, "10.96.0.8:80") // the deleted service: nobody claims the address
}

// While hundreds of services change around it, and its own endpoints too, no connection to a service fails.
func atomic(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	serve(w.Pod("a", 2), w.Pod("b", 3))
	pod := w.Pod("pod", 9)
	svc := Service("a", "10.96.0.7", NodePort(30080))
	w.Put(svc, Slice("10.244.0.2@node"))
	stop := make(chan struct{})
	var traffic sync.WaitGroup
	for _, ask := range []func() (lab.Answer, error){
		func() (lab.Answer, error) { return pod.AskTCP("10.96.0.7:80") },
		func() (lab.Answer, error) { return w.Client.AskTCP("192.168.50.1:30080") },
	} {
		traffic.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := ask(); err != nil {
					t.Errorf("request %d: %v", n, err)
					return
				}
			}
		})
	}
	for round := range 8 {
		var changed []string
		for i := range 200 {
			var eps []*discoveryv1.EndpointSlice
			if (i+round)%3 > 0 {
				eps = append(eps, Slice(fmt.Sprintf("10.244.7.%d", 1+(i+round)%200)))
			}
			s := Service(fmt.Sprintf("other-%d", i), fmt.Sprintf("10.96.%d.%d", i%4, 20+i))
			changed = append(changed, w.Set.Put(plan.ForService(s, eps, w.node, plan.IPv4))...)
		}
		eps := []string{"10.244.0.2@node", "10.244.0.3@node"}[round%2:]
		changed = append(changed, w.Set.Put(plan.ForService(svc, []*discoveryv1.EndpointSlice{Slice(eps...)}, w.node, plan.IPv4))...)
		w.Apply(changed)
	}
	close(stop)
	traffic.Wait()
}

// Somebody removes all rules: it is noticed, and everything is written again. Without being noticed, the next change fails
// or repairs, but is never lost.
func repair(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web, pod := w.Pod("web", 2), w.Pod("pod", 3)
	serve(web)
	w.Put(Service("a", "10.96.0.7", NodePort(30080)), Slice("10.244.0.2@node"))
	w.Put(Service("b", "10.96.0.8"), Slice("10.244.0.2@node"))
	intact := func() (ok bool) { w.Node.Do(func() { ok = w.Applier.Intact() }); return ok }
	if !intact() {
		t.Error("damaged from the start")
	}
	w.Node.Run("nft", "flush", "ruleset")
	if intact() {
		t.Error("the loss is not noticed")
	}
	w.Applier.Forget()
	w.Apply(nil)
	w.asks(pod, "10.96.0.7:80", "web", "10.244.0.3")
	w.asks(w.Client, "192.168.50.1:30080", "web", "10.244.0.1")

	w.Node.Run("nft", "flush", "ruleset")
	changed := w.Set.Delete("default/b")
	var err error
	for range 2 { // the first may find out the hard way
		w.Node.Do(func() { err = w.Applier.Apply(context.Background(), w.Set, changed) })
		if err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("after a loss: %v", err)
	}
}

// Cleanup leaves the rules of others and none of ours; a second one finds nothing to do.
func cleanup(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	w.Node.Run("iptables", "-t", "nat", "-A", "PREROUTING", "-m", "comment", "--comment", "mine", "-j", "RETURN")
	w.Node.Run("nft", "add table ip others { chain c { counter; }; }")
	before := w.rules()
	w.Put(Service("a", "10.96.0.7", NodePort(30080)), Slice("10.244.0.2@node"))
	w.Put(Service("b", "10.96.0.8"))
	for range 2 {
		var err error
		w.Node.Do(func() { err = w.Applier.Cleanup(context.Background()) })
		if err != nil {
			t.Fatal(err)
		}
		if after := w.rules(); after != before {
			t.Errorf("left behind:\n%s\nwas:\n%s", after, before)
		}
	}
	// And the applier can start over.
	w.Apply(nil)
	w.refused(w.Pod("pod", 3), "10.96.0.8:80")
}

// rules is what the kernel holds, without the built-in chains that iptables makes by being looked at.
func (w *World) rules() string {
	var out strings.Builder
	for _, tool := range []string{"iptables-save", "ip6tables-save"} {
		for line := range strings.Lines(w.Node.Run(tool)) {
			if strings.HasPrefix(line, "-A ") || strings.HasPrefix(line, ":BB") {
				out.WriteString(line)
			}
		}
	}
	for line := range strings.Lines(w.Node.Run("nft", "list", "tables")) {
		if !strings.Contains(line, " nat") && !strings.Contains(line, " filter") {
			out.WriteString(line)
		}
	}
	return fmt.Sprint(out.String())
}

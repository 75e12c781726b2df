package suite

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/proxy/plan"
)

// A pod keeps its address towards a cluster IP; the node and outsiders are masqueraded so that answers find back.
func clusterIP(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web, pod, far := w.Pod("web", 2), w.Pod("pod", 3), w.RemotePod("far", 1)
	serve(web, far)
	w.Put(Service("a", "10.96.0.7"), Slice("10.244.0.2@node"))
	w.asks(pod, "10.96.0.7:80", "web", "10.244.0.3")
	w.asks(w.Node, "10.96.0.7:80", "web", "10.244.0.1")
	w.asks(w.Client, "10.96.0.7:80", "web", "10.244.0.1")
	w.asks(far, "10.96.0.7:80", "web", "10.244.1.2")
	w.Put(Service("b", "10.96.200.9"), Slice("10.244.1.2@other"))
	w.asks(pod, "10.96.200.9:80", "far", "10.244.0.3")
	w.asks(w.Client, "10.96.200.9:80", "far", "10.244.1.1")
	if _, err := pod.AskTCP("10.244.0.2:8080"); err != nil {
		t.Errorf("direct traffic: %v", err)
	}
}

// The same over IPv6.
func clusterIPv6(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv6, mk)
	web, pod := w.Pod("web", 2), w.Pod("pod", 3)
	serve(web)
	w.Put(Service("a", "fd00:96::7", NodePort(30080)), Slice("fd00:10:244::2@node"))
	w.asks(pod, "[fd00:96::7]:80", "web", "fd00:10:244::3")
	w.asks(w.Client, "[fd00:96::7]:80", "web", "fd00:10:244::1")
	w.asks(w.Client, "[fd00:50::1]:30080", "web", "fd00:10:244::1")
	w.asks(web, "[fd00:96::7]:80", "web", "fd00:10:244::1")
	w.Put(Service("a", "fd00:96::7", NodePort(30080)))
	w.refused(pod, "[fd00:96::7]:80")
	w.refused(w.Client, "[fd00:50::1]:30080")
}

// New connections spread over all endpoints: of 60 over 3, each gets some (the chance of failing is 3·(2/3)^60 < 1e-9).
func spread(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	serve(w.Pod("a", 2), w.Pod("b", 3), w.Pod("c", 4))
	w.Put(Service("s", "10.96.0.7"), Slice("10.244.0.2@node", "10.244.0.3@node", "10.244.0.4@node"))
	count := map[string]int{}
	for range 60 {
		got, err := w.Client.AskTCP("10.96.0.7:80")
		if err != nil {
			t.Fatal(err)
		}
		count[got.Server]++
	}
	if len(count) != 3 {
		t.Errorf("60 connections went to %v", count)
	}
}

// A node port answers on every address of the node but loopback, and masquerades everyone under policy Cluster.
func nodePort(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	far, pod := w.RemotePod("far", 1), w.Pod("pod", 3)
	serve(far)
	w.Put(Service("a", "10.96.0.7", NodePort(30080)), Slice("10.244.1.2@other"))
	w.asks(w.Client, "192.168.50.1:30080", "far", "10.244.1.1")
	w.asks(w.Client, "10.244.0.1:30080", "far", "10.244.1.1")
	w.asks(w.Node, "192.168.50.1:30080", "far", "10.244.1.1")
	w.asks(pod, "10.244.0.1:30080", "far", "10.244.1.1")
	w.refused(w.Node, "127.0.0.1:30080")
	if v := w.Node.Run("cat", "/proc/sys/net/ipv4/conf/all/route_localnet"); strings.TrimSpace(v) != "0" {
		t.Errorf("route_localnet is %s", v)
	}
}

// Policy Local keeps the client's address and uses this node's endpoints only; without any, outsiders get silence while
// pods and the node itself are still served.
func nodePortLocal(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web, far, pod := w.Pod("web", 2), w.RemotePod("far", 1), w.Pod("pod", 3)
	serve(web, far)
	svc := Service("a", "10.96.0.7", NodePort(30080), LocalExternal)
	w.Put(svc, Slice("10.244.0.2@node", "10.244.1.2@other"))
	for range 8 {
		w.asks(w.Client, "192.168.50.1:30080", "web", "192.168.50.2")
	}
	w.Put(svc, Slice("10.244.1.2@other"))
	w.silent(w.Client, "192.168.50.1:30080")
	w.asks(pod, "10.244.0.1:30080", "far", "10.244.0.3")
	w.asks(w.Node, "192.168.50.1:30080", "far", "10.244.1.1")
	w.Put(svc)
	w.refused(w.Client, "192.168.50.1:30080")
}

// A load balancer address is served on arrival, from its source ranges only.
func loadBalancer(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web, other := w.Pod("web", 2), w.Outside("other", 60)
	serve(web)
	w.Put(Service("a", "10.96.0.7", Balancer("203.0.113.5", "192.168.50.0/24")), Slice("10.244.0.2@node"))
	w.asks(w.Client, "203.0.113.5:80", "web", "10.244.0.1")
	w.silent(other, "203.0.113.5:80")
	w.asks(other, "10.96.0.7:80", "web", "10.244.0.1")
	w.Put(Service("a", "10.96.0.7", Balancer("203.0.113.5"), LocalExternal), Slice("10.244.0.2@node"))
	w.asks(other, "203.0.113.5:80", "web", "192.168.60.2")
	w.Put(Service("a", "10.96.0.7", Balancer("203.0.113.5", "fd00::/64")), Slice("10.244.0.2@node"))
	w.silent(w.Client, "203.0.113.5:80")
	svc := Service("a", "10.96.0.7")
	svc.Spec.ExternalIPs = []string{"203.0.113.9"}
	w.Put(svc, Slice("10.244.0.2@node"))
	w.asks(other, "203.0.113.9:80", "web", "10.244.0.1")
}

// internalTrafficPolicy Local: this node's endpoints or silence.
func internalLocal(t *testing.T, mk Make) {
	w := NewWorld(t, plan.IPv4, mk)
	web, far, pod := w.Pod("web", 2), w.RemotePod("far", 1), w.Pod("pod", 3)
	serve(web, far)
	svc := Service("a", "10.96.0.7", func(s *corev1.Service) {
		s.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal)
	})
	w.Put(svc, Slice("10.244.0.2@node", "10.244.1.2@other"))
	for range 8 {
		w.asks(pod, "10.96.0.7:80", "web", "10.244.0.3")
	}
	w.Put(svc, Slice("10.244.1.2@other"))
	w.silent(pod, "10.96.0.7:80")
}

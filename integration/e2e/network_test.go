package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bareboat.dev/integration/host"
)

// servicesManifest is a service of three replicas that tell their names, the same without a cluster IP, one with a
// single replica, and a pod in each of two namespaces that asks. The servers go on for five seconds after they were told to end, which is
// when they have long been taken out of the rules.
const servicesManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: one}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 30
      containers:
        - name: web
          image: docker.io/bareboat/guestbook-redis:v1
          command: [/bin/busybox, sh, -c, exec redis-server --protected-mode no --dbfilename $HOSTNAME]
          readinessProbe: {tcpSocket: {port: 6379}, periodSeconds: 1}
          lifecycle: {preStop: {exec: {command: [/bin/busybox, sleep, "5"]}}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: one}
spec:
  type: NodePort
  selector: {app: web}
  ports:
    - {name: redis, port: 80, targetPort: 6379, nodePort: 30100}
---
apiVersion: v1
kind: Service
metadata: {name: web-pods, namespace: one}
spec:
  clusterIP: None
  selector: {app: web}
  ports:
    - {name: redis, port: 6379}
---
apiVersion: v1
kind: Pod
metadata: {name: solo, namespace: two, labels: {app: solo}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: solo
      image: docker.io/bareboat/guestbook-redis:v1
      command: [/bin/busybox, sh, -c, exec redis-server --protected-mode no --dbfilename $HOSTNAME]
      readinessProbe: {tcpSocket: {port: 6379}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: self, namespace: two}
spec:
  selector: {app: solo}
  ports:
    - {name: redis, port: 80, targetPort: 6379}
---
apiVersion: v1
kind: Pod
metadata: {name: asker, namespace: one}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: asker, image: "docker.io/bareboat/guestbook-redis:v1"}]
---
apiVersion: v1
kind: Pod
metadata: {name: asker, namespace: two}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: asker, image: "docker.io/bareboat/guestbook-redis:v1"}]
`

// TestServicesFromPods shows what pods get of services, by each way of programming the kernel: by short and full names, by cluster IP and
// node port, a pod its own service, all replicas, a headless service's pods, a quick no for unknown names, and no failed request while all
// servers are replaced.
func TestServicesFromPods(t *testing.T) {
	for _, mode := range []string{"iptables", "nftables"} {
		t.Run(mode, func(t *testing.T) {
			n := startServices(t, mode)
			t.Run("Ways", n.ways)
			t.Run("Names", n.names)
			t.Run("Headless", n.headless)
			t.Run("RollingUpdate", n.rollingUpdate)
		})
	}
}

// network is a cluster with the manifest's services.
type network struct {
	*host.Host
	t *testing.T
}

func startServices(t *testing.T, mode string) network {
	t.Helper()
	n := network{up(t, "net-"+mode, "--proxy-mode="+mode), t}
	n.Must("kctl", "image", "load", filepath.Join(host.Root(), "build/images/redis.tar"))
	for _, name := range []string{"one", "two"} {
		n.Must("kctl", "create", "namespace", name)
	}
	accounts(n.Host, "one", "two")
	n.WriteFile("/tmp/services.yaml", servicesManifest)
	n.Must("kctl", "apply", "-f", "/tmp/services.yaml")
	n.Must("kctl", "-n", "one", "rollout", "status", "deploy/web", "--timeout=120s")
	n.Must("kctl", "-n", "one", "wait", "pod/asker", "--for=condition=Ready", "--timeout=120s")
	n.Must("kctl", "-n", "two", "wait", "pod/asker", "pod/solo", "--for=condition=Ready", "--timeout=120s")
	// From here on everything is in place once the rules are.
	n.Eventually("the first answers", func() error {
		_, err := n.ask("two", "asker", "web.one", "80")
		if err == nil {
			_, err = n.ask("two", "asker", "self", "80")
		}
		return err
	})
	return n
}

// in runs a busybox command in a pod.
func (n network) in(namespace, pod string, command ...string) (string, error) {
	return n.Run("kctl", append([]string{"-n", namespace, "exec", pod, "--", "/bin/busybox"}, command...)...)
}

// ask connects from within a pod and returns the name of the pod that answered. The resolver is glibc's.
func (n network) ask(namespace, pod, host, port string) (string, error) {
	out, err := n.in(namespace, pod, "timeout", "30", "redis-cli", "-h", host, "-p", port, "--raw", "config", "get", "dbfilename")
	return strings.TrimSpace(strings.TrimPrefix(out, "dbfilename")), err
}

func (n network) get(args ...string) []string {
	n.t.Helper()
	return strings.Fields(n.Must("kctl", append([]string{"get"}, args...)...))
}

// ping asks a server of redis with nothing but a shell, which is all that a host has.
const ping = `exec 3<>/dev/tcp/$1/$2; printf 'PING\r\nQUIT\r\n' >&3; cat <&3`

func (n network) ways(t *testing.T) {
	ip := n.get("-n", "one", "svc", "web", "-o", "jsonpath={.spec.clusterIP}")[0]
	for _, tt := range []struct{ what, namespace, host, port string }{
		{"the short name", "one", "web", "80"},
		{"the name with its namespace", "two", "web.one", "80"},
		{"the full name", "two", "web.one.svc.cluster.local", "80"},
		{"the absolute name", "two", "web.one.svc.cluster.local.", "80"},
		{"the cluster IP", "two", ip, "80"},
		{"the node port", "two", n.IP, "30100"},
	} {
		if by, err := n.ask(tt.namespace, "asker", tt.host, tt.port); err != nil || !strings.HasPrefix(by, "web-") {
			t.Errorf("%s: %q, %v", tt.what, by, err)
		}
	}
	if by, err := n.ask("two", "solo", "self", "80"); err != nil || by != "solo" {
		t.Errorf("a pod its own service: %q, %v", by, err)
	}
	for host, port := range map[string]string{ip: "80", n.IP: "30100"} {
		if out, err := n.Run("timeout", "30", "bash", "-c", ping, "bash", host, port); err != nil || !strings.Contains(out, "+PONG") {
			t.Errorf("from the host: %v: %s", err, out)
		}
	}
	seen := map[string]bool{}
	n.Eventually("an answer of each replica", func() error {
		by, err := n.ask("one", "asker", "web", "80")
		if err != nil {
			t.Fatal(err)
		}
		if seen[by] = true; len(seen) < 3 {
			return fmt.Errorf("only %v answered", seen)
		}
		return nil
	})
}

func (n network) names(t *testing.T) {
	// nslookup gives a server five seconds; it prints the answer only if one came in time.
	for namespace, name := range map[string]string{"one": "nobody.one.svc.cluster.local", "two": "web.two.svc.cluster.local"} {
		if out, err := n.in(namespace, "asker", "nslookup", name); err == nil || !strings.Contains(out, "NXDOMAIN") {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
	// A name that is unknown is something else than a server that does not answer, which would be a temporary failure.
	if out, err := n.ask("two", "asker", "web.two.svc.cluster.local.", "80"); err == nil || !strings.Contains(err.Error(), "Name or service not known") {
		t.Errorf("a service that is in another namespace: %q, %v", out, err)
	}
}

func (n network) headless(t *testing.T) {
	pods := n.get("-n", "one", "pods", "-l", "app=web", "-o", "jsonpath={range .items[*]}{.status.podIP}{\"\\n\"}{end}")
	out, err := n.in("two", "asker", "nslookup", "-type=a", "web-pods.one.svc.cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	_, answer, _ := strings.Cut(out, "Name:")
	var ips []string
	for line := range strings.Lines(answer) {
		if address, ok := strings.CutPrefix(line, "Address: "); ok {
			ips = append(ips, strings.TrimSpace(address))
		}
	}
	slices.Sort(pods)
	slices.Sort(ips)
	if !slices.Equal(pods, ips) {
		t.Errorf("names lead to %v, the pods are %v", ips, pods)
	}
}

// askForEver counts requests until a file appears, and prints those that failed. A connection to a server that is gone is refused at once, or
// fails when the time is over; one that is merely slow does not.
const askForEver = `ok=0
: > /data/asking
while [ ! -e /data/stop ]; do
  if by=$(/bin/busybox timeout 30 redis-cli -h web -p 80 ping 2>&1); then ok=$((ok+1)); else echo "failed after $ok: $by"; fi
done
echo "served $ok"`

func (n network) rollingUpdate(t *testing.T) {
	before := n.get("-n", "one", "pods", "-l", "app=web", "-o", "name")
	type result struct {
		out string
		err error
	}
	done := make(chan result, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asking := n.Command(ctx, "kctl", "-n", "one", "exec", "asker", "--", "/bin/busybox", "sh", "-c", askForEver)
	go func() {
		out, err := asking.CombinedOutput()
		done <- result{string(out), err}
	}()
	n.Eventually("requests", func() error { _, err := n.in("one", "asker", "test", "-e", "/data/asking"); return err })
	n.Must("kctl", "-n", "one", "patch", "deploy/web", "-p", `{"spec":{"template":{"metadata":{"annotations":{"try":"two"}}}}}`)
	n.Must("kctl", "-n", "one", "rollout", "status", "deploy/web", "--timeout=120s")
	n.Eventually("the end of the old pods", func() error {
		for _, now := range n.get("-n", "one", "pods", "-l", "app=web", "-o", "name") {
			if slices.Contains(before, now) {
				return fmt.Errorf("%s is there", now)
			}
		}
		return nil
	})
	if out, err := n.in("one", "asker", "touch", "/data/stop"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r := <-done
	if r.err != nil || strings.Contains(r.out, "failed") || !strings.Contains(r.out, "served ") || strings.Contains(r.out, "served 0\n") {
		t.Errorf("%v: %s", r.err, r.out)
	}
	t.Log(strings.TrimSpace(r.out))
}

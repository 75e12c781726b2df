package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/integration/host"
	"bareboat.dev/kctl/pki"
)

const (
	// boundNodes in the cluster, to which boundPods are bound.
	boundNodes, boundPods = 5_000, 15_000
	// boundTime bounds the measurement: a tenth of the aim.
	boundTime = time.Minute
	// chartObjects in one file, of three kinds.
	chartObjects = 300
)

// createToBound measures from the first create of many pods, in batches, until the store holds the binding of the last, with the API
// server on etcd and the scheduler as a process of its own. The yardstick is raw puts: each bound pod is two durable writes.
func createToBound(e *Env) ([]Row, error) {
	etcd := startEtcd(e)
	s := startServer(e, etcd.url)
	// Pods come from the controllers' identity, as nearly all do.
	c := s.dialAs(e, pki.ControllerManager, "kube-controller-manager")
	var ops []client.Op
	for i := range boundNodes {
		ops = append(ops, client.CreateOp(client.Nodes(), benchNode(fmt.Sprintf("node-%04d", i))))
	}
	if err := all(s.dial(e).BatchOmit(context.Background(), ops...)); err != nil {
		return nil, err
	}
	scheduler := background(e, filepath.Join(host.Root(), "build/bin/scheduler"), "--kubeconfig="+s.kubeconfig(e, pki.Scheduler), "--secure-port=0", "--log-level=error")
	warm := "warm"
	if _, err := client.Of(c, client.Pods()).Create(context.Background(), benchPod(warm, "")); err != nil {
		return nil, err
	}
	waitFor(e, "the scheduler", func(ctx context.Context) error {
		p, err := client.Of(c, client.Pods()).Get(ctx, "default", warm)
		if err == nil && p.Spec.NodeName == "" {
			err = fmt.Errorf("pod is not bound")
		}
		return err
	})
	m := &side{servers: []process{{"apiserver", s.pid}, {"scheduler", scheduler}, {"etcd", etcd.pid}}, run: func(round int) (int, error) {
		go s.profile(e, fmt.Sprintf("bound-%d", round), slice)
		return boundPods, createAndWait(c)
	}}
	raw := puts(e, etcd)
	if err := raw.turn(0); err != nil {
		return nil, err
	}
	if err := m.turn(0); err != nil {
		return nil, err
	}
	if err := raw.turn(1); err != nil {
		return nil, err
	}
	return []Row{{
		"create → durably bound, 15,000 pods on 5,000 nodes, etcd", m.String(), "raw etcd puts " + raw.String(), fmt.Sprintf("%.2f", m.rate()/raw.rate()), "≥ 3,000 pods/s",
	}}, nil
}

// all is the first error of a batch.
func all(results []client.OpResult, err error) error {
	for _, r := range results {
		if err == nil {
			err = r.Err
		}
	}
	return err
}

// createAndWait creates the pods and returns when the last is bound.
func createAndWait(c *client.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), boundTime)
	defer cancel()
	pods := client.Of(c, client.Pods())
	created := make(chan error, 1)
	go func() {
		var ops []client.Op
		for i := range boundPods {
			ops = append(ops, client.CreateOp(client.Pods(), benchPod(fmt.Sprintf("pod-%05d", i), "")))
		}
		created <- all(c.BatchOmit(ctx, ops...))
	}()
	if err := <-created; err != nil {
		return err
	}
	for {
		// An unbound pod has no node; a limit of one keeps the question cheap.
		left, err := pods.ListPage(ctx, "default", client.ListOptions{FieldSelector: "spec.nodeName=", Limit: 1})
		if err != nil {
			return err
		}
		if len(left.Items) == 0 {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("pods are left without a node: %w", ctx.Err())
		}
	}
}

func benchNode(name string) *corev1.Node {
	capacity := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("32"), corev1.ResourceMemory: resource.MustParse("128Gi"), corev1.ResourcePods: resource.MustParse("110")}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status:     corev1.NodeStatus{Capacity: capacity, Allocatable: capacity, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	}
}

// kubeconfig writes a kubeconfig with one of the certificates.
func (s *server) kubeconfig(e *Env, name string) string {
	store := pki.Store{Dir: s.dir}
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: bench
clusters: [{name: bench, cluster: {server: "https://%s", certificate-authority: %q}}]
users: [{name: bench, user: {client-certificate: %q, client-key: %q}}]
contexts: [{name: bench, context: {cluster: bench, user: bench}}]
`, s.address(), store.CertFile("ca"), store.CertFile(name), store.KeyFile(name))
	file := filepath.Join(s.dir, name+".conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		e.Fatal(err)
	}
	return file
}

// chart measures one kubectl apply of many objects, as a chart has them, and a second one that changes nothing, against kctl.
func chart(e *Env) ([]Row, error) {
	s := startServer(e, "")
	config := s.kubeconfig(e, pki.Admin)
	file := func(name string) string {
		path := filepath.Join(s.dir, name+".yaml")
		if err := os.WriteFile(path, []byte(chartYAML(name)), 0o600); err != nil {
			e.Fatal(err)
		}
		return path
	}
	kctl := filepath.Join(host.Root(), "build/bin/kctl")
	var ways []*way
	for _, command := range [][]string{
		{"kubectl", "apply", "-f", file("by-kubectl")}, {"kubectl", "apply", "-f", file("by-kubectl")},
		{kctl, "apply", "-f", file("by-kctl")}, {kctl, "apply", "-f", file("by-kctl")},
	} {
		w := &way{do: func() error {
			cmd := exec.Command(command[0], command[1:]...)
			cmd.Env = append(os.Environ(), "KUBECONFIG="+config)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, out)
			}
			return nil
		}}
		if err := w.run(s.pid); err != nil {
			return nil, err
		}
		ways = append(ways, w)
	}
	row := func(path string, subject, yardstick *way) Row {
		show := func(w *way) string { return fmt.Sprintf("%.2f s (server %s of CPU)", w.p50().Seconds(), ms(w.serving)) }
		return Row{path, show(subject), "kctl apply " + show(yardstick), fmt.Sprintf("%.2f", subject.p50().Seconds()/yardstick.p50().Seconds()), ""}
	}
	return []Row{row("300 objects in one kubectl apply: created", ways[0], ways[2]), row("the same again: unchanged", ways[1], ways[3])}, nil
}

// chartYAML is a chart's output: a third each of config maps, services and deployments.
func chartYAML(prefix string) string {
	var b strings.Builder
	for i := range chartObjects / 3 {
		name := fmt.Sprintf("%s-%03d", prefix, i)
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: ConfigMap
metadata: {name: %[1]s, namespace: default, labels: {app: %[1]s}}
data: {key: value, file: %[2]q}
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: default, labels: {app: %[1]s}}
spec: {selector: {app: %[1]s}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: default, labels: {app: %[1]s}}
spec:
  replicas: 2
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {containers: [{name: main, image: example.org/app:1, ports: [{containerPort: 8080}], env: [{name: A, value: b}]}]}
`, name, strings.Repeat("x", 200))
	}
	return b.String()
}

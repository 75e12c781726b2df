package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
	"bareboat.dev/kctl/pki"
)

const (
	// poll is how often Up looks whether the daemons have come up. Up watches the node; only the daemons' own status is polled.
	poll = 20 * time.Millisecond
	// maxEnds is how often a daemon may end before the node is Ready; after that it will not come up by itself.
	maxEnds = 2
)

// ErrInterrupted is returned by an Up whose context was cancelled; the error says what has become of what it had started.
var ErrInterrupted = errors.New("interrupted")

// Up makes what is missing, starts every daemon and returns once the node is Ready. Progress goes to out. If the cluster runs
// already, Up only waits. If a daemon cannot start or ctx ends, Up stops what it started and returns the daemon's own words;
// pods that ran before, of a cluster whose daemons had crashed, are left running.
func Up(ctx context.Context, l Layout, o Options, out io.Writer) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("a cluster needs root to make namespaces, mounts and rules; run it with sudo")
	}
	lock, err := lockHost(ctx, l, out)
	if err != nil {
		return err
	}
	defer lock.Close()
	mgr := newManager(l)
	already := mgr.running()
	if err := changeable(l, o, already); err != nil {
		return err
	}
	if already {
		fmt.Fprintln(out, "The daemons are running.")
		if err := waitReady(ctx, l, o, mgr, out); err == nil || mgr.running() || ctx.Err() != nil {
			return err
		}
		fmt.Fprintln(out, "They have ended meanwhile; starting them again.")
	}
	pods := podsLeft(l)
	if err := launch(ctx, l, o, mgr, out); err != nil {
		return err
	}
	if err := waitReady(ctx, l, o, mgr, out); err != nil {
		return giveUp(ctx, l, mgr, pods, err)
	}
	return nil
}

// launch checks the host, makes what is missing and starts the daemons.
func launch(ctx context.Context, l Layout, o Options, mgr manager, out io.Writer) error {
	if err := mgr.settle(ctx); err != nil {
		return err
	}
	if err := preflight(l, o); err != nil {
		return err
	}
	if err := prepare(l, o, out); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w; no daemon has been started", ErrInterrupted)
	}
	if err := mgr.start(ctx); err != nil {
		return errors.Join(err, mgr.stop(context.WithoutCancel(ctx)))
	}
	fmt.Fprintf(out, "Daemons started: %s.\n", strings.Join(Daemons(), ", "))
	return nil
}

// podsLeft reports whether pods of an earlier run are on the host.
func podsLeft(l Layout) bool {
	entries, err := os.ReadDir(filepath.Join(l.Run, "pods"))
	return err == nil && len(entries) > 0
}

// giveUp undoes a start that failed, and adds to why what could not be undone.
func giveUp(ctx context.Context, l Layout, mgr manager, podsBefore bool, why error) error {
	after := "the daemons that had been started are stopped"
	ctx = context.WithoutCancel(ctx)
	err := mgr.stop(ctx)
	switch {
	case err != nil:
	case podsBefore:
		after += "; pods that ran before still run, `kctl down` ends them"
	default:
		err = cleanHost(ctx, l)
		after += " and the host is as it was"
	}
	if err != nil {
		return errors.Join(why, fmt.Errorf("and cleaning up failed; run `kctl down`: %w", err))
	}
	if errors.Is(why, context.Canceled) {
		return fmt.Errorf("%w; %s", ErrInterrupted, after)
	}
	return fmt.Errorf("%w; %s", why, after)
}

// prepare makes certificates and configuration. It leaves alone what exists and is current.
func prepare(l Layout, o Options, out io.Writer) error {
	store := pki.Store{Dir: l.PKI()}
	hostname, _ := os.Hostname()
	host := pki.Host{NodeName: o.NodeName, Hostname: hostname, IPs: []net.IP{o.NodeIP.AsSlice()}, ServiceIP: o.APIServiceIP().AsSlice(), ClusterDomain: o.ClusterDomain}
	made, err := store.Ensure(append(pki.ControlPlane(host), pki.Node(host)...), time.Now())
	if err != nil {
		return fmt.Errorf("make the certificates: %w", err)
	}
	if len(made) > 0 {
		fmt.Fprintf(out, "Certificates made in %s: %s.\n", store.Dir, strings.Join(made, ", "))
	}
	for _, dir := range []string{l.State, l.Kubelet} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	return errors.Join(writeKubeconfigs(l, o), writeConfigs(l, o), saveChoices(l, o))
}

// waitReady waits until every daemon has said that it is ready and the node is Ready.
func waitReady(ctx context.Context, l Layout, o Options, mgr manager, out io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var watcher sync.WaitGroup
	defer watcher.Wait()
	defer cancel(nil)
	watcher.Go(func() {
		for sleep(ctx, poll) {
			if words, failed := mgr.failed(); failed {
				cancel(errors.New(words))
			}
		}
	})
	if err := waitNode(ctx, l, o); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	for _, d := range Daemons() {
		for !mgr.ready(d) {
			if !sleep(ctx, poll) {
				return context.Cause(ctx)
			}
		}
	}
	fmt.Fprintf(out, "Node %s is Ready.\n", o.NodeName)
	return nil
}

// waitNode follows the node until its condition Ready is True.
func waitNode(ctx context.Context, l Layout, o Options) error {
	cfg, err := client.LoadConfig(l.Kubeconfig(pki.Admin), "")
	if err != nil {
		return err
	}
	c, err := client.Dial(cfg)
	if err != nil {
		return err
	}
	defer c.Close()
	ready := make(chan struct{})
	nodes := client.NewMirror(c, client.Nodes(), client.MirrorOptions[*corev1.Node]{FieldSelector: "metadata.name=" + o.NodeName})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	nodes.OnChange(func(ch client.Change[*corev1.Node]) {
		if ch.New != nil && nodeReady(ch.New) {
			select {
			case <-ready:
			default:
				close(ready)
			}
		}
	})
	done := make(chan error, 1)
	go func() { done <- nodes.Run(ctx) }()
	select {
	case <-ready:
		cancel()
		<-done
		return nil
	case err := <-done:
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
}

func nodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// manager starts and stops the daemons: systemd, or the supervisor.
type manager interface {
	running() bool
	// settle ends what an earlier manager left, so that its ports and files are free.
	settle(ctx context.Context) error
	start(ctx context.Context) error
	stop(ctx context.Context) error
	// ready reports whether the daemon has said that it serves.
	ready(daemon string) bool
	// failed returns the last words of a daemon that keeps ending.
	failed() (words string, failed bool)
}

func newManager(l Layout) manager {
	// sd_booted(3)
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		return systemd{l}
	}
	return &background{l: l}
}

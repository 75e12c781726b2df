package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
	"bareboat.dev/kctl/pki"
)

// poll is how often Up looks whether the daemons have come up. Up watches the node; only the daemons' own status is polled.
const poll = 20 * time.Millisecond

// Up makes what is missing, starts every daemon and returns once the node is Ready. Progress goes to out. If the cluster runs
// already, Up only waits. If a daemon cannot start, Up stops what it started and returns the daemon's own words.
func Up(ctx context.Context, l Layout, o Options, out io.Writer) error {
	if err := o.Validate(); err != nil {
		return err
	}
	mgr := newManager(l)
	already := mgr.running()
	if already {
		fmt.Fprintln(out, "The daemons are running.")
	} else {
		if err := preflight(l, o); err != nil {
			return err
		}
		if err := prepare(l, o, out); err != nil {
			return err
		}
		if err := mgr.start(ctx); err != nil {
			return err
		}
		fmt.Fprintf(out, "Daemons started: %s.\n", strings.Join(Daemons(), ", "))
	}
	if err := waitReady(ctx, l, o, mgr, out); err != nil {
		if already {
			return err
		}
		return errors.Join(err, mgr.stop(context.WithoutCancel(ctx)))
	}
	return nil
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
	return errors.Join(writeKubeconfigs(l, o), writeConfigs(l, o))
}

// waitReady waits until every daemon has said that it is ready and the node is Ready.
func waitReady(ctx context.Context, l Layout, o Options, mgr manager, out io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		// A daemon that ends twice before the node is Ready will not come up by itself.
		for ctx.Err() == nil {
			if words, failed := mgr.failed(); failed {
				cancel(errors.New(words))
			}
			time.Sleep(poll)
		}
	}()
	if err := waitNode(ctx, l, o); err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
			return cause
		}
		return err
	}
	for _, d := range Daemons() {
		for !mgr.ready(d) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			time.Sleep(poll)
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
	return background{l}
}

// background runs the daemons under kctl's own supervisor.
type background struct{ l Layout }

func (b background) running() bool { return supervisorPID(b.l) != 0 }

func (b background) start(context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(b.l.Run, "status")); err != nil {
		return err
	}
	if err := os.MkdirAll(b.l.Log, 0o750); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(b.l.Log, "supervisor.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(exe, "supervise")
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

func (b background) stop(ctx context.Context) error {
	pid := supervisorPID(b.l)
	if pid == 0 {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the supervisor: %w", err)
	}
	for supervisorPID(b.l) != 0 {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(poll)
	}
	return nil
}

func (b background) ready(daemon string) bool {
	st, err := Status(b.l, daemon)
	return err == nil && st.Ready
}

func (b background) failed() (string, bool) {
	for _, d := range Daemons() {
		if st, err := Status(b.l, d); err == nil && !st.Ready && st.Ended >= 2 {
			return fmt.Sprintf("the %s ended while starting: %s (its log: %s)", d, st.LastWords, filepath.Join(b.l.Log, d+".log")), true
		}
	}
	return "", false
}

// systemd runs the daemons as units.
type systemd struct{ l Layout }

func (s systemd) units() []string {
	var names []string
	for _, d := range Daemons() {
		names = append(names, unitName(d))
	}
	return names
}

func systemctl(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, text)
	}
	return text, nil
}

func (s systemd) running() bool {
	_, err := systemctl(context.Background(), "is-active", "--quiet", unitName("apiserver"))
	return err == nil
}

// unitDir is where units that were not installed by a package live.
const unitDir = "/etc/systemd/system"

func (s systemd) start(ctx context.Context) error {
	for _, d := range Daemons() {
		text, err := unitText(s.l, d)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(unitDir, unitName(d)), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if _, err := systemctl(ctx, "daemon-reload"); err != nil {
		return err
	}
	_, err := systemctl(ctx, append([]string{"enable", "--now", "--no-block", "--quiet"}, s.units()...)...)
	return err
}

func (s systemd) stop(ctx context.Context) error {
	names := s.units()
	for i := len(names) - 1; i >= 0; i-- {
		if _, err := os.Stat(filepath.Join(unitDir, names[i])); err != nil {
			continue
		}
		if _, err := systemctl(ctx, "disable", "--now", "--quiet", names[i]); err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(unitDir, names[i])); err != nil {
			return err
		}
	}
	_, err := systemctl(ctx, "daemon-reload")
	return err
}

func (s systemd) ready(daemon string) bool {
	_, err := systemctl(context.Background(), "is-active", "--quiet", unitName(daemon))
	return err == nil
}

func (s systemd) failed() (string, bool) {
	for _, d := range Daemons() {
		n, _ := systemctl(context.Background(), "show", "--property=NRestarts", "--value", unitName(d))
		if n != "" && n != "0" && n != "1" && !s.ready(d) {
			words, _ := exec.Command("journalctl", "_SYSTEMD_UNIT="+unitName(d), "--lines=1", "--output=cat", "--no-pager").Output()
			return fmt.Sprintf("the %s ended while starting: %s (more: journalctl -u %s)", d, strings.TrimSpace(string(words)), unitName(d)), true
		}
	}
	return "", false
}

// Address is where a node port of this machine is reached.
func Address(ip netip.Addr, port int32) string {
	return fmt.Sprintf("http://%s", net.JoinHostPort(ip.String(), fmt.Sprint(port)))
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"bareboat.dev/kctl/cluster"
	"bareboat.dev/kctl/pki"
)

func (s *session) upCommand() *cobra.Command {
	var nodeIP, serviceCIDR, podCIDR, nodeName, domain, proxyMode string
	var timeout time.Duration
	c := &cobra.Command{
		Use: "up", Short: "Start a cluster on this machine", Args: cobra.NoArgs,
		Long: `Start a cluster on this machine: make what certificates and configuration are missing, start every daemon, and wait until the
node is Ready. Run again, it changes nothing. State stays in /var/lib/bareboat from one start to the next.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			layout, err := cluster.DefaultLayout()
			if err != nil {
				return err
			}
			o, err := cluster.DefaultOptions()
			if err != nil {
				return err
			}
			if o, err = cluster.Remembered(layout, o); err != nil {
				return err
			}
			set := func(value string, parse func(string) error, flag string) {
				if value != "" && err == nil {
					if perr := parse(value); perr != nil {
						err = fmt.Errorf("--%s: %w", flag, perr)
					}
				}
			}
			set(nodeIP, func(v string) (e error) { o.NodeIP, e = netip.ParseAddr(v); o.NodeIPChosen = true; return }, "node-ip")
			set(serviceCIDR, func(v string) (e error) { o.ServiceCIDR, e = netip.ParsePrefix(v); return }, "service-cidr")
			set(podCIDR, func(v string) (e error) { o.PodCIDR, e = netip.ParsePrefix(v); return }, "pod-cidr")
			set(nodeName, func(v string) error { o.NodeName = v; return nil }, "node-name")
			set(domain, func(v string) error { o.ClusterDomain = v; return nil }, "cluster-domain")
			set(proxyMode, func(v string) error { o.ProxyMode = v; return nil }, "proxy-mode")
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout, fmt.Errorf("the node was not Ready after %s; the daemons' logs in %s say why", timeout, layout.Log))
			defer cancel()
			if err := cluster.Up(ctx, layout, o, s.out); err != nil {
				return err
			}
			fmt.Fprintf(s.out, "Next: export KUBECONFIG=%s; kctl get nodes\n", layout.Kubeconfig(pki.Admin))
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&nodeIP, "node-ip", "", "`address` of this machine; default the one it reaches others from")
	f.StringVar(&nodeName, "node-name", "", "`name` of the node; default the host's")
	f.StringVar(&serviceCIDR, "service-cidr", "", "`range` of cluster IPs; default 10.96.0.0/16")
	f.StringVar(&podCIDR, "pod-cidr", "", "`range` of pod IPs; default 10.244.0.0/16")
	f.StringVar(&domain, "cluster-domain", "", "DNS `domain` of the cluster; default cluster.local")
	f.StringVar(&proxyMode, "proxy-mode", "", "iptables or nftables; default iptables")
	f.DurationVar(&timeout, "timeout", 2*time.Minute, "how long to wait for the node")
	return c
}

func (s *session) downCommand() *cobra.Command {
	var purge bool
	c := &cobra.Command{
		Use: "down", Short: "Stop the cluster on this machine and clean up after it", Args: cobra.NoArgs,
		Long: `Stop every daemon and pod and remove what they made on the host: processes, mounts, namespaces, interfaces, rules, cgroups.
The cluster's objects, certificates and images stay for the next up, unless --purge removes them, too.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			layout, err := cluster.DefaultLayout()
			if err != nil {
				return err
			}
			return cluster.Down(cmd.Context(), layout, purge, s.out)
		},
	}
	c.Flags().BoolVar(&purge, "purge", false, "also remove the cluster's objects, certificates and images")
	return c
}

// superviseCommand is what up starts in the background where there is no systemd.
func (s *session) superviseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "supervise", Hidden: true, Args: cobra.NoArgs, Short: "Run the daemons and start them again when they end",
		RunE: func(cmd *cobra.Command, _ []string) error {
			layout, err := cluster.DefaultLayout()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return cluster.Supervise(ctx, layout)
		},
	}
}

func (s *session) pkiCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{Use: "pki", Short: "Look after the cluster's certificates"}
	c.PersistentFlags().StringVar(&dir, "dir", "/etc/bareboat/pki", "`folder` of the certificates")
	c.AddCommand(&cobra.Command{
		Use: "status", Short: "List certificates, when they end, and what is wrong with them", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			now := time.Now()
			list, err := (pki.Store{Dir: dir}).Status(now)
			if errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("%s does not exist; `kctl up` makes it", dir)
			}
			if err != nil {
				return err
			}
			bad := false
			tw := tabwriter.NewWriter(s.out, 0, 8, 3, ' ', 0)
			fmt.Fprintln(tw, "NAME\tSUBJECT\tEXPIRES\tDAYS LEFT\tSTATUS")
			for _, st := range list {
				status := "ok"
				if st.Problem != "" {
					status, bad = st.Problem, true
				}
				fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%s\n", st.Name, st.Subject, st.NotAfter.UTC().Format(time.RFC3339), int(st.NotAfter.Sub(now).Hours()/24), status)
			}
			if err := tw.Flush(); err != nil {
				return err
			}
			if bad {
				return &exitError{code: 1}
			}
			return nil
		},
	})
	return c
}

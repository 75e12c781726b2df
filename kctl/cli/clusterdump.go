package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
	"bareboat.dev/kctl/api"
	"bareboat.dev/kctl/output"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// dumpOptions are the flags of cluster-info dump.
type dumpOptions struct {
	format, dir string
	namespaces  []string
	all         bool
}

func (s *session) clusterDumpCommand() *cobra.Command {
	var o dumpOptions
	c := &cobra.Command{
		Use: "dump", Short: "Print what helps to find out what is wrong: nodes, and namespaces' events, workloads, pods and logs", Args: cobra.NoArgs,
		Long: `Print what helps to find out what is wrong: the nodes, and of kube-system and the current namespace, or of those that are named, the
events, workloads, services and pods, with what their containers wrote. With --output-directory each list and log is a file.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.clusterDump(cmd.Context(), o) },
	}
	c.Flags().StringVarP(&o.format, "output", "o", "json", "json or yaml")
	c.Flags().StringVar(&o.dir, "output-directory", "", "`folder` for the files; - is standard output")
	c.Flags().StringSliceVar(&o.namespaces, "namespaces", nil, "the `namespaces` to tell of")
	c.Flags().BoolVarP(&o.all, "all-namespaces", "A", false, "tell of every namespace")
	return c
}

func (s *session) clusterDump(ctx context.Context, o dumpOptions) error {
	if o.format != "json" && o.format != "yaml" {
		return fmt.Errorf("--output: %q is none of json, yaml", o.format)
	}
	if _, err := s.connect(); err != nil {
		return err
	}
	if err := s.dumpList(ctx, o, "", "nodes"); err != nil {
		return err
	}
	namespaces, err := s.dumpedNamespaces(ctx, o)
	if err != nil {
		return err
	}
	for _, ns := range namespaces {
		for _, word := range []string{"events", "replicationcontrollers", "services", "daemonsets.apps", "deployments.apps", "replicasets.apps", "statefulsets.apps", "pods"} {
			if err := s.dumpList(ctx, o, ns, word); err != nil {
				return err
			}
		}
		if err := s.dumpLogs(ctx, o, ns); err != nil {
			return err
		}
	}
	if o.dir != "" && o.dir != "-" {
		fmt.Fprintf(s.out, "Cluster info dumped to %s\n", o.dir)
	}
	return nil
}

func (s *session) dumpedNamespaces(ctx context.Context, o dumpOptions) ([]string, error) {
	if !o.all {
		if len(o.namespaces) > 0 {
			return o.namespaces, nil
		}
		return slices.Compact([]string{"kube-system", s.namespace}), nil
	}
	list, _, err := client.Of(s.server.Client, client.Namespaces()).List(ctx, "", client.ListOptions{})
	var names []string
	for _, n := range list {
		names = append(names, n.Name)
	}
	return names, err
}

// dumpTo opens a part of the dump; where it is standard output that stays open.
func (s *session) dumpTo(o dumpOptions, path ...string) (io.WriteCloser, error) {
	if o.dir == "" || o.dir == "-" {
		return staysOpen{s.out}, nil
	}
	name := filepath.Join(append([]string{o.dir}, path...)...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, err
	}
	return os.Create(name)
}

type staysOpen struct{ io.Writer }

func (staysOpen) Close() error { return nil }

// dumpList writes the objects of a resource; one that the server does not serve is left out.
func (s *session) dumpList(ctx context.Context, o dumpOptions, namespace, word string) error {
	infos, err := s.server.Resolve(ctx, word)
	if err != nil {
		return nil
	}
	items, _, err := s.server.List(ctx, infos[0], &apiv1.ListRequest{Ref: api.Ref(infos[0], namespace, "")})
	if err != nil {
		return err
	}
	p, err := output.New(o.format, output.Options{})
	if err != nil {
		return err
	}
	w, err := s.dumpTo(o, namespace, infos[0].Resource+"."+o.format)
	if err != nil {
		return err
	}
	defer w.Close()
	return p.Print(w, output.List(items))
}

// dumpLogs writes what the containers of a namespace wrote. What cannot be read says so in its place.
func (s *session) dumpLogs(ctx context.Context, o dumpOptions, namespace string) error {
	pods, _, err := client.Of(s.server.Client, client.Pods()).List(ctx, namespace, client.ListOptions{})
	if err != nil {
		return err
	}
	for _, p := range pods {
		if err := s.dumpPodLogs(ctx, o, p); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) dumpPodLogs(ctx context.Context, o dumpOptions, p *corev1.Pod) error {
	w, err := s.dumpTo(o, p.Namespace, p.Name, "logs.txt")
	if err != nil {
		return err
	}
	defer w.Close()
	wanted := logOptions{tail: -1, allContainers: true}
	req, err := wanted.request(time.Now())
	if err != nil {
		return err
	}
	part := *s
	part.out = w
	for _, src := range wanted.sources(p) {
		fmt.Fprintf(w, "==== START logs for container %s of pod %s/%s ====\n", src.container, p.Namespace, p.Name)
		if err := part.logOne(ctx, wanted, req, src, &sync.Mutex{}); err != nil {
			fmt.Fprintf(w, "Failed to get logs: %v\n", err)
		}
		fmt.Fprintf(w, "==== END logs for container %s of pod %s/%s ====\n", src.container, p.Namespace, p.Name)
	}
	return nil
}

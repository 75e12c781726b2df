package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

// topInterval is how far apart the two samples are that CPU use is computed from: long enough for a figure in millicores, short
// enough to wait for.
const topInterval = time.Second

func (s *session) topCommand() *cobra.Command {
	c := &cobra.Command{Use: "top", Short: "Show what pods and nodes use now"}
	var p, n topOptions
	pods := &cobra.Command{
		Use: "pods [NAME…]", Aliases: []string{"pod", "po"}, Short: "Show what pods use, measured over a second",
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.topPods(cmd.Context(), args, p)
		},
	}
	p.register(pods.Flags())
	pods.Flags().BoolVarP(&p.all, "all-namespaces", "A", false, "in every namespace")
	pods.Flags().BoolVar(&p.containers, "containers", false, "each container on a line of its own")
	pods.Flags().StringVar(&p.sortBy, "sort-by", "", "cpu or memory, the largest first")
	nodes := &cobra.Command{
		Use: "nodes [NAME…]", Aliases: []string{"node", "no"}, Short: "Show what the pods of each node use, measured over a second",
		RunE: func(cmd *cobra.Command, args []string) error { return s.topNodes(cmd.Context(), args, n) },
	}
	n.register(nodes.Flags())
	c.AddCommand(pods, nodes)
	return c
}

// topOptions are the flags of top pods and top nodes.
type topOptions struct {
	all, containers, noHeaders bool
	selector, sortBy           string
}

func (o *topOptions) register(f *pflag.FlagSet) {
	f.StringVarP(&o.selector, "selector", "l", "", "label `selector`")
	f.BoolVar(&o.noHeaders, "no-headers", false, "leave the headers out")
}

// usage is what a container used between two samples.
type usage struct {
	pod       *corev1.Pod
	container string
	cpu       float64 // cores
	memory    uint64  // bytes
}

// usages samples every running pod twice. Pods that end in between are left out.
func (s *session) usages(ctx context.Context, pods []*corev1.Pod) ([]usage, error) {
	first, err := s.sample(ctx, pods)
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(topInterval):
	}
	second, err := s.sample(ctx, pods)
	if err != nil {
		return nil, err
	}
	var out []usage
	for _, p := range pods {
		for name, now := range second[string(p.UID)] {
			before := first[string(p.UID)][name]
			out = append(out, usage{p, name, cores(before, now), now.MemoryWorkingSetBytes})
		}
	}
	slices.SortFunc(out, func(a, b usage) int {
		return strings.Compare(a.pod.Namespace+"/"+a.pod.Name+"/"+a.container, b.pod.Namespace+"/"+b.pod.Name+"/"+b.container)
	})
	return out, nil
}

// cores is the CPU use between two samples; a container that started again in between has none yet.
func cores(before, now *nodev1.ContainerStats) float64 {
	elapsed := now.GetTime().AsTime().Sub(before.GetTime().AsTime())
	if before == nil || elapsed <= 0 || now.CpuUsageCoreNanoseconds < before.CpuUsageCoreNanoseconds {
		return 0
	}
	return float64(now.CpuUsageCoreNanoseconds-before.CpuUsageCoreNanoseconds) / float64(elapsed.Nanoseconds())
}

// sample asks for the containers' counters by pod uid.
func (s *session) sample(ctx context.Context, pods []*corev1.Pod) (map[string]map[string]*nodev1.ContainerStats, error) {
	out := map[string]map[string]*nodev1.ContainerStats{}
	for _, p := range pods {
		resp, err := s.nodes().Stats(ctx, &nodev1.StatsRequest{Namespace: p.Namespace, Pod: p.Name})
		if err != nil {
			if err := client.FromGRPC(ctx, err); len(pods) == 1 || client.IsUnavailable(err) {
				return nil, err
			}
			continue
		}
		for _, stats := range resp.Pods {
			byName := map[string]*nodev1.ContainerStats{}
			for _, c := range stats.Containers {
				byName[c.Name] = c
			}
			out[stats.Uid] = byName
		}
	}
	return out, nil
}

func (s *session) topPods(ctx context.Context, names []string, o topOptions) error {
	if o.sortBy != "" && o.sortBy != "cpu" && o.sortBy != "memory" {
		return fmt.Errorf("--sort-by: %q is neither cpu nor memory", o.sortBy)
	}
	if _, err := s.connect(); err != nil {
		return err
	}
	namespace := s.namespace
	if o.all {
		namespace = ""
	}
	pods, _, err := client.Of(s.server.Client, client.Pods()).List(ctx, namespace, client.ListOptions{LabelSelector: o.selector, FieldSelector: "status.phase=Running"})
	if err != nil {
		return err
	}
	if len(names) > 0 {
		pods = slices.DeleteFunc(pods, func(p *corev1.Pod) bool { return !slices.Contains(names, p.Name) })
	}
	if len(pods) == 0 {
		if len(names) > 0 {
			return fmt.Errorf("no running pod is named %s in %s", strings.Join(names, " or "), orAll(namespace))
		}
		fmt.Fprintf(s.err, "No running pods found in %s.\n", orAll(namespace))
		return nil
	}
	rows, err := s.usages(ctx, pods)
	if err != nil {
		return err
	}
	if !o.containers {
		rows = byPod(rows)
	}
	slices.SortStableFunc(rows, func(a, b usage) int {
		switch o.sortBy {
		case "cpu":
			return int(1000*b.cpu) - int(1000*a.cpu)
		case "memory":
			return int(b.memory>>10) - int(a.memory>>10)
		}
		return 0
	})
	tw := tabwriter.NewWriter(s.out, 0, 8, 3, ' ', 0)
	columns := func(cells ...string) {
		if !o.containers {
			cells = slices.Delete(cells, 2, 3)
		}
		if !o.all {
			cells = cells[1:]
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	pod := "POD"
	if !o.containers {
		pod = "NAME"
	}
	if !o.noHeaders {
		columns("NAMESPACE", pod, "NAME", "CPU(cores)", "MEMORY(bytes)")
	}
	for _, u := range rows {
		columns(u.pod.Namespace, u.pod.Name, u.container, millicores(u.cpu), fmt.Sprintf("%dMi", u.memory>>20))
	}
	return tw.Flush()
}

func millicores(cores float64) string { return fmt.Sprintf("%.0fm", 1000*cores) }

func byPod(rows []usage) []usage {
	var out []usage
	for _, u := range rows {
		if n := len(out); n > 0 && out[n-1].pod == u.pod {
			out[n-1].cpu += u.cpu
			out[n-1].memory += u.memory
			continue
		}
		out = append(out, u)
	}
	return out
}

func (s *session) topNodes(ctx context.Context, names []string, o topOptions) error {
	if _, err := s.connect(); err != nil {
		return err
	}
	nodes, _, err := client.Of(s.server.Client, client.Nodes()).List(ctx, "", client.ListOptions{LabelSelector: o.selector})
	if err != nil {
		return err
	}
	if len(names) > 0 {
		nodes = slices.DeleteFunc(nodes, func(n *corev1.Node) bool { return !slices.Contains(names, n.Name) })
		if len(nodes) == 0 {
			return fmt.Errorf("no node is named %s", strings.Join(names, " or "))
		}
	}
	if len(nodes) == 0 {
		return errors.New("the cluster has no nodes yet")
	}
	pods, _, err := client.Of(s.server.Client, client.Pods()).List(ctx, "", client.ListOptions{FieldSelector: "status.phase=Running"})
	if err != nil {
		return err
	}
	rows, err := s.usages(ctx, pods)
	if err != nil {
		return err
	}
	tw := tabwriter.NewWriter(s.out, 0, 8, 3, ' ', 0)
	if !o.noHeaders {
		fmt.Fprintln(tw, "NAME\tPODS\tPODS CPU(cores)\tCPU(%)\tPODS MEMORY(bytes)\tMEMORY(%)")
	}
	for _, n := range nodes {
		var cpu float64
		var memory uint64
		seen := map[*corev1.Pod]bool{}
		for _, u := range rows {
			if u.pod.Spec.NodeName == n.Name {
				cpu, memory = cpu+u.cpu, memory+u.memory
				seen[u.pod] = true
			}
		}
		allCPU, allMemory := n.Status.Allocatable.Cpu().AsApproximateFloat64(), n.Status.Allocatable.Memory().AsApproximateFloat64()
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%dMi\t%s\n", n.Name, len(seen), millicores(cpu), ratio(cpu, allCPU), memory>>20, ratio(float64(memory), allMemory))
	}
	return tw.Flush()
}

func ratio(part, whole float64) string {
	if whole == 0 {
		return "<unknown>"
	}
	return fmt.Sprintf("%.0f%%", 100*part/whole)
}

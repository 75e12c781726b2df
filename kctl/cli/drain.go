package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"bareboat.dev/client"
	"bareboat.dev/kctl/api"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// evictionPause is how long drain waits before it asks again for an eviction that a disruption budget refused.
const evictionPause = 5 * time.Second

func (s *session) cordonCommand(cordon bool) *cobra.Command {
	verb, done, short := "uncordon", "uncordoned", "Let new pods come to nodes again"
	if cordon {
		verb, done, short = "cordon", "cordoned", "Keep new pods from nodes"
	}
	var selector string
	w := writing{manager: fieldManager}
	c := &cobra.Command{
		Use: verb + " (NODE… | -l SELECTOR)", Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			nodes, err := s.nodeTargets(cmd.Context(), args, selector)
			if err != nil {
				return err
			}
			for _, t := range nodes {
				if err := s.setUnschedulable(cmd.Context(), t, cordon, done, w); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVarP(&selector, "selector", "l", "", "label `selector`")
	w.dry.register(c.Flags())
	return c
}

// nodeTargets are the nodes that arguments name, as NODE or node/NODE, or that a selector selects.
func (s *session) nodeTargets(ctx context.Context, args []string, selector string) ([]target, error) {
	server, err := s.connect()
	if err != nil {
		return nil, err
	}
	infos, err := server.Resolve(ctx, "nodes")
	if err != nil {
		return nil, err
	}
	var out []target
	for _, a := range args {
		out = append(out, target{info: infos[0], name: strings.TrimPrefix(strings.TrimPrefix(a, "nodes/"), "node/")})
	}
	switch {
	case selector != "" && len(args) > 0:
		return nil, errors.New("name nodes or pass -l, not both")
	case selector == "" && len(args) == 0:
		return nil, errors.New("name the nodes, or pass -l SELECTOR")
	case selector == "":
		return out, nil
	}
	nodes, _, err := client.Of(server.Client, client.Nodes()).List(ctx, "", client.ListOptions{LabelSelector: selector})
	for _, n := range nodes {
		out = append(out, target{info: infos[0], name: n.Name})
	}
	if err == nil && len(out) == 0 {
		err = errors.New("no node matches the selector")
	}
	return out, err
}

func (s *session) setUnschedulable(ctx context.Context, t target, want bool, done string, w writing) error {
	u, err := s.server.Get(ctx, t.info, "", t.name)
	if err != nil {
		return err
	}
	if is, _, _ := unstructured.NestedBool(u.Object, "spec", "unschedulable"); is == want {
		fmt.Fprintf(s.out, "%s already %s%s\n", t, done, w.dry.suffix())
		return nil
	}
	value := any(nil)
	if want {
		value = true
	}
	obj, err := s.mergePatch(ctx, t, map[string]any{"spec": map[string]any{"unschedulable": value}}, w)
	if err != nil {
		return err
	}
	return s.done(t, done, w, obj)
}

// drainOptions are the flags of drain.
type drainOptions struct {
	selector                          string
	ignoreDaemonSets, emptyDir, force bool
	disableEviction                   bool
	dry                               dryRun
	grace                             int64
	timeout                           time.Duration
}

func (s *session) drainCommand() *cobra.Command {
	var o drainOptions
	c := &cobra.Command{
		Use:   "drain (NODE… | -l SELECTOR)",
		Short: "Cordon nodes and move their pods away",
		Long: `Cordon nodes and evict their pods, which their controllers then start elsewhere. Disruption budgets are respected: an eviction
that one refuses is asked for again until --timeout. Nothing is evicted unless every pod of the node may be.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if o.timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, o.timeout)
				defer cancel()
			}
			nodes, err := s.nodeTargets(ctx, args, o.selector)
			if err != nil {
				return err
			}
			for _, t := range nodes {
				if err := s.drain(ctx, t, o); err != nil {
					return fmt.Errorf("%s: %w", t, err)
				}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVarP(&o.selector, "selector", "l", "", "label `selector` of nodes")
	f.BoolVar(&o.ignoreDaemonSets, "ignore-daemonsets", false, "leave pods of daemon sets, which would come back, where they are")
	f.BoolVar(&o.emptyDir, "delete-emptydir-data", false, "evict pods whose emptyDir volumes are lost with them, too")
	f.BoolVar(&o.force, "force", false, "delete pods without a controller, which nobody starts again, too")
	f.BoolVar(&o.disableEviction, "disable-eviction", false, "delete pods instead, past disruption budgets")
	o.dry.register(f)
	f.Int64Var(&o.grace, "grace-period", -1, "`seconds` that pods get to end; -1 is their own")
	f.DurationVar(&o.timeout, "timeout", 0, "how long to try; 0 is for ever")
	return c
}

func (s *session) drain(ctx context.Context, node target, o drainOptions) error {
	pods, _, err := client.Of(s.server.Client, client.Pods()).List(ctx, "", client.ListOptions{FieldSelector: "spec.nodeName=" + node.name})
	if err != nil {
		return err
	}
	if err := s.setUnschedulable(ctx, node, true, "cordoned", writing{dry: o.dry, manager: fieldManager}); err != nil {
		return err
	}
	leaving, blocked := drainable(pods, o)
	if len(blocked) > 0 {
		return fmt.Errorf("cannot drain, and nothing was evicted: %s", strings.Join(blocked, "; "))
	}
	infos, err := s.server.Resolve(ctx, "pods")
	if err != nil {
		return err
	}
	var gone []deleted
	for _, p := range leaving {
		t := target{infos[0], p.Namespace, p.Name}
		fmt.Fprintf(s.out, "evicting pod %s/%s%s\n", p.Namespace, p.Name, o.dry.suffix())
		if o.dry == dryClient {
			continue
		}
		if err := s.evict(ctx, t, o); err != nil {
			return err
		}
		if o.dry == dryNone {
			gone = append(gone, deleted{t, string(p.UID)})
		}
	}
	if err := s.waitGone(ctx, gone, 0); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s drained%s\n", node, o.dry.suffix())
	return nil
}

// drainable parts the pods that leave from reasons why others must not; pods that have ended or belong to the node itself stay.
func drainable(pods []*corev1.Pod, o drainOptions) (leaving []*corev1.Pod, blocked []string) {
	for _, p := range pods {
		owner := metav1.GetControllerOf(p)
		ended := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
		name := p.Namespace + "/" + p.Name
		switch {
		case p.Annotations[corev1.MirrorPodAnnotationKey] != "": // the kubelet's own static pod
		case owner != nil && owner.Kind == "DaemonSet" && !ended:
			if !o.ignoreDaemonSets {
				blocked = append(blocked, name+" belongs to a daemon set (use --ignore-daemonsets to leave it there)")
			}
		case owner == nil && !ended && !o.force:
			blocked = append(blocked, name+" has no controller that would start it elsewhere (use --force to delete it)")
		case !ended && !o.emptyDir && hasEmptyDir(p):
			blocked = append(blocked, name+" keeps data in an emptyDir volume (use --delete-emptydir-data to lose it)")
		default:
			leaving = append(leaving, p)
		}
	}
	return leaving, blocked
}

func hasEmptyDir(p *corev1.Pod) bool {
	for _, v := range p.Spec.Volumes {
		if v.EmptyDir != nil {
			return true
		}
	}
	return false
}

// evict asks for an eviction until it is granted; a refusal by a disruption budget is TooManyRequests.
func (s *session) evict(ctx context.Context, t target, o drainOptions) error {
	if o.disableEviction {
		wire, err := deleteOptions{cascade: "background", dry: o.dry, grace: o.grace}.wire()
		if err != nil {
			return err
		}
		_, err = s.server.Delete(ctx, &apiv1.DeleteRequest{Ref: api.Ref(t.info, t.namespace, t.name), Options: wire})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	eviction := object("policy/v1", "Eviction")
	eviction["metadata"] = map[string]any{"name": t.name, "namespace": t.namespace}
	if o.grace >= 0 {
		eviction["deleteOptions"] = map[string]any{"gracePeriodSeconds": o.grace}
	}
	body, err := api.JSON(&unstructured.Unstructured{Object: eviction})
	if err != nil {
		return err
	}
	ref := api.Ref(t.info, t.namespace, t.name)
	ref.Subresource = "eviction"
	for {
		_, err := s.server.Create(ctx, &apiv1.CreateRequest{Ref: ref, Object: body, Options: &apiv1.WriteOptions{DryRun: o.dry == dryServer}})
		if !apierrors.IsTooManyRequests(err) {
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		}
		fmt.Fprintf(s.err, "%s: %v; will try again in %s\n", t, err, evictionPause)
		select {
		case <-ctx.Done():
			return fmt.Errorf("timed out: %s still may not be evicted: %w", t, err)
		case <-time.After(evictionPause):
		}
	}
}

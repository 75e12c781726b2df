package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"bareboat.dev/client"
	"bareboat.dev/kctl/describe"
	"bareboat.dev/kctl/why"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func (s *session) describeCommand() *cobra.Command {
	var f fileFlags
	var selector string
	var all bool
	c := &cobra.Command{
		Use: "describe (TYPE [NAME…] | TYPE/NAME… | -f FILE)", Short: "Show objects with their events, for reading",
		RunE: func(cmd *cobra.Command, args []string) error {
			items, err := s.described(cmd.Context(), f, args, selector, all)
			if err != nil {
				return err
			}
			for i, u := range items {
				if i > 0 {
					fmt.Fprint(s.out, "\n\n")
				}
				events, err := s.eventsOf(cmd.Context(), u)
				if err != nil {
					return err
				}
				if err := describe.Object(s.out, u, events, time.Now()); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringSliceVarP(&f.files, "filename", "f", nil, "`file`, folder or - whose objects to describe")
	c.Flags().StringVarP(&selector, "selector", "l", "", "label `selector`")
	c.Flags().BoolVarP(&all, "all-namespaces", "A", false, "in every namespace")
	return c
}

func (s *session) described(ctx context.Context, f fileFlags, args []string, selector string, all bool) ([]*unstructured.Unstructured, error) {
	o := getOptions{fileFlags: f, labels: selector}
	targets, err := s.getTargets(ctx, o, args)
	if err != nil {
		return nil, err
	}
	if all {
		for i := range targets {
			targets[i].namespace = ""
		}
	}
	items, err := s.fetch(ctx, o, targets)
	if err == nil && len(items) == 0 {
		s.noneFound(targets)
	}
	return items, err
}

// eventsOf lists the events about an object, oldest first.
func (s *session) eventsOf(ctx context.Context, u *unstructured.Unstructured) ([]*corev1.Event, error) {
	namespace := u.GetNamespace()
	if namespace == "" {
		namespace = "default" // where events about cluster-scoped objects are kept
	}
	fields := []string{"involvedObject.kind=" + u.GetKind(), "involvedObject.name=" + u.GetName()}
	// Events about nodes carry the node's name as uid.
	if u.GetKind() != "Node" {
		fields = append(fields, "involvedObject.uid="+string(u.GetUID()))
	}
	list, _, err := client.Of(s.server.Client, client.Events()).List(ctx, namespace, client.ListOptions{FieldSelector: strings.Join(fields, ",")})
	sortEvents(list)
	return list, err
}

func (s *session) whyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "why TYPE/NAME", Short: "Explain why a pod, workload or service does not run",
		Example: "  kctl why pod/web-0\n  kctl why deploy/web\n  kctl why svc/web",
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, err := s.named(cmd.Context(), args)
			if err != nil {
				return err
			}
			for _, t := range targets {
				if err := s.why(cmd.Context(), t); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (s *session) why(ctx context.Context, t target) error {
	u, err := s.server.Get(ctx, t.info, t.namespace, t.name)
	if err != nil {
		return err
	}
	if t.info.Kind == "Pod" {
		return s.whyPod(ctx, t, u)
	}
	selector, err := workloadSelector(u)
	if t.info.Kind == "Service" {
		return s.whyService(ctx, t, u)
	}
	if err != nil {
		return fmt.Errorf("%w; why explains pods, workloads and services", err)
	}
	var findings []why.Finding
	for _, c := range conditionsOf(u) {
		if c["status"] != "True" && c["message"] != nil {
			findings = append(findings, why.Finding{Subject: fmt.Sprint("condition ", c["type"]), Text: fmt.Sprint(c["reason"], ": ", c["message"])})
		}
	}
	pods, err := s.podsOf(ctx, t.namespace, selector)
	if err != nil {
		return err
	}
	s.explain(t.String(), findings)
	if len(pods) == 0 {
		events, err := s.eventsOf(ctx, u)
		if err != nil {
			return err
		}
		for _, e := range events {
			if e.Type == corev1.EventTypeWarning {
				s.explain(t.String(), []why.Finding{{Subject: "event " + e.Reason, Text: e.Message}})
			}
		}
	}
	return s.whyPods(ctx, pods)
}

func conditionsOf(u *unstructured.Unstructured) []map[string]any {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	var out []map[string]any
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

func (s *session) whyPods(ctx context.Context, pods []*corev1.Pod) error {
	for _, p := range pods {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(p)
		if err != nil {
			return err
		}
		u := &unstructured.Unstructured{Object: content}
		u.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
		info := &apiv1.ResourceInfo{Singular: "pod", Kind: "Pod"}
		if err := s.whyPod(ctx, target{info, p.Namespace, p.Name}, u); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) whyPod(ctx context.Context, t target, u *unstructured.Unstructured) error {
	var pod corev1.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &pod); err != nil {
		return err
	}
	events, err := s.eventsOf(ctx, u)
	if err != nil {
		return err
	}
	findings := why.Pod(&pod, events)
	if len(findings) == 0 {
		fmt.Fprintf(s.out, "%s: nothing is wrong with it (%s)\n", t, pod.Status.Phase)
	}
	s.explain(t.String(), findings)
	return nil
}

func (s *session) whyService(ctx context.Context, t target, u *unstructured.Unstructured) error {
	var svc corev1.Service
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &svc); err != nil {
		return err
	}
	slices, _, err := client.Of(s.server.Client, client.EndpointSlices()).List(ctx, t.namespace, client.ListOptions{LabelSelector: "kubernetes.io/service-name=" + t.name})
	if err != nil {
		return err
	}
	ready := 0
	for _, sl := range slices {
		for _, e := range sl.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				ready++
			}
		}
	}
	var pods []*corev1.Pod
	if len(svc.Spec.Selector) > 0 {
		if pods, err = s.podsOf(ctx, t.namespace, labels.Set(svc.Spec.Selector).String()); err != nil {
			return err
		}
	}
	findings := why.Service(&svc, ready, pods)
	if len(findings) == 0 {
		fmt.Fprintf(s.out, "%s: nothing is wrong with it (%d ready endpoints)\n", t, ready)
		return nil
	}
	s.explain(t.String(), findings)
	return s.whyPods(ctx, pods)
}

func (s *session) podsOf(ctx context.Context, namespace, selector string) ([]*corev1.Pod, error) {
	pods, _, err := client.Of(s.server.Client, client.Pods()).List(ctx, namespace, client.ListOptions{LabelSelector: selector})
	return pods, err
}

func (s *session) explain(name string, findings []why.Finding) {
	for _, f := range findings {
		fmt.Fprintf(s.out, "%s: %s: %s\n", name, f.Subject, f.Text)
		if f.Hint != "" {
			fmt.Fprintf(s.out, "  → %s\n", f.Hint)
		}
	}
}

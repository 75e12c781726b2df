package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/wrapperspb"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"bareboat.dev/client"
	"bareboat.dev/kctl/why"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
	nodev1 "bareboat.dev/proto/bareboat/node/v1"
)

func (s *session) whyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "why TYPE/NAME…", Short: "Explain why a pod, workload, service or node does not work",
		Long: `Explain why something does not work, and what to do: why no node takes a pod, how a container ended and what it wrote last, what
a probe said, why a service has no endpoints, why a node is not ready. A workload's or service's pods are gone through, too.`,
		Example: "  kctl why pod/web-0\n  kctl why deploy/web svc/web\n  kctl why node/host-1",
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
	switch t.info.Kind {
	case "Pod":
		return s.whyPod(ctx, t, u)
	case "Service":
		return s.whyService(ctx, t, u)
	case "Node":
		findings, err := nodeFindings(u)
		if err == nil && len(findings) == 0 {
			fmt.Fprintf(s.out, "%s: nothing is wrong with it\n", t)
		}
		s.explain(t.String(), findings)
		return err
	}
	return s.whyWorkload(ctx, t, u)
}

func (s *session) whyWorkload(ctx context.Context, t target, u *unstructured.Unstructured) error {
	selector, err := workloadSelector(u)
	if err != nil {
		return fmt.Errorf("%w; why explains pods, workloads, services and nodes", err)
	}
	var findings []why.Finding
	for _, c := range conditionsOf(u) {
		bad := "False"
		if kind := fmt.Sprint(c["type"]); strings.HasSuffix(kind, "Failure") || kind == "Failed" {
			bad = "True"
		}
		if c["status"] == bad && c["message"] != nil {
			findings = append(findings, why.Finding{Subject: fmt.Sprint("condition ", c["type"]), Text: fmt.Sprint(c["reason"], ": ", c["message"])})
		}
	}
	pods, err := s.podsOf(ctx, t.namespace, selector)
	if err != nil {
		return err
	}
	if len(pods) == 0 {
		events, err := s.eventsOf(ctx, u)
		if err != nil {
			return err
		}
		for _, e := range events {
			if e.Type == corev1.EventTypeWarning {
				findings = append(findings, why.Finding{Subject: "event " + e.Reason, Text: e.Message})
			}
		}
		if len(findings) == 0 {
			findings = append(findings, why.Finding{Subject: "pods", Text: "it has none" + wantsNone(u)})
		}
	}
	s.explain(t.String(), findings)
	return s.whyPods(ctx, pods)
}

// wantsNone says whether a workload is meant to have no pods.
func wantsNone(u *unstructured.Unstructured) string {
	if n, found, _ := unstructured.NestedInt64(u.Object, "spec", "replicas"); found && n == 0 {
		return ": it is scaled to 0"
	}
	if paused, _, _ := unstructured.NestedBool(u.Object, "spec", "paused"); paused {
		return ": it is paused"
	}
	return ""
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
	events, err := s.eventsOf(ctx, u)
	if err != nil {
		return err
	}
	findings, err := s.podFindings(ctx, u, events)
	if err != nil {
		return err
	}
	if len(findings) == 0 {
		phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
		fmt.Fprintf(s.out, "%s: nothing is wrong with it (%s)\n", t, phase)
	}
	s.explain(t.String(), findings)
	return nil
}

// podFindings explains a pod by what the API says of it, of the nodes if it has none, and by what its failed containers wrote last.
func (s *session) podFindings(ctx context.Context, u *unstructured.Unstructured, events []*corev1.Event) ([]why.Finding, error) {
	var pod corev1.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &pod); err != nil {
		return nil, err
	}
	findings := why.Pod(&pod, events)
	if pod.Spec.NodeName == "" && len(findings) > 0 {
		placement, err := s.placement(ctx, &pod)
		return append(findings, placement...), err
	}
	return append(findings, s.lastWords(ctx, &pod)...), nil
}

func (s *session) placement(ctx context.Context, pod *corev1.Pod) ([]why.Finding, error) {
	nodes, _, err := client.Of(s.server.Client, client.Nodes()).List(ctx, "", client.ListOptions{})
	if err != nil {
		return nil, err
	}
	bound, _, err := client.Of(s.server.Client, client.Pods()).List(ctx, "", client.ListOptions{FieldSelector: "spec.nodeName!="})
	return why.Placement(pod, nodes, bound), err
}

// lastLines is how much of a failed container's log an explanation shows: where most programs say why they gave up.
const lastLines = 3

// lastWords are the last lines that containers wrote before they failed. A log that cannot be read is left out.
func (s *session) lastWords(ctx context.Context, pod *corev1.Pod) []why.Finding {
	var out []why.Finding
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, c := range list {
			previous := c.State.Terminated == nil
			ended := c.State.Terminated
			if previous {
				ended = c.LastTerminationState.Terminated
			}
			if c.Ready || ended == nil || ended.ExitCode == 0 {
				continue
			}
			ref := &nodev1.ContainerRef{Namespace: pod.Namespace, Pod: pod.Name, Container: c.Name}
			if text := s.logTail(ctx, &nodev1.LogsRequest{Ref: ref, Previous: previous, TailLines: wrapperspb.Int64(lastLines)}); text != "" {
				out = append(out, why.Finding{Subject: "container " + c.Name, Text: "wrote last:\n    " + strings.ReplaceAll(text, "\n", "\n    ")})
			}
		}
	}
	return out
}

func (s *session) logTail(ctx context.Context, req *nodev1.LogsRequest) string {
	stream, err := nodev1.NewNodeServiceClient(s.server.Conn()).Logs(ctx, req)
	if err != nil {
		return ""
	}
	var text strings.Builder
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return strings.TrimSpace(text.String())
		}
		if err != nil {
			return ""
		}
		text.Write(resp.Data)
	}
}

func nodeFindings(u *unstructured.Unstructured) ([]why.Finding, error) {
	var n corev1.Node
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &n); err != nil {
		return nil, err
	}
	return why.Node(&n), nil
}

func (s *session) serviceFindings(ctx context.Context, u *unstructured.Unstructured) ([]*discoveryv1.EndpointSlice, []why.Finding, error) {
	var svc corev1.Service
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &svc); err != nil {
		return nil, nil, err
	}
	slices, _, err := client.Of(s.server.Client, client.EndpointSlices()).List(ctx, svc.Namespace, client.ListOptions{LabelSelector: "kubernetes.io/service-name=" + svc.Name})
	if err != nil {
		return nil, nil, err
	}
	ready := readyEndpoints(slices)
	if ready > 0 {
		return slices, nil, nil
	}
	pods, err := s.podsOf(ctx, svc.Namespace, "")
	return slices, why.Service(&svc, ready, pods), err
}

func readyEndpoints(slices []*discoveryv1.EndpointSlice) (ready int) {
	for _, sl := range slices {
		for _, e := range sl.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				ready++
			}
		}
	}
	return ready
}

func (s *session) whyService(ctx context.Context, t target, u *unstructured.Unstructured) error {
	slices, findings, err := s.serviceFindings(ctx, u)
	if err != nil {
		return err
	}
	if len(findings) == 0 {
		fmt.Fprintf(s.out, "%s: nothing is wrong with it (%d ready endpoints)\n", t, readyEndpoints(slices))
		return nil
	}
	s.explain(t.String(), findings)
	selector, err := workloadSelector(u)
	if err != nil {
		return nil // without a selector there are no pods to go through
	}
	pods, err := s.podsOf(ctx, t.namespace, selector)
	if err != nil {
		return err
	}
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

package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"bareboat.dev/client"
	"bareboat.dev/kctl/api"
	"bareboat.dev/kctl/describe"
	"bareboat.dev/kctl/rollout"
)

func (s *session) describeCommand() *cobra.Command {
	var f fileFlags
	var selector string
	var all, showEvents bool
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
				rel, err := s.related(cmd.Context(), u)
				if err != nil {
					return err
				}
				if !showEvents {
					rel.Events = nil
				}
				if err := describe.Object(s.out, u, rel, time.Now()); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.register(c.Flags(), "describe")
	c.Flags().BoolVar(&showEvents, "show-events", true, "show the objects' events")
	c.Flags().Int("chunk-size", 500, "accepted for kubectl's sake: lists come as a stream")
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

// related reads what a description of u tells besides u itself.
func (s *session) related(ctx context.Context, u *unstructured.Unstructured) (rel describe.Related, err error) {
	if rel.Events, err = s.eventsOf(ctx, u); err != nil {
		return rel, err
	}
	switch u.GetKind() {
	case "Pod":
		rel.Findings, err = s.podFindings(ctx, u, rel.Events)
	case "Node":
		pods, _, perr := client.Of(s.server.Client, client.Pods()).List(ctx, "", client.ListOptions{FieldSelector: "spec.nodeName=" + u.GetName()})
		rel.Pods, err = pods, perr
		if err == nil {
			rel.Findings, err = nodeFindings(u)
		}
	case "Service":
		rel.EndpointSlices, rel.Findings, err = s.serviceFindings(ctx, u)
	case "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job":
		err = s.workload(ctx, u, &rel)
	}
	return rel, err
}

// workload reads a workload's pods, and a deployment's replica sets.
func (s *session) workload(ctx context.Context, u *unstructured.Unstructured, rel *describe.Related) error {
	selector, err := workloadSelector(u)
	if err != nil {
		return nil // a job that has not been given one yet
	}
	if rel.Pods, err = s.podsOf(ctx, u.GetNamespace(), selector); err != nil || u.GetKind() != "Deployment" {
		return err
	}
	sets, _, err := client.Of(s.server.Client, client.ReplicaSets()).List(ctx, u.GetNamespace(), client.ListOptions{LabelSelector: selector})
	rel.ReplicaSets = slices.DeleteFunc(sets, func(rs *appsv1.ReplicaSet) bool { return !api.OwnedBy(rs, string(u.GetUID())) })
	slices.SortFunc(rel.ReplicaSets, func(a, b *appsv1.ReplicaSet) int { return cmp.Compare(rollout.Revision(a), rollout.Revision(b)) })
	return err
}

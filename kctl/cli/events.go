package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"bareboat.dev/client"
)

func (s *session) eventsCommand() *cobra.Command {
	var all, watch, noHeaders bool
	var forObject string
	var types []string
	c := &cobra.Command{
		Use: "events", Short: "Print what happened, oldest first", Args: cobra.NoArgs,
		Example: "  kctl events --for pod/web-0\n  kctl events -A -w --types=Warning",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.events(cmd.Context(), all, watch, noHeaders, forObject, types)
		},
	}
	c.Flags().BoolVarP(&all, "all-namespaces", "A", false, "in every namespace")
	c.Flags().BoolVarP(&watch, "watch", "w", false, "go on printing new ones")
	c.Flags().BoolVar(&noHeaders, "no-headers", false, "leave the headers out")
	c.Flags().StringVar(&forObject, "for", "", "only events about this `TYPE/NAME`")
	c.Flags().StringSliceVar(&types, "types", nil, "only Normal, or Warning, events")
	return c
}

func (s *session) events(ctx context.Context, all, watch, noHeaders bool, forObject string, types []string) error {
	server, err := s.connect()
	if err != nil {
		return err
	}
	namespace := s.namespace
	if all {
		namespace = ""
	}
	var fields []string
	if forObject != "" {
		targets, err := s.named(ctx, []string{forObject})
		if err != nil {
			return err
		}
		fields = append(fields, "involvedObject.kind="+targets[0].info.Kind, "involvedObject.name="+targets[0].name)
	}
	opts := client.ListOptions{FieldSelector: strings.Join(fields, ",")}
	wanted := func(e *corev1.Event) bool {
		return len(types) == 0 || slices.ContainsFunc(types, func(t string) bool { return strings.EqualFold(t, e.Type) })
	}
	list, revision, err := client.Of(server.Client, client.Events()).List(ctx, namespace, opts)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(e *corev1.Event) bool { return !wanted(e) })
	sortEvents(list)
	if len(list) == 0 && !watch {
		fmt.Fprintf(s.err, "No events found in %s.\n", orAll(namespace))
		return nil
	}
	s.printEvents(list, all, noHeaders)
	if !watch {
		return nil
	}
	return s.watchEvents(ctx, namespace, opts, revision, wanted, all)
}

func orAll(namespace string) string {
	if namespace == "" {
		return "any namespace"
	}
	return namespace + " namespace"
}

func (s *session) watchEvents(ctx context.Context, namespace string, opts client.ListOptions, revision int64, wanted func(*corev1.Event) bool, all bool) error {
	mirror := client.NewMirror(s.server.Client, client.Events(), client.MirrorOptions[*corev1.Event]{Namespace: namespace, FieldSelector: opts.FieldSelector})
	mirror.OnChange(func(ch client.Change[*corev1.Event]) {
		if ch.New != nil && client.RevisionOf(ch.New) > revision && wanted(ch.New) {
			s.printEvents([]*corev1.Event{ch.New}, all, true)
		}
	})
	err := mirror.Run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// eventTime is when an event happened last; newer writers set other fields than older ones.
func eventTime(e *corev1.Event) time.Time {
	switch {
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}

func sortEvents(list []*corev1.Event) {
	slices.SortStableFunc(list, func(a, b *corev1.Event) int { return eventTime(a).Compare(eventTime(b)) })
}

func (s *session) printEvents(list []*corev1.Event, withNamespace, noHeaders bool) {
	tw := tabwriter.NewWriter(s.out, 6, 4, 3, ' ', 0)
	prefix := func(ns string) string {
		if withNamespace {
			return ns + "\t"
		}
		return ""
	}
	if !noHeaders {
		fmt.Fprintln(tw, prefix("NAMESPACE")+"LAST SEEN\tTYPE\tREASON\tOBJECT\tMESSAGE")
	}
	for _, e := range list {
		fmt.Fprintf(tw, "%s%s\t%s\t%s\t%s/%s\t%s\n", prefix(e.Namespace), eventAge(e), e.Type, e.Reason, e.InvolvedObject.Kind, e.InvolvedObject.Name, strings.TrimSpace(e.Message))
	}
	tw.Flush()
}

func eventAge(e *corev1.Event) string {
	ago := duration.HumanDuration(time.Since(eventTime(e)))
	if e.Count > 1 {
		return fmt.Sprintf("%s (x%d over %s)", ago, e.Count, duration.HumanDuration(time.Since(e.FirstTimestamp.Time)))
	}
	return ago
}

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"bareboat.dev/client"
	"bareboat.dev/kctl/api"
	"bareboat.dev/kctl/rollout"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func (s *session) rolloutCommand() *cobra.Command {
	c := &cobra.Command{Use: "rollout", Short: "Follow, undo and restart rollouts"}
	c.AddCommand(s.rolloutStatus(), s.rolloutHistory(), s.rolloutUndo(), s.rolloutRestart(), s.rolloutPause(true), s.rolloutPause(false))
	return c
}

func (s *session) rolloutStatus() *cobra.Command {
	var watch bool
	var selector string
	var f fileFlags
	var timeout time.Duration
	c := &cobra.Command{
		Use: "status (TYPE/NAME | TYPE -l SELECTOR | -f FILE)", Short: "Wait for a rollout and say how far it is",
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, err := s.fileOrChosen(cmd.Context(), f, args, selector, false)
			if err != nil {
				return err
			}
			for _, t := range targets {
				if err := s.followRollout(cmd.Context(), t, watch, timeout); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", true, "wait until the rollout is done")
	c.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait; 0 is for ever")
	c.Flags().StringVarP(&selector, "selector", "l", "", "label `selector`")
	f.register(c.Flags(), "follow")
	return c
}

// errRolledOut ends the follower.
var errRolledOut = errors.New("rolled out")

func (s *session) followRollout(ctx context.Context, t target, watch bool, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	last := ""
	step := func(u *unstructured.Unstructured) error {
		message, done, err := rollout.Status(u)
		if message != last {
			fmt.Fprint(s.out, message)
			last = message
		}
		if err == nil && (done || !watch) {
			return errRolledOut
		}
		return err
	}
	err := s.follow(ctx, t, step)
	switch {
	case errors.Is(err, errRolledOut):
		return nil
	case timeout > 0 && timedOut(ctx, err):
		return fmt.Errorf("timed out waiting for %s to roll out: %s; see `kctl why %s`", t, trimmed(last), t)
	}
	return err
}

// follow calls step with the object and with every change of it until step returns an error.
func (s *session) follow(ctx context.Context, t target, step func(*unstructured.Unstructured) error) error {
	for {
		u, err := s.server.Get(ctx, t.info, t.namespace, t.name)
		if err == nil {
			if err := step(u); err != nil {
				return err
			}
			err = s.server.Watch(ctx, &apiv1.WatchRequest{
				Ref: api.Ref(t.info, t.namespace, ""), FieldSelector: "metadata.name=" + t.name, ResourceVersion: u.GetResourceVersion(),
			}, func(r *apiv1.WatchResponse) error {
				for _, e := range r.Events {
					if e.Type == apiv1.Event_TYPE_BOOKMARK {
						continue
					}
					if e.Type == apiv1.Event_TYPE_DELETED {
						return fmt.Errorf("%s has been deleted", t)
					}
					u, err := api.Decode(t.info, e.Object)
					if err == nil {
						err = step(u)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !client.IsUnavailable(err) && !client.IsExpired(err) {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// deployment reads a deployment with the replica sets that it owns, oldest revision first.
func (s *session) deployment(ctx context.Context, args []string) (target, *appsv1.Deployment, []*appsv1.ReplicaSet, error) {
	targets, err := s.named(ctx, args)
	if err != nil {
		return target{}, nil, nil, err
	}
	t := targets[0]
	if t.info.Kind != "Deployment" {
		return t, nil, nil, fmt.Errorf("no rollout history is kept for %q; name a deployment", t.info.Kind)
	}
	d, err := client.Of(s.server.Client, client.Deployments()).Get(ctx, t.namespace, t.name)
	if err != nil {
		return t, nil, nil, err
	}
	all, _, err := client.Of(s.server.Client, client.ReplicaSets()).List(ctx, t.namespace, client.ListOptions{})
	if err != nil {
		return t, nil, nil, err
	}
	sets := slices.DeleteFunc(all, func(rs *appsv1.ReplicaSet) bool { return !api.OwnedBy(rs, string(d.UID)) })
	slices.SortFunc(sets, func(a, b *appsv1.ReplicaSet) int { return cmp.Compare(rollout.Revision(a), rollout.Revision(b)) })
	return t, d, sets, nil
}

func (s *session) rolloutHistory() *cobra.Command {
	var revision int64
	c := &cobra.Command{
		Use: "history deploy/NAME", Short: "List a deployment's revisions",
		RunE: func(cmd *cobra.Command, args []string) error {
			t, _, sets, err := s.deployment(cmd.Context(), args)
			if err != nil {
				return err
			}
			if revision > 0 {
				return s.showRevision(t, sets, revision)
			}
			fmt.Fprintf(s.out, "%s\n", t)
			tw := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
			fmt.Fprintln(tw, "REVISION\tCHANGE-CAUSE")
			for _, rs := range sets {
				cause := rs.Annotations["kubernetes.io/change-cause"]
				if cause == "" {
					cause = "<none>"
				}
				fmt.Fprintf(tw, "%d\t%s\n", rollout.Revision(rs), cause)
			}
			return tw.Flush()
		},
	}
	c.Flags().Int64Var(&revision, "revision", 0, "show the pod template of this `revision`")
	return c
}

func (s *session) showRevision(t target, sets []*appsv1.ReplicaSet, revision int64) error {
	for _, rs := range sets {
		if rollout.Revision(rs) != revision {
			continue
		}
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&rs.Spec.Template)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "%s with revision #%d\n", t, revision)
		return s.printYAML(content)
	}
	return fmt.Errorf("unable to find the specified revision %d in history", revision)
}

func (s *session) rolloutUndo() *cobra.Command {
	var to int64
	var w writing
	c := &cobra.Command{
		Use: "undo deploy/NAME", Short: "Go back to an earlier revision",
		RunE: func(cmd *cobra.Command, args []string) error {
			t, d, sets, err := s.deployment(cmd.Context(), args)
			if err != nil {
				return err
			}
			rs, err := rollout.Target(d, sets, to)
			if err != nil {
				return err
			}
			if rs == nil {
				fmt.Fprintf(s.out, "%s skipped rollback (current template already matches revision %d)\n", t, to)
				return nil
			}
			patch, err := rollout.UndoPatch(d, rs)
			if err != nil {
				return err
			}
			req := &apiv1.PatchRequest{Ref: api.Ref(t.info, t.namespace, t.name), Type: apiv1.PatchRequest_TYPE_JSON, Patch: patch}
			obj, _, err := s.change(cmd.Context(), req, t, w)
			if err != nil {
				return err
			}
			return s.done(t, "rolled back", w, obj)
		},
	}
	c.Flags().Int64Var(&to, "to-revision", 0, "the `revision` to go back to; 0 is the last one before this")
	w.register(c.Flags())
	return c
}

func (s *session) rolloutRestart() *cobra.Command {
	var selector string
	var f fileFlags
	var w writing
	c := &cobra.Command{
		Use: "restart (TYPE/NAME… | TYPE -l SELECTOR | -f FILE)", Short: "Replace every pod of a workload",
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, err := s.fileOrChosen(cmd.Context(), f, args, selector, len(args) == 1 && !strings.Contains(args[0], "/") && selector == "")
			if err != nil {
				return err
			}
			for _, t := range targets {
				at := map[string]any{"kubectl.kubernetes.io/restartedAt": time.Now().Format(time.RFC3339)}
				patch := map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": at}}}}
				obj, err := s.mergePatch(cmd.Context(), t, patch, w)
				if err != nil {
					return err
				}
				if err := s.done(t, "restarted", w, obj); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVarP(&selector, "selector", "l", "", "label `selector`")
	f.register(c.Flags(), "restart")
	w.register(c.Flags())
	return c
}

func (s *session) rolloutPause(pause bool) *cobra.Command {
	verb, done, short := "resume", "resumed", "Let a paused rollout go on"
	if pause {
		verb, done, short = "pause", "paused", "Hold a rollout"
	}
	var selector string
	var f fileFlags
	var w writing
	c := &cobra.Command{
		Use: verb + " (deploy/NAME… | deploy -l SELECTOR | -f FILE)", Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, err := s.fileOrChosen(cmd.Context(), f, args, selector, false)
			if err != nil {
				return err
			}
			for _, t := range targets {
				if t.info.Kind != "Deployment" {
					return fmt.Errorf("%s: only deployments can be %s", t, done)
				}
				value := any(nil)
				if pause {
					value = true
				}
				obj, err := s.mergePatch(cmd.Context(), t, map[string]any{"spec": map[string]any{"paused": value}}, w)
				if err != nil {
					return err
				}
				if err := s.done(t, done, w, obj); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVarP(&selector, "selector", "l", "", "label `selector`")
	f.register(c.Flags(), verb)
	w.register(c.Flags())
	return c
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/wrapperspb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/client"
	"bareboat.dev/kctl/api"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// deleteOptions are the flags of delete.
type deleteOptions struct {
	fileFlags
	labels, fields, cascade, output      string
	dry                                  dryRun
	allNamespaces, all, now, force, wait bool
	ignoreAbsent                         bool
	grace                                int64
	timeout                              time.Duration
}

func (s *session) deleteCommand() *cobra.Command {
	var o deleteOptions
	c := &cobra.Command{
		Use:   "delete (-f FILE… | TYPE NAME… | TYPE -l SELECTOR | TYPE --all)",
		Short: "Delete objects",
		RunE: func(cmd *cobra.Command, args []string) error {
			// What a selector found may be gone before its turn comes, with its owner for example.
			if chosen := o.all || o.labels != "" || o.fields != ""; chosen && !cmd.Flags().Changed("ignore-not-found") {
				o.ignoreAbsent = true
			}
			return s.delete(cmd.Context(), o, args)
		},
	}
	f := c.Flags()
	f.StringSliceVarP(&o.files, "filename", "f", nil, "`file`, folder or - whose objects to delete")
	f.BoolVarP(&o.recursive, "recursive", "R", false, "with -f, go through folders below")
	f.StringVarP(&o.labels, "selector", "l", "", "label `selector`")
	f.StringVar(&o.fields, "field-selector", "", "field `selector`")
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "in every namespace")
	f.BoolVar(&o.all, "all", false, "all objects of the type")
	f.BoolVar(&o.now, "now", false, "as --grace-period=1")
	f.BoolVar(&o.force, "force", false, "with --grace-period=0, remove the object without waiting for its node")
	f.BoolVar(&o.wait, "wait", true, "wait until the objects are gone")
	f.BoolVar(&o.ignoreAbsent, "ignore-not-found", false, "an object that does not exist is no error")
	f.StringVar(&o.cascade, "cascade", "background", "background, orphan or foreground: what becomes of dependents")
	f.Int64Var(&o.grace, "grace-period", -1, "`seconds` that pods get to end; -1 is their own")
	f.DurationVar(&o.timeout, "timeout", 0, "how long to wait; 0 is for ever")
	o.dry.register(f)
	f.StringVarP(&o.output, "output", "o", "", "name: print only names")
	return c
}

func (o deleteOptions) wire() (*apiv1.DeleteOptions, error) {
	w := &apiv1.DeleteOptions{DryRun: o.dry == dryServer}
	switch o.cascade {
	case "background", "true":
		w.Propagation = apiv1.Propagation_PROPAGATION_BACKGROUND
	case "orphan", "false":
		w.Propagation = apiv1.Propagation_PROPAGATION_ORPHAN
	case "foreground":
		w.Propagation = apiv1.Propagation_PROPAGATION_FOREGROUND
	default:
		return nil, fmt.Errorf("--cascade: %q is none of background, orphan, foreground", o.cascade)
	}
	grace := o.grace
	switch {
	case o.now:
		grace = 1
	case grace == 0 && !o.force:
		grace = 1 // as kubectl: 0 only together with --force
	case o.force && grace < 0:
		grace = 0
	}
	if grace >= 0 {
		w.GracePeriodSeconds = wrapperspb.Int64(grace)
	}
	return w, nil
}

func (s *session) delete(ctx context.Context, o deleteOptions, args []string) error {
	opts, err := o.wire()
	if err != nil {
		return err
	}
	targets, err := s.deleteTargets(ctx, o, args)
	if err != nil && len(targets) == 0 {
		return s.report(each(err))
	}
	errs := each(err)
	var waiting []deleted
	for _, t := range targets {
		d, err := s.deleteOne(ctx, t, o, opts)
		if err != nil {
			errs = append(errs, err)
		} else if d.uid != "" {
			waiting = append(waiting, d)
		}
	}
	if o.wait && o.dry == dryNone {
		if err := s.waitGone(ctx, waiting, o.timeout); err != nil {
			errs = append(errs, err)
		}
	}
	return s.report(errs)
}

// deleteTargets names every object to delete.
func (s *session) deleteTargets(ctx context.Context, o deleteOptions, args []string) ([]target, error) {
	if len(o.files) > 0 {
		docs, err := s.documents(ctx, o.fileFlags)
		var ts []target
		// In reverse: what was created last, and may live in what was created first, goes first.
		for i := len(docs) - 1; i >= 0; i-- {
			ts = append(ts, docs[i].target)
		}
		return ts, err
	}
	ts, err := s.targets(ctx, args)
	if err != nil {
		return nil, err
	}
	var out []target
	for _, t := range ts {
		if t.name != "" {
			out = append(out, t)
			continue
		}
		if o.labels == "" && o.fields == "" && !o.all {
			return nil, errors.New("resource(s) were provided, but no name was specified; add a name, -l, --field-selector or --all")
		}
		if o.allNamespaces {
			t.namespace = ""
		}
		items, _, err := s.server.List(ctx, t.info, &apiv1.ListRequest{Ref: api.Ref(t.info, t.namespace, ""), LabelSelector: o.labels, FieldSelector: o.fields})
		if err != nil {
			return nil, err
		}
		for _, u := range items {
			out = append(out, target{info: t.info, namespace: u.GetNamespace(), name: u.GetName()})
		}
	}
	if len(out) == 0 {
		fmt.Fprintln(s.out, "No resources found")
	}
	return out, nil
}

// deleted is an object that was asked to go; uid is empty if it is gone or never was.
type deleted struct {
	target
	uid string
}

func (s *session) deleteOne(ctx context.Context, t target, o deleteOptions, opts *apiv1.DeleteOptions) (deleted, error) {
	resp := &apiv1.DeleteResponse{}
	if o.dry != dryClient {
		var err error
		resp, err = s.server.Delete(ctx, &apiv1.DeleteRequest{Ref: api.Ref(t.info, t.namespace, t.name), Options: opts})
		if ignoreAbsent(err, o.ignoreAbsent) {
			return deleted{}, nil
		}
		if err != nil {
			return deleted{}, err
		}
	}
	verb := "deleted"
	if o.force && o.grace == 0 {
		verb = "force deleted"
	}
	verb += o.dry.suffix()
	switch {
	case o.output == "name":
		fmt.Fprintln(s.out, t)
	case t.info.Namespaced:
		fmt.Fprintf(s.out, "%s %q %s from %s namespace\n", kindWord(t.info), t.name, verb, t.namespace)
	default:
		fmt.Fprintf(s.out, "%s %q %s\n", kindWord(t.info), t.name, verb)
	}
	if resp.Deleted || resp.Object == nil {
		return deleted{}, nil
	}
	u, err := api.Decode(t.info, resp.Object)
	if err != nil {
		return deleted{}, err
	}
	return deleted{t, string(u.GetUID())}, nil
}

func kindWord(i *apiv1.ResourceInfo) string {
	if i.Group == "" {
		return i.Singular
	}
	return i.Singular + "." + i.Group
}

// waitGone waits until none of the objects exists any more, or exists only with another uid.
func (s *session) waitGone(ctx context.Context, ds []deleted, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	for _, d := range ds {
		if err := s.waitOneGone(ctx, d); err != nil {
			if timedOut(ctx, err) {
				return fmt.Errorf("timed out waiting for %s to be deleted; its finalizers or its node hold it, see `kctl get %s -o yaml`", d.target, d.target)
			}
			return err
		}
	}
	return nil
}

var errGone = errors.New("gone")

func (s *session) waitOneGone(ctx context.Context, d deleted) error {
	for {
		u, err := s.server.Get(ctx, d.info, d.namespace, d.name)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			if string(u.GetUID()) != d.uid {
				return nil
			}
			err = s.server.Watch(ctx, &apiv1.WatchRequest{
				Ref: api.Ref(d.info, d.namespace, ""), FieldSelector: "metadata.name=" + d.name, ResourceVersion: u.GetResourceVersion(),
			}, func(r *apiv1.WatchResponse) error {
				for _, e := range r.Events {
					if e.Type == apiv1.Event_TYPE_DELETED {
						return errGone
					}
				}
				return nil
			})
		}
		switch {
		case errors.Is(err, errGone):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !client.IsUnavailable(err) && !client.IsExpired(err):
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

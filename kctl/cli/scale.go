package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/anypb"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"bareboat.dev/kctl/api"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func (s *session) scaleCommand() *cobra.Command {
	var f fileFlags
	var selector string
	var all bool
	var w writing
	replicas, current := int64(-1), int64(-1)
	c := &cobra.Command{
		Use:     "scale TYPE/NAME… --replicas=N",
		Short:   "Set how many pods a workload has",
		Example: "  kctl scale deploy/web --replicas=3",
		RunE: func(cmd *cobra.Command, args []string) error {
			if replicas < 0 {
				return errors.New("the --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0")
			}
			targets, err := s.fileOrChosen(cmd.Context(), f, args, selector, all)
			if err != nil {
				return err
			}
			for _, t := range targets {
				if err := s.scale(cmd.Context(), t, replicas, current, w); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().Int64Var(&replicas, "replicas", -1, "how many pods are wanted")
	c.Flags().Int64Var(&current, "current-replicas", -1, "only if there are this many now")
	c.Flags().StringSliceVarP(&f.files, "filename", "f", nil, "`file`, folder or - whose objects to scale")
	c.Flags().StringVarP(&selector, "selector", "l", "", "label `selector`")
	c.Flags().BoolVar(&all, "all", false, "all objects of the type")
	w.register(c.Flags())
	return c
}

// scale writes the scale subresource; a conditional update if the current number matters.
func (s *session) scale(ctx context.Context, t target, replicas, current int64, w writing) error {
	scaleKind := &apiv1.ResourceInfo{Group: "autoscaling", Version: "v1", Kind: "Scale"}
	ref := api.Ref(t.info, t.namespace, t.name)
	ref.Subresource = "scale"
	for {
		resp, err := s.server.GetRaw(ctx, &apiv1.GetRequest{Ref: ref})
		if err != nil {
			return err
		}
		u, err := api.Decode(scaleKind, resp.Object)
		if err != nil {
			return err
		}
		if now, _, _ := unstructured.NestedInt64(u.Object, "spec", "replicas"); current >= 0 && now != current {
			return fmt.Errorf("expected replicas to be %d, was %d", current, now)
		}
		if err := unstructured.SetNestedField(u.Object, replicas, "spec", "replicas"); err != nil {
			return err
		}
		body, err := api.JSON(u)
		if err != nil {
			return err
		}
		if w.dry != dryClient {
			var resp *apiv1.UpdateResponse
			if resp, err = s.server.Update(ctx, &apiv1.UpdateRequest{Ref: ref, Object: body, Options: w.wire()}); err == nil {
				body = resp.Object
			}
		}
		if err == nil {
			return s.scaled(t, scaleKind, w, body)
		}
		if !isConflict(err) {
			return err
		}
	}
}

// scaled prints a workload that has been scaled; -o prints its scale.
func (s *session) scaled(t target, scaleKind *apiv1.ResourceInfo, w writing, scale *anypb.Any) error {
	if w.lines() || w.output == "name" {
		return s.done(t, "scaled", w, nil)
	}
	return s.done(target{info: scaleKind, namespace: t.namespace, name: t.name}, "scaled", w, scale)
}

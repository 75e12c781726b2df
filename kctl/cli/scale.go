package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"bareboat.dev/kctl/api"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func (s *session) scaleCommand() *cobra.Command {
	var f fileFlags
	var selector string
	var all bool
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
				if err := s.scale(cmd.Context(), t, replicas, current); err != nil {
					return err
				}
				fmt.Fprintf(s.out, "%s scaled\n", t)
			}
			return nil
		},
	}
	c.Flags().Int64Var(&replicas, "replicas", -1, "how many pods are wanted")
	c.Flags().Int64Var(&current, "current-replicas", -1, "only if there are this many now")
	c.Flags().StringSliceVarP(&f.files, "filename", "f", nil, "`file`, folder or - whose objects to scale")
	c.Flags().StringVarP(&selector, "selector", "l", "", "label `selector`")
	c.Flags().BoolVar(&all, "all", false, "all objects of the type")
	return c
}

// scale writes the scale subresource; a conditional update if the current number matters.
func (s *session) scale(ctx context.Context, t target, replicas, current int64) error {
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
		_, err = s.server.Update(ctx, &apiv1.UpdateRequest{Ref: ref, Object: body, Options: &apiv1.WriteOptions{FieldManager: fieldManager}})
		if !isConflict(err) {
			return err
		}
	}
}

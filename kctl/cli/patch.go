package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"

	"bareboat.dev/kctl/api"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func (s *session) patchCommand() *cobra.Command {
	var kind, patch, file, subresource string
	var from fileFlags
	var w writing
	c := &cobra.Command{
		Use:   "patch (TYPE/NAME | -f FILE) (-p PATCH | --patch-file FILE)",
		Short: "Change fields of an object",
		RunE: func(cmd *cobra.Command, args []string) error {
			data := []byte(patch)
			if file != "" {
				var err error
				if data, err = os.ReadFile(file); err != nil {
					return err
				}
			}
			if len(data) == 0 {
				return errors.New("must specify -p or --patch-file to patch")
			}
			targets, err := s.fileOrNamed(cmd.Context(), from, args)
			if err != nil {
				return err
			}
			return s.patch(cmd.Context(), targets, kind, data, subresource, w)
		},
	}
	f := c.Flags()
	f.StringVar(&kind, "type", "strategic", "strategic, merge or json")
	f.StringVarP(&patch, "patch", "p", "", "the `patch`, JSON or YAML")
	f.StringVar(&file, "patch-file", "", "`file` that holds the patch")
	f.StringVar(&subresource, "subresource", "", "patch this subresource, e.g. status or scale")
	from.register(f, "patch")
	w.register(f)
	return c
}

func (s *session) patch(ctx context.Context, targets []target, kind string, data []byte, subresource string, w writing) error {
	types := map[string]apiv1.PatchRequest_Type{
		"strategic": apiv1.PatchRequest_TYPE_STRATEGIC_MERGE, "merge": apiv1.PatchRequest_TYPE_MERGE, "json": apiv1.PatchRequest_TYPE_JSON,
	}
	t, ok := types[kind]
	if !ok {
		return fmt.Errorf("--type: %q is none of strategic, merge, json", kind)
	}
	data, err := yaml.YAMLToJSON(data)
	if err != nil {
		return fmt.Errorf("unable to parse the patch: %w", err)
	}
	for _, tg := range targets {
		ref := api.Ref(tg.info, tg.namespace, tg.name)
		ref.Subresource = subresource
		obj, unchanged, err := s.change(ctx, &apiv1.PatchRequest{Ref: ref, Type: t, Patch: data}, tg, w)
		if err != nil {
			return err
		}
		if err := s.done(tg, patchedWord(unchanged), w, obj); err != nil {
			return err
		}
	}
	return nil
}

func patchedWord(unchanged bool) string {
	if unchanged {
		return "patched (no change)"
	}
	return "patched"
}

// mergePatch makes a merge patch of an object that a command built.
func (s *session) mergePatch(ctx context.Context, t target, patch map[string]any, w writing) (*anypb.Any, error) {
	data, err := json.Marshal(patch)
	if err != nil {
		return nil, err
	}
	obj, _, err := s.change(ctx, &apiv1.PatchRequest{Ref: api.Ref(t.info, t.namespace, t.name), Type: apiv1.PatchRequest_TYPE_MERGE, Patch: data}, t, w)
	return obj, err
}

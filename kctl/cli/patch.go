package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"bareboat.dev/kctl/api"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func (s *session) patchCommand() *cobra.Command {
	var kind, patch, file, subresource, format, dryRun string
	c := &cobra.Command{
		Use:   "patch TYPE/NAME (-p PATCH | --patch-file FILE)",
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
			return s.patch(cmd.Context(), args, kind, data, subresource, format, dryRun != "none")
		},
	}
	f := c.Flags()
	f.StringVar(&kind, "type", "strategic", "strategic, merge or json")
	f.StringVarP(&patch, "patch", "p", "", "the `patch`, JSON or YAML")
	f.StringVar(&file, "patch-file", "", "`file` that holds the patch")
	f.StringVar(&subresource, "subresource", "", "patch this subresource, e.g. status or scale")
	f.StringVarP(&format, "output", "o", "", "print the result as json, yaml or name instead of a line")
	f.StringVar(&dryRun, "dry-run", "none", "none or server")
	f.Lookup("dry-run").NoOptDefVal = "server"
	return c
}

func (s *session) patch(ctx context.Context, args []string, kind string, data []byte, subresource, format string, dryRun bool) error {
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
	targets, err := s.named(ctx, args)
	if err != nil {
		return err
	}
	for _, tg := range targets {
		ref := api.Ref(tg.info, tg.namespace, tg.name)
		ref.Subresource = subresource
		opts := &apiv1.WriteOptions{FieldManager: fieldManager, DryRun: dryRun}
		resp, err := s.server.Patch(ctx, &apiv1.PatchRequest{Ref: ref, Type: t, Patch: data, Options: opts})
		if err != nil {
			return err
		}
		s.warn(resp.Warnings)
		if err := s.result(tg, patchedWord(resp)+dryRunSuffix(opts), format, resp.Object); err != nil {
			return err
		}
	}
	return nil
}

func patchedWord(resp *apiv1.PatchResponse) string {
	if resp.Unchanged {
		return "patched (no change)"
	}
	return "patched"
}

// mergePatch sends a merge patch of an object that a command built.
func (s *session) mergePatch(ctx context.Context, t target, patch map[string]any) (*apiv1.PatchResponse, error) {
	data, err := json.Marshal(patch)
	if err != nil {
		return nil, err
	}
	return s.server.Patch(ctx, &apiv1.PatchRequest{
		Ref: api.Ref(t.info, t.namespace, t.name), Type: apiv1.PatchRequest_TYPE_MERGE, Patch: data,
		Options: &apiv1.WriteOptions{FieldManager: fieldManager},
	})
}

// labelCommand is `label` and `annotate`: KEY=VALUE sets, KEY- removes.
func (s *session) labelCommand(verb string) *cobra.Command {
	field, word := "labels", "labeled"
	if verb == "annotate" {
		field, word = "annotations", "annotated"
	}
	var overwrite, all bool
	var selector string
	c := &cobra.Command{
		Use:   verb + " TYPE/NAME KEY=VALUE… KEY-…",
		Short: "Set or remove " + field + " of objects",
		RunE: func(cmd *cobra.Command, args []string) error {
			names, changes := splitChanges(args)
			if len(changes) == 0 {
				return fmt.Errorf("at least one change is required: KEY=VALUE sets, KEY- removes")
			}
			targets, err := s.chosen(cmd.Context(), names, selector, all)
			if err != nil {
				return err
			}
			for _, t := range targets {
				if err := s.changeMap(cmd.Context(), t, field, changes, overwrite); err != nil {
					return err
				}
				fmt.Fprintf(s.out, "%s %s\n", t, word)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&overwrite, "overwrite", false, "change what is set already")
	c.Flags().BoolVar(&all, "all", false, "all objects of the type")
	c.Flags().StringVarP(&selector, "selector", "l", "", "label `selector`")
	return c
}

// splitChanges parts the object names from the changes: the first argument with "=" or a trailing "-" begins the changes.
func splitChanges(args []string) (names, changes []string) {
	for i, a := range args {
		if strings.Contains(a, "=") || strings.HasSuffix(a, "-") {
			return args[:i], args[i:]
		}
	}
	return args, nil
}

func (s *session) changeMap(ctx context.Context, t target, field string, changes []string, overwrite bool) error {
	u, err := s.server.Get(ctx, t.info, t.namespace, t.name)
	if err != nil {
		return err
	}
	old := u.GetLabels()
	if field == "annotations" {
		old = u.GetAnnotations()
	}
	set := map[string]any{}
	for _, c := range changes {
		key, value, ok := strings.Cut(c, "=")
		if !ok {
			set[strings.TrimSuffix(c, "-")] = nil
			continue
		}
		if was, has := old[key]; has && was != value && !overwrite {
			return fmt.Errorf("%q already has a value (%s), and --overwrite is false", key, was)
		}
		set[key] = value
	}
	_, err = s.mergePatch(ctx, t, map[string]any{"metadata": map[string]any{field: set, "resourceVersion": u.GetResourceVersion()}})
	return err
}

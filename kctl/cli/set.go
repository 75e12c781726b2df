package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"bareboat.dev/kctl/api"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func (s *session) setCommand() *cobra.Command {
	c := &cobra.Command{Use: "set", Short: "Change images and environments of workloads"}
	c.AddCommand(s.setSubcommand("image", "CONTAINER=IMAGE…", "Change the images of a workload's containers; * is every container", "image updated", setImage),
		s.setSubcommand("env", "NAME=VALUE… NAME-…", "Set or remove variables in every container of a workload", "env updated", setEnv))
	return c
}

// setSubcommand changes the containers of objects by KEY=VALUE arguments. A change writes a conditional update, so that containers
// that somebody else added meanwhile are not lost.
func (s *session) setSubcommand(use, args, short, done string, change func(containers []map[string]any, changes []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " TYPE/NAME " + args, Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			names, changes := splitChanges(args)
			if len(changes) == 0 {
				return fmt.Errorf("at least one change is required: see `kctl set %s --help`", use)
			}
			targets, err := s.named(cmd.Context(), names)
			if err != nil {
				return err
			}
			for _, t := range targets {
				if err := s.setContainers(cmd.Context(), t, changes, change); err != nil {
					return fmt.Errorf("%s: %w", t, err)
				}
				fmt.Fprintf(s.out, "%s %s\n", t, done)
			}
			return nil
		},
	}
}

func (s *session) setContainers(ctx context.Context, t target, changes []string, change func([]map[string]any, []string) error) error {
	for {
		u, err := s.server.Get(ctx, t.info, t.namespace, t.name)
		if err != nil {
			return err
		}
		containers := containersOf(u)
		if len(containers) == 0 {
			return fmt.Errorf("a %s has no containers", t.info.Kind)
		}
		if err := change(containers, changes); err != nil {
			return err
		}
		body, err := api.JSON(u)
		if err != nil {
			return err
		}
		_, err = s.server.Update(ctx, &apiv1.UpdateRequest{Ref: api.Ref(t.info, t.namespace, t.name), Object: body, Options: &apiv1.WriteOptions{FieldManager: fieldManager}})
		if !isConflict(err) {
			return err
		}
	}
}

// containersOf are the containers, init containers last, of a pod, of a workload's template, or of a cron job's.
func containersOf(u *unstructured.Unstructured) []map[string]any {
	var out []map[string]any
	for _, path := range [][]string{{"spec"}, {"spec", "template", "spec"}, {"spec", "jobTemplate", "spec", "template", "spec"}} {
		var at any = u.Object
		for _, field := range path {
			m, _ := at.(map[string]any)
			at = m[field]
		}
		spec, _ := at.(map[string]any)
		for _, field := range []string{"containers", "initContainers"} {
			list, _ := spec[field].([]any)
			for _, item := range list {
				if m, ok := item.(map[string]any); ok {
					out = append(out, m)
				}
			}
		}
	}
	return out
}

func setImage(containers []map[string]any, changes []string) error {
	for _, c := range changes {
		name, image, ok := strings.Cut(c, "=")
		if !ok || image == "" {
			return fmt.Errorf("%q is not CONTAINER=IMAGE", c)
		}
		found := false
		for _, container := range containers {
			if name == "*" || container["name"] == name {
				container["image"], found = image, true
			}
		}
		if !found {
			return fmt.Errorf("unable to find container named %q", name)
		}
	}
	return nil
}

func setEnv(containers []map[string]any, changes []string) error {
	for _, c := range changes {
		name, value, set := strings.Cut(c, "=")
		if !set {
			name = strings.TrimSuffix(name, "-")
		}
		if name == "" {
			return fmt.Errorf("%q is not NAME=VALUE or NAME-", c)
		}
		for _, container := range containers {
			env, _ := container["env"].([]any)
			at := slices.IndexFunc(env, func(e any) bool { m, _ := e.(map[string]any); return m["name"] == name })
			switch entry := map[string]any{"name": name, "value": value}; {
			case set && at >= 0:
				env[at] = entry
			case set:
				env = append(env, entry)
			case at >= 0:
				env = slices.Delete(env, at, at+1)
			}
			container["env"] = env
		}
	}
	return nil
}

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/anypb"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"bareboat.dev/kctl/api"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func (s *session) setCommand() *cobra.Command {
	c := &cobra.Command{Use: "set", Short: "Change images, environments, resources and identities of workloads"}
	c.AddCommand(
		s.setSubcommand(setting{use: "image", args: "CONTAINER=IMAGE…", short: "Change the images of a workload's containers; * is every container", done: "image updated", change: setImage}),
		s.setSubcommand(setting{use: "env", args: "NAME=VALUE… NAME-…", short: "Set or remove variables in every container of a workload", done: "env updated", change: setEnv}),
		s.setResourcesCommand(), s.setServiceAccountCommand(), s.setSelectorCommand(), s.setSubjectCommand(),
	)
	return c
}

// setting is a subcommand of set: a change of objects by its arguments, and what is printed when it is done.
type setting struct {
	use, args, short, done string
	// change makes the changes in the containers of an object.
	change func(containers []map[string]any, changes []string) error
}

// setSubcommand changes the containers of objects by KEY=VALUE arguments.
func (s *session) setSubcommand(is setting) *cobra.Command {
	return s.setter(is, nil, func(args []string) ([]string, func(*unstructured.Unstructured) error, error) {
		names, changes := splitChanges(args)
		if len(changes) == 0 {
			return nil, nil, fmt.Errorf("at least one change is required: see `kctl set %s --help`", is.use)
		}
		return names, inContainers(func(containers []map[string]any) error { return is.change(containers, changes) }), nil
	})
}

// setter makes a subcommand of set. parse parts its arguments into objects' names and the change.
func (s *session) setter(is setting, flags func(*pflag.FlagSet), parse func(args []string) ([]string, func(*unstructured.Unstructured) error, error)) *cobra.Command {
	var f fileFlags
	var w writing
	var selector string
	var all bool
	c := &cobra.Command{
		Use: strings.TrimSpace(is.use + " TYPE/NAME " + is.args), Short: is.short,
		RunE: func(cmd *cobra.Command, args []string) error {
			names, change, err := parse(args)
			if err != nil {
				return err
			}
			targets, err := s.fileOrChosen(cmd.Context(), f, names, selector, all)
			if err != nil {
				return err
			}
			for _, t := range targets {
				obj, err := s.set(cmd.Context(), t, change, w)
				if err != nil {
					return fmt.Errorf("%s: %w", t, err)
				}
				if err := s.done(t, is.done, w, obj); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringSliceVarP(&f.files, "filename", "f", nil, "`file`, folder or - whose objects to change")
	c.Flags().StringVarP(&selector, "selector", "l", "", "label `selector`")
	c.Flags().BoolVar(&all, "all", false, "all objects of the type")
	w.register(c.Flags())
	if flags != nil {
		flags(c.Flags())
	}
	return c
}

// set changes one object. It is a conditional update, so that what somebody else added to a list meanwhile is not lost.
func (s *session) set(ctx context.Context, t target, change func(*unstructured.Unstructured) error, w writing) (*anypb.Any, error) {
	for {
		u, err := s.server.Get(ctx, t.info, t.namespace, t.name)
		if err != nil {
			return nil, err
		}
		if err := change(u); err != nil {
			return nil, err
		}
		body, err := api.JSON(u)
		if err != nil || w.dry == dryClient {
			return body, err
		}
		resp, err := s.server.Update(ctx, &apiv1.UpdateRequest{Ref: api.Ref(t.info, t.namespace, t.name), Object: body, Options: w.wire()})
		if !isConflict(err) {
			return resp.GetObject(), err
		}
	}
}

// inContainers is a change of an object's containers.
func inContainers(change func([]map[string]any) error) func(*unstructured.Unstructured) error {
	return func(u *unstructured.Unstructured) error {
		containers := containersOf(u)
		if len(containers) == 0 {
			return fmt.Errorf("a %s has no containers", u.GetKind())
		}
		return change(containers)
	}
}

// podSpecs are where the pod's spec is in a pod, in a workload's template, and in a cron job's.
var podSpecs = [][]string{{"spec", "jobTemplate", "spec", "template", "spec"}, {"spec", "template", "spec"}, {"spec"}}

// podSpec is an object's pod spec, nil if it has none.
func podSpec(u *unstructured.Unstructured) map[string]any {
	for _, path := range podSpecs {
		var at any = u.Object
		for _, field := range path {
			m, _ := at.(map[string]any)
			at = m[field]
		}
		if spec, ok := at.(map[string]any); ok && spec["containers"] != nil {
			return spec
		}
	}
	return nil
}

// containersOf are the containers, init containers last, of a pod, of a workload's template, or of a cron job's.
func containersOf(u *unstructured.Unstructured) []map[string]any {
	var out []map[string]any
	spec := podSpec(u)
	for _, field := range []string{"containers", "initContainers"} {
		list, _ := spec[field].([]any)
		for _, item := range list {
			if m, ok := item.(map[string]any); ok {
				out = append(out, m)
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

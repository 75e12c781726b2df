package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bareboat.dev/kctl/api"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

const (
	// completionLimit bounds what a shell waits for after a tab: an answer later than that is of no use.
	completionLimit = 2 * time.Second
	// maxCompletions is how many names are offered; a shell shows no more than a screen of them.
	maxCompletions = 500
)

// completeWords makes tab offer what the server has: types, then names of that type, or TYPE/NAME.
func (s *session) completeWords(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionLimit)
	defer cancel()
	if kind, _, slash := strings.Cut(word, "/"); slash {
		return prefixed(s.names(ctx, kind), kind+"/"), cobra.ShellCompDirectiveNoFileComp
	}
	if len(args) == 0 {
		return s.types(ctx), cobra.ShellCompDirectiveNoFileComp
	}
	if strings.Contains(args[0], "/") {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.DeleteFunc(s.names(ctx, args[0]), func(n string) bool { return slices.Contains(args[1:], n) }), cobra.ShellCompDirectiveNoFileComp
}

// completeTypes offers types only.
func (s *session) completeTypes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionLimit)
	defer cancel()
	return s.types(ctx), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// completePods offers pods, and names of other types after a slash.
func (s *session) completePods(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if strings.Contains(word, "/") {
		return s.completeWords(cmd, nil, word)
	}
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionLimit)
	defer cancel()
	return s.names(ctx, "pods"), cobra.ShellCompDirectiveNoFileComp
}

// completeNames offers the names of one type.
func (s *session) completeNames(kind string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionLimit)
		defer cancel()
		return slices.DeleteFunc(s.names(ctx, kind), func(n string) bool { return slices.Contains(args, n) }), cobra.ShellCompDirectiveNoFileComp
	}
}

func prefixed(words []string, prefix string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = prefix + w
	}
	return out
}

func (s *session) types(ctx context.Context) []string {
	server, err := s.connect()
	if err != nil {
		return nil
	}
	infos, err := server.Infos(ctx)
	if err != nil {
		return nil
	}
	var out []string
	for _, i := range infos {
		if i.Preferred {
			out = append(out, i.Resource)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// names lists the objects of a type by name; an error offers nothing, since a completion has nowhere to say it.
func (s *session) names(ctx context.Context, kind string) []string {
	server, err := s.connect()
	if err != nil {
		return nil
	}
	infos, err := server.Resolve(ctx, kind)
	if err != nil {
		return nil
	}
	var out []string
	req := &apiv1.ListRequest{Ref: api.Ref(infos[0], s.namespace, ""), View: apiv1.View_VIEW_TABLE}
	_ = server.ListRaw(ctx, req, func(r *apiv1.ListResponse) error {
		for _, row := range r.GetTable().GetRows() {
			if len(out) < maxCompletions {
				out = append(out, row.Name)
			}
		}
		return nil
	})
	return out
}

// registerCompletions gives every command its completion by what its arguments are.
func (s *session) registerCompletions(root *cobra.Command) {
	byCommand := map[string]cobra.CompletionFunc{}
	for _, c := range []string{"get", "describe", "delete", "edit", "patch", "label", "annotate", "scale", "wait", "tree", "why", "expose", "autoscale", "rollout status", "rollout history", "rollout undo", "rollout restart", "rollout pause", "rollout resume", "set image", "set env", "set resources", "set serviceaccount", "set selector", "set subject"} {
		byCommand[c] = s.completeWords
	}
	for _, c := range []string{"logs", "exec", "attach", "debug", "port-forward"} {
		byCommand[c] = s.completePods
	}
	for _, c := range []string{"cordon", "uncordon", "drain", "top nodes"} {
		byCommand[c] = s.completeNames("nodes")
	}
	byCommand["top pods"] = s.completeNames("pods")
	for _, c := range []string{"certificate approve", "certificate deny"} {
		byCommand[c] = s.completeNames("certificatesigningrequests")
	}
	byCommand["create token"] = s.completeNames("serviceaccounts")
	byCommand["explain"] = s.completeTypes
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if fn := byCommand[strings.TrimPrefix(c.CommandPath(), "kctl ")]; fn != nil {
			c.ValidArgsFunction = fn
		}
		if f := c.Flags().Lookup("output"); f != nil && c.Name() == "get" {
			_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "yaml", "name", "wide", "jsonpath=", "go-template=", "custom-columns="}, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	_ = root.RegisterFlagCompletionFunc("namespace", s.completeNames("namespaces"))
}

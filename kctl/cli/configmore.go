package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// configNames is `config get-clusters` and `config get-users`.
func (s *session) configNames(list, field string) *cobra.Command {
	return &cobra.Command{
		Use: "get-" + list, Short: "List the " + list, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			f, err := s.configFile()
			if err != nil {
				return err
			}
			names, _ := f.named(list, field)
			fmt.Fprintln(s.out, "NAME")
			for _, name := range names {
				fmt.Fprintln(s.out, name)
			}
			return nil
		},
	}
}

// configDelete is `config delete-context`, `delete-cluster` and `delete-user`.
func (s *session) configDelete(field string) *cobra.Command {
	return &cobra.Command{
		Use: "delete-" + field + " NAME", Short: "Remove a " + field + " from the kubeconfig", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := s.configFile()
			if err != nil {
				return err
			}
			list := field + "s"
			if !f.drop(list, args[0]) {
				return fmt.Errorf("cannot delete %s %s, not in %s", field, args[0], f.path)
			}
			if err := f.save(); err != nil {
				return err
			}
			if field == "context" && f.current() == args[0] {
				fmt.Fprintln(s.err, "warning: this removed your active context, use \"kctl config use-context\" to select a different one")
			}
			fmt.Fprintf(s.out, "deleted %s %s from %s\n", field, args[0], f.path)
			return nil
		},
	}
}

// configRename is `config rename-context`.
func (s *session) configRename() *cobra.Command {
	return &cobra.Command{
		Use: "rename-context NAME NEW-NAME", Short: "Rename a context", Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := s.configFile()
			if err != nil {
				return err
			}
			names, contexts := f.named("contexts", "context")
			switch {
			case contexts[args[0]] == nil:
				return fmt.Errorf("cannot rename the context %q, it's not in %s; there are: %s", args[0], f.path, strings.Join(names, ", "))
			case contexts[args[1]] != nil:
				return fmt.Errorf("cannot rename the context %q, the context %q already exists in %s", args[0], args[1], f.path)
			}
			items, _ := f.tree["contexts"].([]any)
			for _, item := range items {
				if m, _ := item.(map[string]any); m["name"] == args[0] {
					m["name"] = args[1]
				}
			}
			if f.current() == args[0] {
				f.tree["current-context"] = args[1]
			}
			if err := f.save(); err != nil {
				return err
			}
			fmt.Fprintf(s.out, "Context %q renamed to %q.\n", args[0], args[1])
			return nil
		},
	}
}

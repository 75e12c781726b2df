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

func (s *session) treeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "tree TYPE/NAME", Short: "Show an object with everything that it owns",
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, err := s.named(cmd.Context(), args)
			if err != nil {
				return err
			}
			for _, t := range targets {
				if err := s.tree(cmd.Context(), t); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// owned is one object of the namespace with its resource.
type owned struct {
	info *apiv1.ResourceInfo
	*unstructured.Unstructured
}

func (s *session) tree(ctx context.Context, t target) error {
	root, err := s.server.Get(ctx, t.info, t.namespace, t.name)
	if err != nil {
		return err
	}
	infos, err := s.server.Infos(ctx)
	if err != nil {
		return err
	}
	children := map[string][]owned{}
	for _, i := range infos {
		if !i.Preferred || !slices.Contains(i.Verbs, "list") || !i.Namespaced {
			continue
		}
		items, _, err := s.server.List(ctx, i, &apiv1.ListRequest{Ref: api.Ref(i, t.namespace, "")})
		if err != nil {
			return err
		}
		for _, u := range items {
			for _, o := range u.GetOwnerReferences() {
				children[string(o.UID)] = append(children[string(o.UID)], owned{i, u})
			}
		}
	}
	fmt.Fprintln(s.out, t)
	s.printChildren(children, string(root.GetUID()), "")
	return nil
}

func (s *session) printChildren(children map[string][]owned, uid, indent string) {
	list := children[uid]
	slices.SortFunc(list, func(a, b owned) int {
		return strings.Compare(api.FullName(a.info, a.GetName()), api.FullName(b.info, b.GetName()))
	})
	for n, c := range list {
		branch, below := "├─ ", "│  "
		if n == len(list)-1 {
			branch, below = "└─ ", "   "
		}
		fmt.Fprintf(s.out, "%s%s%s\n", indent, branch, api.FullName(c.info, c.GetName()))
		s.printChildren(children, string(c.GetUID()), indent+below)
	}
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/kctl/api"
	"bareboat.dev/kctl/output"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

func (s *session) authCommand() *cobra.Command {
	c := &cobra.Command{Use: "auth", Short: "Ask who you are and what you may do"}
	c.AddCommand(s.canICommand(), s.whoAmICommand())
	return c
}

func (s *session) canICommand() *cobra.Command {
	var allNamespaces, quiet, list, noHeaders bool
	var subresource string
	c := &cobra.Command{
		Use: "can-i (VERB TYPE[/NAME] | VERB /PATH | --list)", Short: "Ask whether you may do something; the exit code is 1 for no",
		Args: func(_ *cobra.Command, args []string) error {
			if list && len(args) > 0 {
				return errors.New("list option must be specified with no arguments")
			}
			if !list && len(args) != 2 {
				return errors.New("you must specify two arguments: verb resource or verb resource/resourceName")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := s.connect(); err != nil {
				return err
			}
			if list {
				return s.listAccess(cmd.Context(), noHeaders)
			}
			spec, err := s.accessSpec(cmd.Context(), args[0], args[1], subresource, allNamespaces)
			if err != nil {
				return err
			}
			review, err := s.ask(cmd.Context(), "authorization.k8s.io/v1", "SelfSubjectAccessReview", spec)
			if err != nil {
				return err
			}
			allowed, _, _ := unstructured.NestedBool(review.Object, "status", "allowed")
			if !quiet {
				fmt.Fprintln(s.out, map[bool]string{true: "yes", false: "no"}[allowed])
			}
			if !allowed {
				return &exitError{code: 1}
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&allNamespaces, "all-namespaces", "A", false, "in every namespace")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "answer by the exit code only")
	c.Flags().BoolVar(&list, "list", false, "print all that you may do in the namespace")
	c.Flags().BoolVar(&noHeaders, "no-headers", false, "with --list, leave the headers out")
	c.Flags().StringVar(&subresource, "subresource", "", "a `subresource` such as log or scale")
	return c
}

// accessSpec is the question of a SelfSubjectAccessReview.
func (s *session) accessSpec(ctx context.Context, verb, what, subresource string, allNamespaces bool) (map[string]any, error) {
	if strings.HasPrefix(what, "/") {
		return map[string]any{"nonResourceAttributes": map[string]any{"verb": verb, "path": what}}, nil
	}
	word, name, _ := strings.Cut(what, "/")
	attributes := map[string]any{"verb": verb, "resource": word, "name": name, "subresource": subresource}
	if word != "*" {
		infos, err := s.server.Resolve(ctx, word)
		if err != nil {
			return nil, err
		}
		attributes["group"], attributes["resource"] = infos[0].Group, infos[0].Resource
		if !infos[0].Namespaced {
			allNamespaces = true
		}
	} else {
		attributes["group"] = "*"
	}
	if !allNamespaces {
		attributes["namespace"] = s.namespace
	}
	return map[string]any{"resourceAttributes": attributes}, nil
}

func (s *session) whoAmICommand() *cobra.Command {
	var how printing
	c := &cobra.Command{
		Use: "whoami", Short: "Print the user and groups that the server takes you for", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := s.connect(); err != nil {
				return err
			}
			review, err := s.ask(cmd.Context(), "authentication.k8s.io/v1", "SelfSubjectReview", nil)
			if err != nil {
				return err
			}
			if !how.lines() {
				p, err := how.printer()
				if err != nil {
					return err
				}
				return p.Print(s.out, review)
			}
			return s.printUser(review)
		},
	}
	how.register(c.Flags(), "print the answer: "+output.Formats)
	return c
}

// printUser prints who the server takes the caller for.
func (s *session) printUser(review *unstructured.Unstructured) error {
	user := func(field string) string {
		v, _, _ := unstructured.NestedString(review.Object, "status", "userInfo", field)
		return v
	}
	groups, _, _ := unstructured.NestedStringSlice(review.Object, "status", "userInfo", "groups")
	extra, _, _ := unstructured.NestedMap(review.Object, "status", "userInfo", "extra")
	tw := tabwriter.NewWriter(s.out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(tw, "ATTRIBUTE\tVALUE")
	fmt.Fprintf(tw, "Username\t%s\n", user("username"))
	if uid := user("uid"); uid != "" {
		fmt.Fprintf(tw, "UID\t%s\n", uid)
	}
	fmt.Fprintf(tw, "Groups\t%v\n", groups)
	for _, key := range slices.Sorted(maps.Keys(extra)) {
		fmt.Fprintf(tw, "Extra: %s\t%v\n", key, extra[key])
	}
	return tw.Flush()
}

// listAccess prints the rules that the server says apply to the caller in the namespace.
func (s *session) listAccess(ctx context.Context, noHeaders bool) error {
	review, err := s.ask(ctx, "authorization.k8s.io/v1", "SelfSubjectRulesReview", map[string]any{"namespace": s.namespace})
	if err != nil {
		return err
	}
	var answer authorizationv1.SelfSubjectRulesReview
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(review.Object, &answer); err != nil {
		return err
	}
	if answer.Status.Incomplete {
		fmt.Fprintln(s.err, "warning: the list may be incomplete: "+answer.Status.EvaluationError)
	}
	tw := tabwriter.NewWriter(s.out, 0, 8, 3, ' ', 0)
	if !noHeaders {
		fmt.Fprintln(tw, "Resources\tNon-Resource URLs\tResource Names\tVerbs")
	}
	for _, row := range accessRows(answer.Status) {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}

// accessRows is a row for every resource and names that rules allow something on, in order, and then one for every path.
func accessRows(status authorizationv1.SubjectRulesReviewStatus) [][]string {
	verbs := newGroups() // by the first three columns
	for _, rule := range status.ResourceRules {
		for _, group := range rule.APIGroups {
			for _, name := range rule.Resources {
				if group != "" {
					name += "." + group
				}
				row := name + "\t[]\t" + fmt.Sprint(rule.ResourceNames)
				for _, v := range rule.Verbs {
					if !slices.Contains(verbs.of[row], any(v)) {
						verbs.add(row, v)
					}
				}
			}
		}
	}
	var rows [][]string
	for _, row := range slices.Sorted(slices.Values(verbs.order)) {
		rows = append(rows, []string{row, fmt.Sprint(verbs.of[row])})
	}
	for _, rule := range status.NonResourceRules {
		for _, url := range rule.NonResourceURLs {
			rows = append(rows, []string{"\t[" + url + "]\t[]", fmt.Sprint(rule.Verbs)})
		}
	}
	return rows
}

// ask creates an object that is answered and never stored.
func (s *session) ask(ctx context.Context, apiVersion, kind string, spec map[string]any) (*unstructured.Unstructured, error) {
	info, err := s.server.ForKind(ctx, schema.FromAPIVersionAndKind(apiVersion, kind))
	if err != nil {
		return nil, err
	}
	return s.askAt(ctx, info, api.Ref(info, "", ""), spec)
}

// askAt is ask at a place of its own, such as a subresource. The question is of the kind that answer describes.
func (s *session) askAt(ctx context.Context, answer *apiv1.ResourceInfo, ref *apiv1.ResourceRef, spec map[string]any) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{Object: object(groupVersion(answer), answer.Kind)}
	if spec != nil {
		u.Object["spec"] = spec
	}
	body, err := api.JSON(u)
	if err != nil {
		return nil, err
	}
	resp, err := s.server.Create(ctx, &apiv1.CreateRequest{Ref: ref, Object: body})
	if err != nil {
		return nil, err
	}
	return api.Decode(answer, resp.Object)
}

// createToken asks for a token of a service account; it is printed alone, for scripts.
func (s *session) createToken() *cobra.Command {
	var audiences []string
	var duration time.Duration
	var boundKind, boundName, boundUID string
	c := &cobra.Command{
		Use: "token SERVICEACCOUNT", Short: "Ask for a token of a service account", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := s.connect()
			if err != nil {
				return err
			}
			spec := map[string]any{}
			if len(audiences) > 0 {
				spec["audiences"] = anyList(audiences)
			}
			if duration > 0 {
				spec["expirationSeconds"] = int64(duration / time.Second)
			}
			bound, err := boundObject(boundKind, boundName, boundUID)
			if err != nil {
				return err
			}
			if bound != nil {
				spec["boundObjectRef"] = bound
			}
			account, err := server.ForKind(cmd.Context(), schema.GroupVersionKind{Version: "v1", Kind: "ServiceAccount"})
			if err != nil {
				return err
			}
			ref := api.Ref(account, s.namespace, args[0])
			ref.Subresource = "token"
			request, err := s.askAt(cmd.Context(), &apiv1.ResourceInfo{Group: "authentication.k8s.io", Version: "v1", Kind: "TokenRequest"}, ref, spec)
			if err != nil {
				return err
			}
			token, _, _ := unstructured.NestedString(request.Object, "status", "token")
			fmt.Fprintln(s.out, token)
			return nil
		},
	}
	c.Flags().StringSliceVar(&audiences, "audience", nil, "whom the token is for; default the API server")
	c.Flags().StringVar(&boundKind, "bound-object-kind", "", "`kind` of an object with which the token ends: Pod, Secret or Node")
	c.Flags().StringVar(&boundName, "bound-object-name", "", "its `name`")
	c.Flags().StringVar(&boundUID, "bound-object-uid", "", "its `uid`")
	c.Flags().DurationVar(&duration, "duration", 0, "how long the token lives, at least 10m; default an hour")
	return c
}

// boundObject is the object with which a token ends, nil for none.
func boundObject(kind, name, uid string) (map[string]any, error) {
	known := slices.Contains([]string{"Node", "Pod", "Secret"}, kind)
	switch {
	case kind == "" && name == "" && uid == "":
		return nil, nil
	case kind == "":
		return nil, errors.New("--bound-object-kind is required if --bound-object-name or --bound-object-uid is specified")
	case !known:
		return nil, fmt.Errorf("supported --bound-object-kind values are Node, Pod, Secret: %q", kind)
	case name == "":
		return nil, errors.New("--bound-object-name is required if --bound-object-kind is specified")
	}
	out := map[string]any{"kind": kind, "apiVersion": "v1", "name": name}
	if uid != "" {
		out["uid"] = uid
	}
	return out, nil
}

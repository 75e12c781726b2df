package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func (s *session) setResourcesCommand() *cobra.Command {
	var containers, limits, requests string
	is := setting{use: "resources", args: "[--limits=cpu=1,memory=1Gi] [--requests=…]", short: "Change what a workload's containers may and must have", done: "resource requirements updated"}
	return s.setter(is, func(f *pflag.FlagSet) {
		f.StringVarP(&containers, "containers", "c", "*", "`name` of the container; * is every container")
		f.StringVar(&limits, "limits", "", "most that a container may use, as `RESOURCE=QUANTITY,…`; 0 removes one")
		f.StringVar(&requests, "requests", "", "what a container must have, as `RESOURCE=QUANTITY,…`; 0 removes one")
	}, func(args []string) ([]string, func(*unstructured.Unstructured) error, error) {
		if limits == "" && requests == "" {
			return nil, nil, errors.New("you must specify an update to requests or limits (in the form of --requests/--limits)")
		}
		most, err := quantities("--limits", limits)
		if err != nil {
			return nil, nil, err
		}
		least, err := quantities("--requests", requests)
		if err != nil {
			return nil, nil, err
		}
		return args, inContainers(func(all []map[string]any) error { return setResources(all, containers, most, least) }), nil
	})
}

// quantities reads cpu=1,memory=1Gi.
func quantities(flag, text string) (map[string]any, error) {
	out := map[string]any{}
	if text == "" {
		return out, nil
	}
	for pair := range strings.SplitSeq(text, ",") {
		name, amount, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%s: %q is not RESOURCE=QUANTITY", flag, pair)
		}
		q, err := resource.ParseQuantity(amount)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", flag, pair, err)
		}
		out[name] = q.String()
	}
	return out, nil
}

func setResources(containers []map[string]any, name string, limits, requests map[string]any) error {
	found := false
	for _, c := range containers {
		if name != "*" && c["name"] != name {
			continue
		}
		found = true
		have, _ := c["resources"].(map[string]any)
		if have == nil {
			have = map[string]any{}
		}
		for field, change := range map[string]map[string]any{"limits": limits, "requests": requests} {
			amounts, _ := have[field].(map[string]any)
			if amounts == nil {
				amounts = map[string]any{}
			}
			for of, amount := range change {
				amounts[of] = amount
				if amount == "0" {
					delete(amounts, of)
				}
			}
			have[field] = amounts
			if len(amounts) == 0 {
				delete(have, field)
			}
		}
		c["resources"] = have
	}
	if !found {
		return fmt.Errorf("unable to find container named %q", name)
	}
	return nil
}

// lastArgument makes a setter's parse of one whose last argument is the new value.
func lastArgument(what string, change func(u *unstructured.Unstructured, value string) error) func([]string) ([]string, func(*unstructured.Unstructured) error, error) {
	return func(args []string) ([]string, func(*unstructured.Unstructured) error, error) {
		if len(args) == 0 {
			return nil, nil, fmt.Errorf("%s is required", what)
		}
		value := args[len(args)-1]
		return args[:len(args)-1], func(u *unstructured.Unstructured) error { return change(u, value) }, nil
	}
}

func (s *session) setServiceAccountCommand() *cobra.Command {
	is := setting{use: "serviceaccount", args: "ACCOUNT", short: "Change the service account of a workload's pods", done: "serviceaccount updated"}
	c := s.setter(is, nil, lastArgument("a service account", func(u *unstructured.Unstructured, account string) error {
		spec := podSpec(u)
		if spec == nil {
			return fmt.Errorf("a %s has no pods", u.GetKind())
		}
		spec["serviceAccountName"] = account
		delete(spec, "serviceAccount") // the old name of the same field, which would otherwise differ
		return nil
	}))
	c.Aliases = []string{"sa"}
	return c
}

func (s *session) setSelectorCommand() *cobra.Command {
	is := setting{use: "selector", args: "KEY=VALUE,…", short: "Change which pods a service selects", done: "selector updated"}
	return s.setter(is, nil, lastArgument("a selector", func(u *unstructured.Unstructured, text string) error {
		selector, err := metav1.ParseToLabelSelector(text)
		if err != nil {
			return err
		}
		if len(selector.MatchExpressions) > 0 {
			return fmt.Errorf("match expression %v not supported on this object", selector.MatchExpressions)
		}
		if u.GetKind() != "Service" {
			return fmt.Errorf("the selector of a %s cannot change", u.GetKind())
		}
		return unstructured.SetNestedField(u.Object, anyMap(selector.MatchLabels), "spec", "selector")
	}))
}

func (s *session) setSubjectCommand() *cobra.Command {
	var who subjectFlags
	is := setting{use: "subject", args: "(--user=USER | --group=GROUP | --serviceaccount=NAMESPACE:NAME)", short: "Give a role binding's role to more users, groups and service accounts", done: "subjects updated"}
	return s.setter(is, who.register, func(args []string) ([]string, func(*unstructured.Unstructured) error, error) {
		subjects, err := who.subjects()
		if err != nil {
			return nil, nil, err
		}
		if len(subjects) == 0 {
			return nil, nil, errors.New("you must specify at least one value of user, group or serviceaccount")
		}
		return args, func(u *unstructured.Unstructured) error {
			if _, bound := u.Object["roleRef"]; !bound {
				return fmt.Errorf("a %s has no subjects", u.GetKind())
			}
			have, _ := u.Object["subjects"].([]any)
			for _, subject := range subjects {
				if !slices.ContainsFunc(have, func(h any) bool { return sameSubject(h, subject) }) {
					have = append(have, subject)
				}
			}
			u.Object["subjects"] = have
			return nil
		}, nil
	})
}

func sameSubject(a, b any) bool {
	x, _ := a.(map[string]any)
	y, _ := b.(map[string]any)
	return x["kind"] == y["kind"] && x["name"] == y["name"] && x["namespace"] == y["namespace"]
}

// subjectFlags name whom a role is given to.
type subjectFlags struct{ users, groups, accounts []string }

func (f *subjectFlags) register(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.users, "user", nil, "`names` of users")
	flags.StringSliceVar(&f.groups, "group", nil, "`names` of groups")
	flags.StringSliceVar(&f.accounts, "serviceaccount", nil, "service accounts as `NAMESPACE:NAME`")
}

// subjects are a role binding's.
func (f *subjectFlags) subjects() ([]any, error) {
	var out []any
	for _, of := range []struct {
		kind  string
		names []string
	}{{"User", f.users}, {"Group", f.groups}} {
		for _, n := range of.names {
			out = append(out, map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": of.kind, "name": n})
		}
	}
	for _, a := range f.accounts {
		ns, name, ok := strings.Cut(a, ":")
		if !ok || ns == "" || name == "" {
			return nil, fmt.Errorf("--serviceaccount: %q is not NAMESPACE:NAME", a)
		}
		out = append(out, map[string]any{"kind": "ServiceAccount", "namespace": ns, "name": name})
	}
	return out, nil
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/jsonpath"
)

func (s *session) waitCommand() *cobra.Command {
	var f fileFlags
	var forWhat, labels string
	var timeout time.Duration
	var all bool
	c := &cobra.Command{
		Use:   "wait (TYPE/NAME… | TYPE -l SELECTOR | -f FILE) --for=CONDITION",
		Short: "Wait until objects are in a state",
		Example: `  kctl wait pod -l app=web --for=condition=Ready
  kctl wait deploy/web --for=jsonpath='{.status.readyReplicas}'=3
  kctl wait pod/web-0 --for=delete --timeout=60s`,
		RunE: func(cmd *cobra.Command, args []string) error {
			cond, err := parseCondition(forWhat)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			if timeout >= 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, timeout)
				defer cancel()
			}
			targets, err := s.fileOrChosen(ctx, f, args, labels, all)
			if err != nil {
				return err
			}
			for _, t := range targets {
				if err := s.waitFor(ctx, t, cond); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringSliceVarP(&f.files, "filename", "f", nil, "`file`, folder or - whose objects to wait for")
	c.Flags().StringVar(&forWhat, "for", "", "delete, create, condition=NAME[=VALUE] or jsonpath='{EXPR}'[=VALUE]")
	c.Flags().StringVarP(&labels, "selector", "l", "", "label `selector`")
	c.Flags().BoolVar(&all, "all", false, "all objects of the type")
	c.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait; negative is for ever")
	return c
}

func (s *session) fileOrChosen(ctx context.Context, f fileFlags, args []string, labels string, all bool) ([]target, error) {
	if len(f.files) > 0 {
		return s.fileTargets(ctx, f)
	}
	return s.chosen(ctx, args, labels, all)
}

// condition is what wait waits for.
type condition struct {
	text string
	// deleted waits for absence, created for existence, met for a property.
	deleted, created bool
	met              func(*unstructured.Unstructured) (bool, error)
}

func parseCondition(s string) (condition, error) {
	c := condition{text: s}
	kind, arg, _ := strings.Cut(s, "=")
	switch kind {
	case "delete":
		c.deleted = true
	case "create":
		c.created = true
	case "condition":
		name, want, ok := strings.Cut(arg, "=")
		if !ok {
			want = "True"
		}
		if name == "" {
			return c, errors.New("--for: condition= needs the condition's type, e.g. condition=Ready")
		}
		c.met = func(u *unstructured.Unstructured) (bool, error) { return hasCondition(u, name, want), nil }
	case "jsonpath":
		return parseJSONPathCondition(c, arg)
	default:
		return c, fmt.Errorf("--for: %q is none of delete, create, condition=NAME[=VALUE], jsonpath='{EXPR}'[=VALUE]", s)
	}
	return c, nil
}

func parseJSONPathCondition(c condition, arg string) (condition, error) {
	end := strings.LastIndex(arg, "}")
	if end < 0 {
		return c, fmt.Errorf("--for: jsonpath: %q has no {…} around its expression", arg)
	}
	expr, want, hasWant := arg[:end+1], "", false
	if rest := arg[end+1:]; rest != "" {
		want, hasWant = strings.CutPrefix(rest, "=")
		if !hasWant || want == "" {
			return c, fmt.Errorf("--for: jsonpath: %q: what follows the expression must be =VALUE", arg)
		}
	}
	j := jsonpath.New("wait").AllowMissingKeys(true)
	if err := j.Parse(expr); err != nil {
		return c, fmt.Errorf("--for: jsonpath: %w", err)
	}
	c.met = func(u *unstructured.Unstructured) (bool, error) {
		found, err := j.FindResults(u.Object)
		if err != nil || len(found) == 0 || len(found[0]) == 0 {
			return false, err
		}
		return !hasWant || text(found[0][0].Interface()) == want, nil
	}
	return c, nil
}

// hasCondition reads status.conditions. A condition that is about an older generation does not count.
func hasCondition(u *unstructured.Unstructured, name, want string) bool {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, item := range list {
		m, _ := item.(map[string]any)
		if t, _ := m["type"].(string); !strings.EqualFold(t, name) {
			continue
		}
		if seen, ok := m["observedGeneration"].(int64); ok && seen < u.GetGeneration() {
			return false
		}
		status, _ := m["status"].(string)
		return strings.EqualFold(status, want)
	}
	return strings.EqualFold(want, "Unknown")
}

// errMet ends the follower.
var errMet = errors.New("condition met")

func (s *session) waitFor(ctx context.Context, t target, c condition) error {
	var last *unstructured.Unstructured
	err := s.waitOnce(ctx, t, c, &last)
	switch {
	case err == nil || errors.Is(err, errMet):
		fmt.Fprintf(s.out, "%s condition met\n", t)
		return nil
	case timedOut(ctx, err):
		return fmt.Errorf("timed out waiting for %s on %s%s", c.text, t, whyNot(last))
	}
	return err
}

func (s *session) waitOnce(ctx context.Context, t target, c condition, last **unstructured.Unstructured) error {
	u, err := s.server.Get(ctx, t.info, t.namespace, t.name)
	for c.created && apierrors.IsNotFound(err) {
		if err := pause(ctx); err != nil {
			return err
		}
		u, err = s.server.Get(ctx, t.info, t.namespace, t.name)
	}
	switch {
	case c.deleted && apierrors.IsNotFound(err), c.created && err == nil:
		return errMet
	case err != nil:
		return err
	case c.deleted:
		*last = u
		return s.waitOneGone(ctx, deleted{t, string(u.GetUID())})
	}
	return s.follow(ctx, t, func(u *unstructured.Unstructured) error {
		*last = u
		met, err := c.met(u)
		if met {
			return errMet
		}
		return err
	})
}

// whyNot says what an object's conditions say, since a wait that times out owes its user a reason.
func whyNot(u *unstructured.Unstructured) string {
	if u == nil {
		return ""
	}
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	var reasons []string
	for _, item := range list {
		m, _ := item.(map[string]any)
		if m["status"] == "True" || m["reason"] == nil {
			continue
		}
		reasons = append(reasons, fmt.Sprintf("%v is %v: %v", m["type"], m["status"], m["reason"]))
	}
	if len(reasons) == 0 {
		return ""
	}
	return " (" + strings.Join(reasons, "; ") + ")"
}

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
)

func (s *session) taintCommand() *cobra.Command {
	var overwrite bool
	var selector string
	var w writing
	c := &cobra.Command{
		Use:     "taint node (NAME… | -l SELECTOR) KEY[=VALUE]:EFFECT… KEY[:EFFECT]-…",
		Short:   "Set or remove taints of nodes",
		Example: "  kctl taint node host-1 gpu=yes:NoSchedule\n  kctl taint node host-1 gpu-",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 || !slices.Contains([]string{"node", "nodes", "no"}, args[0]) {
				return fmt.Errorf("only nodes have taints: kctl taint node NAME KEY=VALUE:EFFECT")
			}
			split := slices.IndexFunc(args[1:], func(a string) bool { return strings.Contains(a, ":") || strings.HasSuffix(a, "-") })
			if split < 0 {
				return fmt.Errorf("at least one taint is required: KEY=VALUE:EFFECT sets, KEY- removes")
			}
			nodes, err := s.nodeTargets(cmd.Context(), args[1:1+split], selector)
			if err != nil {
				return err
			}
			for _, t := range nodes {
				if err := s.taint(cmd.Context(), t, args[1+split:], overwrite, w); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&overwrite, "overwrite", false, "change the value of a taint that is set already")
	c.Flags().StringVarP(&selector, "selector", "l", "", "label `selector` of nodes")
	w.register(c.Flags())
	return c
}

func taintWord(changes []string) string {
	if slices.ContainsFunc(changes, func(c string) bool { return !strings.HasSuffix(c, "-") }) {
		return "tainted"
	}
	return "untainted"
}

func (s *session) taint(ctx context.Context, t target, changes []string, overwrite bool, w writing) error {
	for {
		n, err := client.Of(s.server.Client, client.Nodes()).Get(ctx, "", t.name)
		if err != nil {
			return err
		}
		taints, err := changeTaints(n.Spec.Taints, changes, overwrite)
		if err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		obj, err := s.mergePatch(ctx, t, map[string]any{"metadata": map[string]any{"resourceVersion": n.ResourceVersion}, "spec": map[string]any{"taints": taints}}, w)
		if err == nil {
			return s.done(t, taintWord(changes), w, obj)
		}
		if !isConflict(err) {
			return err
		}
	}
}

// changeTaints applies changes: KEY[=VALUE]:EFFECT sets, KEY[:EFFECT]- removes. A taint is known by its key and effect.
func changeTaints(taints []corev1.Taint, changes []string, overwrite bool) ([]corev1.Taint, error) {
	out := slices.Clone(taints)
	for _, change := range changes {
		spec, remove := strings.CutSuffix(change, "-")
		pair, effect, _ := strings.Cut(spec, ":")
		key, value, _ := strings.Cut(pair, "=")
		switch e := corev1.TaintEffect(effect); {
		case e == corev1.TaintEffectNoSchedule, e == corev1.TaintEffectPreferNoSchedule, e == corev1.TaintEffectNoExecute:
		case remove && effect == "":
		default:
			return nil, fmt.Errorf("%q: the effect %q is none of NoSchedule, PreferNoSchedule, NoExecute", change, effect)
		}
		if key == "" {
			return nil, fmt.Errorf("%q has no key; write KEY=VALUE:EFFECT", change)
		}
		is := func(t corev1.Taint) bool { return t.Key == key && (effect == "" || string(t.Effect) == effect) }
		at := slices.IndexFunc(out, is)
		switch {
		case remove && at < 0:
			return nil, fmt.Errorf("taint %q not found", spec)
		case remove:
			out = slices.DeleteFunc(out, is)
		case at >= 0 && out[at].Value != value && !overwrite:
			return nil, fmt.Errorf("already has %s taint with the same effect and --overwrite is false", out[at].ToString())
		case at >= 0:
			out[at].Value = value
		default:
			out = append(out, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)})
		}
	}
	return out, nil
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// autoscaleOptions are the flags of autoscale.
type autoscaleOptions struct {
	name        string
	least, most int64
	cpu, memory string
}

func (s *session) autoscaleCommand() *cobra.Command {
	var o autoscaleOptions
	var percent string
	var f fileFlags
	w := writeFlags{validate: "strict"}
	c := &cobra.Command{
		Use: "autoscale TYPE/NAME --max=PODS [--min=PODS] [--cpu=50%]", Short: "Let a workload's size follow its load",
		Example: "  kctl autoscale deploy/web --min=2 --max=10 --cpu=80%",
		RunE: func(cmd *cobra.Command, args []string) error {
			if percent != "" {
				o.cpu = strings.TrimSuffix(percent, "%") + "%"
			}
			if o.most < 1 {
				return fmt.Errorf("--max=MAXPODS is required and must be at least 1, max: %d", o.most)
			}
			if o.most < o.least {
				return fmt.Errorf("--max=MAXPODS must be larger or equal to --min=MINPODS, max: %d, min: %d", o.most, o.least)
			}
			targets, err := s.fileOrChosen(cmd.Context(), f, args, "", false)
			if err != nil {
				return err
			}
			for _, t := range targets {
				if err := s.autoscale(cmd.Context(), t, o, w); err != nil {
					return err
				}
			}
			return nil
		},
	}
	fs := c.Flags()
	fs.StringVar(&o.name, "name", "", "`name` of the autoscaler; default the workload's")
	fs.Int64Var(&o.least, "min", 0, "fewest pods; default 1")
	fs.Int64Var(&o.most, "max", 0, "most pods")
	fs.StringVar(&o.cpu, "cpu", "", "CPU that a pod should use: `50%` of what it requests, or a quantity such as 500m")
	fs.StringVar(&o.memory, "memory", "", "memory that a pod should use: `50%` of what it requests, or a quantity such as 200Mi")
	fs.StringVar(&percent, "cpu-percent", "", "the same as --cpu, in per cent without the sign")
	_ = fs.MarkDeprecated("cpu-percent", "use --cpu=N%")
	fs.StringSliceVarP(&f.files, "filename", "f", nil, "`file`, folder or - whose workloads to scale")
	w.writing.register(fs)
	_ = c.MarkFlagRequired("max")
	return c
}

func (s *session) autoscale(ctx context.Context, t target, o autoscaleOptions, w writeFlags) error {
	if !slices.Contains(t.info.Subresources, "scale") {
		return fmt.Errorf("cannot autoscale a %s: it has no scale", t.info.Kind)
	}
	if _, err := s.server.Get(ctx, t.info, t.namespace, t.name); err != nil {
		return err
	}
	var metrics []any
	for _, m := range []struct{ name, want string }{{"cpu", o.cpu}, {"memory", o.memory}} {
		if m.want == "" {
			continue
		}
		want, err := metricTarget(m.want)
		if err != nil {
			return fmt.Errorf("--%s: %w", m.name, err)
		}
		metrics = append(metrics, map[string]any{"type": "Resource", "resource": map[string]any{"name": m.name, "target": want}})
	}
	hpa := object("autoscaling/v2", "HorizontalPodAutoscaler")
	spec := map[string]any{
		"scaleTargetRef": map[string]any{"apiVersion": groupVersion(t.info), "kind": t.info.Kind, "name": t.name},
		"maxReplicas":    o.most,
	}
	if o.least > 0 {
		spec["minReplicas"] = o.least
	}
	if len(metrics) > 0 {
		spec["metrics"] = metrics
	}
	hpa["spec"] = spec
	name := o.name
	if name == "" {
		name = t.name
	}
	return s.createObject(ctx, w, &unstructured.Unstructured{Object: hpa}, name, "autoscaled")
}

// metricTarget is a share of what is requested, as 50% or a bare 50, or a quantity.
func metricTarget(text string) (map[string]any, error) {
	share, percent := strings.CutSuffix(text, "%")
	if n, err := strconv.ParseInt(share, 10, 32); err == nil {
		if n < 1 {
			return nil, errors.New("the share must be positive")
		}
		return map[string]any{"type": "Utilization", "averageUtilization": n}, nil
	}
	if percent {
		return nil, fmt.Errorf("%q is not a share such as 50%%", text)
	}
	q, err := quantities("value", "x="+text)
	if err != nil {
		return nil, err
	}
	return map[string]any{"type": "AverageValue", "averageValue": q["x"]}, nil
}

package cli

import (
	"cmp"
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// exposeOptions are the flags of expose.
type exposeOptions struct {
	name, targetPort, kind, protocol, clusterIP string
	selector, labels                            string
	externalIP, loadBalancerIP, affinity        string
	port                                        int64
}

func (s *session) exposeCommand() *cobra.Command {
	var o exposeOptions
	var w writeFlags
	var from fileFlags
	c := &cobra.Command{
		Use: "expose (TYPE/NAME | -f FILE) --port=PORT", Short: "Make a service for a pod or workload",
		Example: "  kctl expose deploy/web --port=80 --target-port=8080",
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, err := s.fileOrNamed(cmd.Context(), from, args)
			if err != nil {
				return err
			}
			for _, t := range targets {
				if err := s.expose(cmd.Context(), w, o, t); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.name, "name", "", "`name` of the service; default the object's")
	f.Int64Var(&o.port, "port", 0, "port of the service")
	f.StringVar(&o.targetPort, "target-port", "", "number or name of the pods' `port`; default that of --port")
	f.StringVar(&o.kind, "type", "ClusterIP", "ClusterIP, NodePort or LoadBalancer")
	f.StringVar(&o.protocol, "protocol", "TCP", "TCP or UDP")
	f.StringVar(&o.clusterIP, "cluster-ip", "", "`address` of the service, or None for a headless one")
	f.StringVar(&o.selector, "selector", "", "label `selector` of the service; default the object's own")
	f.StringVarP(&o.labels, "labels", "l", "", "`labels` of the service, e.g. app=web; default the object's")
	f.StringVar(&o.externalIP, "external-ip", "", "another `address` at which nodes take the service's traffic")
	f.StringVar(&o.loadBalancerIP, "load-balancer-ip", "", "`address` that the load balancer should have")
	f.StringVar(&o.affinity, "session-affinity", "", "None or ClientIP")
	from.register(f, "expose")
	w.writing.register(f)
	w.validate = "strict"
	_ = c.MarkFlagRequired("port")
	return c
}

func (s *session) expose(ctx context.Context, w writeFlags, o exposeOptions, t target) error {
	u, err := s.server.Get(ctx, t.info, t.namespace, t.name)
	if err != nil {
		return err
	}
	selector := cmp.Or(o.selector, labels.Set(u.GetLabels()).String())
	if o.selector == "" && t.info.Kind == "Service" {
		own, _, _ := unstructured.NestedStringMap(u.Object, "spec", "selector")
		selector = labels.Set(own).String()
	} else if o.selector == "" && t.info.Kind != "Pod" {
		if selector, err = workloadSelector(u); err != nil {
			return err
		}
	}
	match, err := metav1.ParseToLabelSelector(selector)
	if err != nil {
		return err
	}
	if len(match.MatchLabels) == 0 || len(match.MatchExpressions) > 0 {
		return fmt.Errorf("%s: a service selects by labels with one value each, and %q does not; write the service's file yourself", t, selector)
	}
	name := o.name
	if name == "" {
		name = t.name
	}
	svc := &unstructured.Unstructured{Object: serviceObject(o, anyMap(match.MatchLabels))}
	own := u.GetLabels()
	if o.labels != "" {
		if own, err = labels.ConvertSelectorToLabelsMap(o.labels); err != nil {
			return fmt.Errorf("--labels: %w", err)
		}
	}
	if len(own) > 0 {
		svc.SetLabels(own)
	}
	return s.createObject(ctx, w, svc, name, "exposed")
}

func anyMap(m map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

func serviceObject(o exposeOptions, selector map[string]any) map[string]any {
	port := map[string]any{"port": o.port, "protocol": o.protocol}
	if n, err := strconv.ParseInt(o.targetPort, 10, 32); err == nil {
		port["targetPort"] = n
	} else if o.targetPort != "" {
		port["targetPort"] = o.targetPort
	}
	spec := map[string]any{"type": o.kind, "selector": selector, "ports": []any{port}}
	if o.clusterIP != "" {
		spec["clusterIP"] = o.clusterIP
	}
	for field, value := range map[string]string{"loadBalancerIP": o.loadBalancerIP, "sessionAffinity": o.affinity} {
		if value != "" {
			spec[field] = value
		}
	}
	if o.externalIP != "" {
		spec["externalIPs"] = []any{o.externalIP}
	}
	svc := object("v1", "Service")
	svc["spec"] = spec
	return svc
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// serviceKind is a subcommand of create service.
type serviceKind struct{ use, kind, ip string }

func (s *session) createService() *cobra.Command {
	parent := &cobra.Command{Use: "service", Aliases: []string{"svc"}, Short: "Create a service that selects app=NAME"}
	for _, kind := range []serviceKind{
		{"clusterip", "ClusterIP", ""}, {"nodeport", "NodePort", ""}, {"loadbalancer", "LoadBalancer", ""}, {"externalname", "ExternalName", ""}, {"headless", "ClusterIP", "None"},
	} {
		parent.AddCommand(s.createServiceOf(kind))
	}
	return parent
}

func (s *session) createServiceOf(is serviceKind) *cobra.Command {
	var ports []string
	var nodePort int64
	var external string
	clusterIP := is.ip
	return s.builder(is.use, "Create a "+is.use+" service", func(c *cobra.Command) {
		c.Flags().StringSliceVar(&ports, "tcp", nil, "`PORT[:TARGET]`, several make a port each")
		switch is.use {
		case "clusterip":
			c.Flags().StringVar(&clusterIP, "clusterip", "", "`address` of the service, or None for a headless one")
		case "nodeport":
			c.Flags().Int64Var(&nodePort, "node-port", 0, "`port` on every node; default the next free one")
		case "externalname":
			c.Flags().StringVar(&external, "external-name", "", "DNS `name` that the service stands for")
			_ = c.MarkFlagRequired("external-name")
		}
	}, func(_ context.Context, name string) (map[string]any, error) {
		if len(ports) == 0 && external == "" && clusterIP != "None" {
			return nil, errors.New("at least one tcp port specifier must be provided")
		}
		svc := serviceObject(exposeOptions{kind: is.kind, clusterIP: clusterIP}, map[string]any{"app": name})
		svc["metadata"] = map[string]any{"labels": map[string]any{"app": name}}
		spec := svc["spec"].(map[string]any)
		delete(spec, "ports")
		if external != "" {
			spec["externalName"] = external
		}
		var list []any
		for _, p := range ports {
			port, err := servicePort(p)
			if err != nil {
				return nil, err
			}
			if nodePort > 0 {
				port["nodePort"] = nodePort
			}
			list = append(list, port)
		}
		if len(list) > 0 {
			spec["ports"] = list
		}
		return svc, nil
	})
}

func servicePort(spec string) (map[string]any, error) {
	number, target, ok := strings.Cut(spec, ":")
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return nil, fmt.Errorf("--tcp: %q is not PORT[:TARGET] with a port from 1 to 65535", spec)
	}
	port := map[string]any{"name": strings.ReplaceAll(spec, ":", "-"), "port": int64(n), "protocol": "TCP", "targetPort": int64(n)}
	if ok {
		port["targetPort"] = target
		if t, err := strconv.ParseInt(target, 10, 32); err == nil {
			port["targetPort"] = t
		}
	}
	return port, nil
}

// jobSpec is a pod of one image.
func jobSpec(name, image, restart string, command []string) map[string]any {
	container := map[string]any{"name": name, "image": image}
	if len(command) > 0 {
		container["command"] = anyList(command)
	}
	return map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{container}, "restartPolicy": restart}}}
}

func (s *session) createJob() *cobra.Command {
	var image, from string
	var command []string
	c := s.builder("job", "Create a job of an image, or of a cron job", func(c *cobra.Command) {
		c.Flags().StringVar(&image, "image", "", "`image` to run")
		c.Flags().StringVar(&from, "from", "", "run what this cron job would, as `cronjob/NAME`")
		commandAfterDash(c, &command)
	}, func(ctx context.Context, name string) (map[string]any, error) {
		switch {
		case (image == "") == (from == ""):
			return nil, errors.New("either --image or --from must be specified")
		case from != "" && len(command) > 0:
			return nil, errors.New("cannot specify --from and command")
		case from != "":
			return s.jobFrom(ctx, from)
		}
		o := object("batch/v1", "Job")
		o["spec"] = jobSpec(name, image, "Never", command)
		return o, nil
	})
	c.Use = "job NAME (--image=IMAGE [-- COMMAND ARG…] | --from=cronjob/NAME)"
	return c
}

// jobFrom is the job that a cron job would make now, owned by it and marked as started by hand.
func (s *session) jobFrom(ctx context.Context, from string) (map[string]any, error) {
	targets, err := s.named(ctx, []string{from})
	if err != nil {
		return nil, err
	}
	t := targets[0]
	if t.info.Kind != "CronJob" {
		return nil, fmt.Errorf("unknown object type %s: --from must be a cronjob", t.info.Kind)
	}
	cron, err := s.server.Get(ctx, t.info, t.namespace, t.name)
	if err != nil {
		return nil, err
	}
	spec, _, _ := unstructured.NestedMap(cron.Object, "spec", "jobTemplate", "spec")
	labels, _, _ := unstructured.NestedMap(cron.Object, "spec", "jobTemplate", "metadata", "labels")
	notes, _, _ := unstructured.NestedMap(cron.Object, "spec", "jobTemplate", "metadata", "annotations")
	if notes == nil {
		notes = map[string]any{}
	}
	notes["cronjob.kubernetes.io/instantiate"] = "manual"
	metadata := map[string]any{"annotations": notes, "ownerReferences": []any{map[string]any{
		"apiVersion": groupVersion(t.info), "kind": t.info.Kind, "name": cron.GetName(), "uid": string(cron.GetUID()), "controller": true,
	}}}
	if labels != nil {
		metadata["labels"] = labels
	}
	o := object("batch/v1", "Job")
	o["metadata"], o["spec"] = metadata, spec
	return o, nil
}

func (s *session) createCronJob() *cobra.Command {
	var image, schedule, restart string
	var command []string
	c := s.builder("cronjob", "Create a cron job of an image", func(c *cobra.Command) {
		c.Flags().StringVar(&image, "image", "", "`image` to run")
		c.Flags().StringVar(&restart, "restart", "OnFailure", "OnFailure or Never: what becomes of a container that fails")
		c.Flags().StringVar(&schedule, "schedule", "", "`when` to run it, in cron's five fields")
		_ = c.MarkFlagRequired("image")
		_ = c.MarkFlagRequired("schedule")
		commandAfterDash(c, &command)
	}, func(_ context.Context, name string) (map[string]any, error) {
		o := object("batch/v1", "CronJob")
		o["spec"] = map[string]any{"schedule": schedule, "jobTemplate": map[string]any{"metadata": map[string]any{"name": name}, "spec": jobSpec(name, image, restart, command)}}
		return o, nil
	})
	c.Use, c.Aliases = "cronjob NAME --image=IMAGE --schedule=SCHEDULE [-- COMMAND ARG…]", []string{"cj"}
	return c
}

// commandAfterDash lets a builder's command take what follows -- beside its one name.
func commandAfterDash(c *cobra.Command, command *[]string) {
	c.Args = func(cmd *cobra.Command, args []string) error {
		if dash := cmd.ArgsLenAtDash(); dash >= 0 {
			*command = args[dash:]
			args = args[:dash]
		}
		return cobra.ExactArgs(1)(cmd, args)
	}
}

// roleFlags describe who may do what.
type roleFlags struct{ verbs, resources, names, urls, aggregate []string }

func (r *roleFlags) register(c *cobra.Command, cluster bool) {
	c.Flags().StringSliceVar(&r.verbs, "verb", nil, "`verbs` that are allowed, e.g. get,list,watch")
	c.Flags().StringSliceVar(&r.resources, "resource", nil, "`resources` they are allowed on, e.g. pods,deployments.apps,pods/log")
	c.Flags().StringSliceVar(&r.names, "resource-name", nil, "only objects of these `names`")
	if cluster {
		c.Flags().StringSliceVar(&r.urls, "non-resource-url", nil, "`paths` they are allowed on, e.g. /metrics")
		c.Flags().StringSliceVar(&r.aggregate, "aggregation-rule", nil, "`labels` KEY=VALUE of the cluster roles that make up this one")
	}
}

func (r *roleFlags) validate() error {
	switch {
	case len(r.aggregate) > 0 && len(r.verbs)+len(r.resources)+len(r.names)+len(r.urls) > 0:
		return errors.New("aggregation rule must be specified without nonResourceURLs, resources or verbs")
	case len(r.aggregate) > 0:
		return nil
	case len(r.verbs) == 0:
		return errors.New("at least one verb must be specified")
	case len(r.resources)+len(r.urls) == 0:
		return errors.New("at least one resource must be specified")
	case len(r.names) > 0 && len(r.resources) == 0:
		return errors.New("resourceName must be specified with resource")
	}
	return nil
}

// rules is one rule per API group, and one of paths. A resource that names no group is looked up.
func (s *session) rules(ctx context.Context, r roleFlags) ([]any, error) {
	byGroup := newGroups()
	for _, res := range r.resources {
		word, sub, hasSub := strings.Cut(res, "/")
		group, name := "", word
		if word == "*" {
			group = "*"
		} else {
			if _, err := s.connect(); err != nil {
				return nil, err
			}
			infos, err := s.server.Resolve(ctx, word)
			if err != nil {
				return nil, err
			}
			group, name = infos[0].Group, infos[0].Resource
		}
		if hasSub {
			name += "/" + sub
		}
		byGroup.add(group, name)
	}
	var out []any
	for _, g := range byGroup.order {
		rule := map[string]any{"apiGroups": []any{g}, "resources": byGroup.of[g], "verbs": anyList(r.verbs)}
		if len(r.names) > 0 {
			rule["resourceNames"] = anyList(r.names)
		}
		out = append(out, rule)
	}
	if len(r.urls) > 0 {
		out = append(out, map[string]any{"nonResourceURLs": anyList(r.urls), "verbs": anyList(r.verbs)})
	}
	return out, nil
}

const rbacVersion = "rbac.authorization.k8s.io/v1"

func (s *session) createRole(use, kind string) *cobra.Command {
	var r roleFlags
	return s.builder(use, "Create a "+use+" from verbs and resources", func(c *cobra.Command) { r.register(c, kind == "ClusterRole") },
		func(ctx context.Context, _ string) (map[string]any, error) {
			if err := r.validate(); err != nil {
				return nil, err
			}
			rules, err := s.rules(ctx, r)
			if err != nil {
				return nil, err
			}
			o := object(rbacVersion, kind)
			if len(r.aggregate) > 0 {
				selector, err := selectorObject(strings.Join(r.aggregate, ","))
				if err != nil {
					return nil, err
				}
				o["aggregationRule"] = map[string]any{"clusterRoleSelectors": []any{selector}}
			}
			o["rules"] = rules
			return o, nil
		})
}

func (s *session) createBinding(use, kind string) *cobra.Command {
	var role, clusterRole string
	var who subjectFlags
	return s.builder(use, "Give a role to users, groups and service accounts", func(c *cobra.Command) {
		if kind == "RoleBinding" {
			c.Flags().StringVar(&role, "role", "", "`name` of a role of the namespace")
		}
		c.Flags().StringVar(&clusterRole, "clusterrole", "", "`name` of a cluster role")
		who.register(c.Flags())
	}, func(context.Context, string) (map[string]any, error) {
		if (role == "") == (clusterRole == "") {
			return nil, errors.New("exactly one of clusterrole or role must be specified")
		}
		ref := map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}
		if clusterRole != "" {
			ref["kind"], ref["name"] = "ClusterRole", clusterRole
		}
		subjects, err := who.subjects()
		if err != nil {
			return nil, err
		}
		o := object(rbacVersion, kind)
		o["roleRef"], o["subjects"] = ref, subjects
		return o, nil
	})
}

package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

func (s *session) createService() *cobra.Command {
	parent := &cobra.Command{Use: "service", Aliases: []string{"svc"}, Short: "Create a service that selects app=NAME"}
	for _, kind := range []struct{ use, kind, ip string }{{"clusterip", "ClusterIP", ""}, {"nodeport", "NodePort", ""}, {"headless", "ClusterIP", "None"}} {
		var ports []string
		parent.AddCommand(s.builder(kind.use, "Create a "+kind.use+" service", func(c *cobra.Command) {
			c.Flags().StringSliceVar(&ports, "tcp", nil, "`PORT[:TARGET]`, several make a port each")
			_ = c.MarkFlagRequired("tcp")
		}, func(name string) (map[string]any, error) {
			svc := serviceObject(exposeOptions{kind: kind.kind, clusterIP: kind.ip}, map[string]any{"app": name})
			var list []any
			for _, p := range ports {
				port, err := servicePort(p)
				if err != nil {
					return nil, err
				}
				list = append(list, port)
			}
			svc["metadata"] = map[string]any{"labels": map[string]any{"app": name}}
			svc["spec"].(map[string]any)["ports"] = list
			return svc, nil
		}))
	}
	return parent
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

// jobSpec is a pod of one image that is not started again.
func jobSpec(name, image string, command []string) map[string]any {
	container := map[string]any{"name": name, "image": image}
	if len(command) > 0 {
		container["command"] = anyList(command)
	}
	return map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{container}, "restartPolicy": "Never"}}}
}

func (s *session) createJob() *cobra.Command {
	var image string
	var command []string
	c := s.builder("job", "Create a job of an image", func(c *cobra.Command) {
		c.Flags().StringVar(&image, "image", "", "`image` to run")
		_ = c.MarkFlagRequired("image")
		commandAfterDash(c, &command)
	}, func(name string) (map[string]any, error) {
		o := object("batch/v1", "Job")
		o["spec"] = jobSpec(name, image, command)
		return o, nil
	})
	c.Use = "job NAME --image=IMAGE [-- COMMAND ARG…]"
	return c
}

func (s *session) createCronJob() *cobra.Command {
	var image, schedule string
	var command []string
	c := s.builder("cronjob", "Create a cron job of an image", func(c *cobra.Command) {
		c.Flags().StringVar(&image, "image", "", "`image` to run")
		c.Flags().StringVar(&schedule, "schedule", "", "`when` to run it, in cron's five fields")
		_ = c.MarkFlagRequired("image")
		_ = c.MarkFlagRequired("schedule")
		commandAfterDash(c, &command)
	}, func(name string) (map[string]any, error) {
		o := object("batch/v1", "CronJob")
		o["spec"] = map[string]any{"schedule": schedule, "jobTemplate": map[string]any{"spec": jobSpec(name, image, command)}}
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
type roleFlags struct{ verbs, resources, names []string }

func (r *roleFlags) register(c *cobra.Command) {
	c.Flags().StringSliceVar(&r.verbs, "verb", nil, "`verbs` that are allowed, e.g. get,list,watch")
	c.Flags().StringSliceVar(&r.resources, "resource", nil, "`resources` they are allowed on, e.g. pods,deployments.apps,pods/log")
	c.Flags().StringSliceVar(&r.names, "resource-name", nil, "only objects of these `names`")
	_ = c.MarkFlagRequired("verb")
	_ = c.MarkFlagRequired("resource")
}

// rules is one rule per API group.
func (r *roleFlags) rules() []any {
	groups := map[string][]string{}
	var order []string
	for _, res := range r.resources {
		name, sub, hasSub := strings.Cut(res, "/")
		name, group, _ := strings.Cut(name, ".")
		if hasSub {
			name += "/" + sub
		}
		if groups[group] == nil {
			order = append(order, group)
		}
		groups[group] = append(groups[group], name)
	}
	var out []any
	for _, g := range order {
		rule := map[string]any{"apiGroups": []any{g}, "resources": anyList(groups[g]), "verbs": anyList(r.verbs)}
		if len(r.names) > 0 {
			rule["resourceNames"] = anyList(r.names)
		}
		out = append(out, rule)
	}
	return out
}

const rbacVersion = "rbac.authorization.k8s.io/v1"

func (s *session) createRole(use, kind string) *cobra.Command {
	var r roleFlags
	return s.builder(use, "Create a "+use+" from verbs and resources", r.register, func(string) (map[string]any, error) {
		o := object(rbacVersion, kind)
		o["rules"] = r.rules()
		return o, nil
	})
}

func (s *session) createBinding(use, kind string) *cobra.Command {
	var role, clusterRole string
	var users, groups, accounts []string
	return s.builder(use, "Give a role to users, groups and service accounts", func(c *cobra.Command) {
		if kind == "RoleBinding" {
			c.Flags().StringVar(&role, "role", "", "`name` of a role of the namespace")
		}
		c.Flags().StringVar(&clusterRole, "clusterrole", "", "`name` of a cluster role")
		c.Flags().StringSliceVar(&users, "user", nil, "`names` of users")
		c.Flags().StringSliceVar(&groups, "group", nil, "`names` of groups")
		c.Flags().StringSliceVar(&accounts, "serviceaccount", nil, "service accounts as `NAMESPACE:NAME`")
	}, func(string) (map[string]any, error) {
		if (role == "") == (clusterRole == "") {
			return nil, fmt.Errorf("exactly one of --role and --clusterrole must be specified")
		}
		ref := map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}
		if clusterRole != "" {
			ref["kind"], ref["name"] = "ClusterRole", clusterRole
		}
		var subjects []any
		for _, of := range []struct {
			kind  string
			names []string
		}{{"User", users}, {"Group", groups}} {
			for _, n := range of.names {
				subjects = append(subjects, map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": of.kind, "name": n})
			}
		}
		for _, a := range accounts {
			ns, name, ok := strings.Cut(a, ":")
			if !ok || ns == "" || name == "" {
				return nil, fmt.Errorf("--serviceaccount: %q is not NAMESPACE:NAME", a)
			}
			subjects = append(subjects, map[string]any{"kind": "ServiceAccount", "namespace": ns, "name": name})
		}
		o := object(rbacVersion, kind)
		o["roleRef"], o["subjects"] = ref, subjects
		return o, nil
	})
}

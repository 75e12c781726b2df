package cli

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"bareboat.dev/kctl/api"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// createSubcommands are the objects that flags can describe.
func (s *session) createSubcommands() []*cobra.Command {
	return []*cobra.Command{
		s.createNamespace(), s.createConfigMap(), s.createSecret(), s.createServiceAccount(), s.createDeployment(), s.createService(),
		s.createJob(), s.createCronJob(), s.createRole("role", "Role"), s.createRole("clusterrole", "ClusterRole"),
		s.createBinding("rolebinding", "RoleBinding"), s.createBinding("clusterrolebinding", "ClusterRoleBinding"), s.createToken(),
	}
}

// builder makes a subcommand whose flags describe one object.
func (s *session) builder(use, short string, flags func(*cobra.Command), build func(name string) (map[string]any, error)) *cobra.Command {
	var w writeFlags
	c := &cobra.Command{
		Use: use + " NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			content, err := build(args[0])
			if err != nil {
				return err
			}
			return s.createObject(cmd.Context(), w, &unstructured.Unstructured{Object: content}, args[0])
		},
	}
	f := c.Flags()
	f.StringVar(&w.dryRun, "dry-run", "none", "none, server, or client: print what would be sent")
	f.StringVarP(&w.output, "output", "o", "", "print the result as json, yaml or name instead of a line")
	f.StringVar(&w.manager, "field-manager", fieldManager, "`name` of the writer in managed fields")
	w.validate = "strict"
	if flags != nil {
		flags(c)
	}
	return c
}

func (s *session) createObject(ctx context.Context, w writeFlags, u *unstructured.Unstructured, name string) error {
	opts, err := w.options()
	if err != nil {
		return err
	}
	u.SetName(name)
	server, err := s.connect()
	if err != nil {
		return err
	}
	info, err := server.ForKind(ctx, u.GroupVersionKind())
	if err != nil {
		return err
	}
	body, err := api.JSON(u)
	if err != nil {
		return err
	}
	t := target{info: info, namespace: s.namespace, name: name}
	resp, err := server.Create(ctx, &apiv1.CreateRequest{Ref: api.Ref(info, s.namespace, ""), Object: body, Options: opts})
	if err != nil {
		return err
	}
	s.warn(resp.Warnings)
	return s.result(t, "created"+dryRunSuffix(opts), w.output, resp.Object)
}

func object(apiVersion, kind string) map[string]any {
	return map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{}}
}

func (s *session) createNamespace() *cobra.Command {
	c := s.builder("namespace", "Create a namespace", nil, func(string) (map[string]any, error) { return object("v1", "Namespace"), nil })
	c.Aliases = []string{"ns"}
	return c
}

func (s *session) createServiceAccount() *cobra.Command {
	c := s.builder("serviceaccount", "Create a service account", nil, func(string) (map[string]any, error) { return object("v1", "ServiceAccount"), nil })
	c.Aliases = []string{"sa"}
	return c
}

// dataFlags are --from-literal, --from-file and --from-env-file.
type dataFlags struct{ literals, files []string }

func (d *dataFlags) register(c *cobra.Command) {
	c.Flags().StringArrayVar(&d.literals, "from-literal", nil, "`key=value` to hold")
	c.Flags().StringArrayVar(&d.files, "from-file", nil, "`[key=]file` to hold, or a folder whose files to hold")
}

// read returns the keys with their contents.
func (d *dataFlags) read() (map[string][]byte, error) {
	data := map[string][]byte{}
	add := func(key string, value []byte) error {
		if _, twice := data[key]; twice {
			return fmt.Errorf("cannot add key %q, another key by that name already exists", key)
		}
		data[key] = value
		return nil
	}
	for _, l := range d.literals {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("--from-literal: %q is not key=value", l)
		}
		if err := add(k, []byte(v)); err != nil {
			return nil, err
		}
	}
	for _, f := range d.files {
		key, path, ok := strings.Cut(f, "=")
		if !ok {
			key, path = filepath.Base(f), f
		}
		files := map[string]string{key: path}
		if entries, err := os.ReadDir(path); err == nil && !ok {
			files = map[string]string{}
			for _, e := range entries {
				if e.Type().IsRegular() {
					files[e.Name()] = filepath.Join(path, e.Name())
				}
			}
		}
		for key, path := range files {
			value, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("--from-file: %w", err)
			}
			if err := add(key, value); err != nil {
				return nil, err
			}
		}
	}
	return data, nil
}

func (s *session) createConfigMap() *cobra.Command {
	var d dataFlags
	c := s.builder("configmap", "Create a config map from files and literals", d.register, func(string) (map[string]any, error) {
		data, err := d.read()
		if err != nil {
			return nil, err
		}
		o, texts, binaries := object("v1", "ConfigMap"), map[string]any{}, map[string]any{}
		for k, v := range data {
			if utf8.Valid(v) {
				texts[k] = string(v)
			} else {
				binaries[k] = base64.StdEncoding.EncodeToString(v)
			}
		}
		if len(texts) > 0 {
			o["data"] = texts
		}
		if len(binaries) > 0 {
			o["binaryData"] = binaries
		}
		return o, nil
	})
	c.Aliases = []string{"cm"}
	return c
}

func (s *session) createSecret() *cobra.Command {
	parent := &cobra.Command{Use: "secret", Short: "Create a secret"}
	var d dataFlags
	var kind string
	parent.AddCommand(s.builder("generic", "Create a secret from files and literals", func(c *cobra.Command) {
		d.register(c)
		c.Flags().StringVar(&kind, "type", "", "the secret's `type`; default Opaque")
	}, func(string) (map[string]any, error) {
		data, err := d.read()
		if err != nil {
			return nil, err
		}
		o, encoded := object("v1", "Secret"), map[string]any{}
		for k, v := range data {
			encoded[k] = base64.StdEncoding.EncodeToString(v)
		}
		o["data"] = encoded
		if kind != "" {
			o["type"] = kind
		}
		return o, nil
	}))
	return parent
}

func (s *session) createDeployment() *cobra.Command {
	var images []string
	var replicas int64
	var port int64
	c := s.builder("deployment", "Create a deployment of an image", func(c *cobra.Command) {
		c.Flags().StringSliceVar(&images, "image", nil, "`image` to run; several make a container each")
		c.Flags().Int64VarP(&replicas, "replicas", "r", 1, "how many pods")
		c.Flags().Int64Var(&port, "port", 0, "port that the container listens on")
		_ = c.MarkFlagRequired("image")
	}, func(name string) (map[string]any, error) {
		o := object("apps/v1", "Deployment")
		labels := map[string]any{"app": name}
		o["metadata"] = map[string]any{"labels": labels}
		var containers []any
		for _, image := range images {
			container := map[string]any{"name": containerName(image), "image": image}
			if port > 0 {
				container["ports"] = []any{map[string]any{"containerPort": port}}
			}
			containers = append(containers, container)
		}
		o["spec"] = map[string]any{
			"replicas": replicas,
			"selector": map[string]any{"matchLabels": labels},
			"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": map[string]any{"containers": containers}},
		}
		return o, nil
	})
	c.Aliases = []string{"deploy"}
	return c
}

// containerName is the last part of an image's repository, as a DNS label.
func containerName(image string) string {
	image, _, _ = strings.Cut(image[strings.LastIndex(image, "/")+1:], "@")
	image, _, _ = strings.Cut(image, ":")
	return strings.Trim(strings.Map(func(r rune) rune {
		if r == '_' || r == '.' {
			return '-'
		}
		return r
	}, strings.ToLower(image)), "-")
}

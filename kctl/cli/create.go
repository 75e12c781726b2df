package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"bareboat.dev/kctl/api"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// createSubcommands are the objects that flags can describe.
func (s *session) createSubcommands() []*cobra.Command {
	return []*cobra.Command{
		s.createNamespace(), s.createConfigMap(), s.createSecret(), s.createServiceAccount(), s.createDeployment(), s.createService(),
		s.createJob(), s.createCronJob(), s.createRole("role", "Role"), s.createRole("clusterrole", "ClusterRole"),
		s.createBinding("rolebinding", "RoleBinding"), s.createBinding("clusterrolebinding", "ClusterRoleBinding"), s.createToken(),
		s.createQuota(), s.createDisruptionBudget(), s.createPriorityClass(), s.createIngress(),
	}
}

// builder makes a subcommand whose flags describe one object.
func (s *session) builder(use, short string, flags func(*cobra.Command), build func(ctx context.Context, name string) (map[string]any, error)) *cobra.Command {
	var w writeFlags
	c := &cobra.Command{
		Use: use + " NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			content, err := build(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return s.createObject(cmd.Context(), w, &unstructured.Unstructured{Object: content}, args[0], "created")
		},
	}
	w.writing.register(c.Flags())
	w.validate = "strict"
	if flags != nil {
		flags(c)
	}
	return c
}

func (s *session) createObject(ctx context.Context, w writeFlags, u *unstructured.Unstructured, name, done string) error {
	opts, err := w.options()
	if err != nil {
		return err
	}
	u.SetName(name)
	if w.dry == dryClient {
		return s.wouldCreate(u, w.writing, done)
	}
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
	return s.done(t, done, w.writing, resp.Object)
}

// wouldCreate prints an object that flags describe and asks no server.
func (s *session) wouldCreate(u *unstructured.Unstructured, w writing, done string) error {
	info := offlineKind(u, !slices.Contains([]string{"Namespace", "ClusterRole", "ClusterRoleBinding", "PriorityClass"}, u.GetKind()))
	if info.Namespaced && (s.namespaceGiven || s.server == nil) {
		u.SetNamespace(s.namespace)
	}
	body, err := api.JSON(u)
	if err != nil {
		return err
	}
	return s.done(target{info: info, namespace: s.namespace, name: u.GetName()}, done, w, body)
}

func object(apiVersion, kind string) map[string]any {
	return map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{}}
}

func (s *session) createNamespace() *cobra.Command {
	c := s.builder("namespace", "Create a namespace", nil, func(context.Context, string) (map[string]any, error) { return object("v1", "Namespace"), nil })
	c.Aliases = []string{"ns"}
	return c
}

func (s *session) createServiceAccount() *cobra.Command {
	c := s.builder("serviceaccount", "Create a service account", nil, func(context.Context, string) (map[string]any, error) { return object("v1", "ServiceAccount"), nil })
	c.Aliases = []string{"sa"}
	return c
}

// dataFlags are --from-literal, --from-file and --from-env-file.
type dataFlags struct {
	literals, files []string
	envFile         string
}

func (d *dataFlags) register(c *cobra.Command) {
	c.Flags().StringArrayVar(&d.literals, "from-literal", nil, "`key=value` to hold")
	c.Flags().StringArrayVar(&d.files, "from-file", nil, "`[key=]file` to hold, or a folder whose files to hold")
	c.Flags().StringVar(&d.envFile, "from-env-file", "", "`file` of lines key=value to hold; a key alone is taken from kctl's environment")
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
	if err := d.readEnv(add); err != nil {
		return nil, err
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

// readEnv adds the lines of an environment file; empty lines and comments are left out.
func (d *dataFlags) readEnv(add func(string, []byte) error) error {
	if d.envFile == "" {
		return nil
	}
	if len(d.literals) > 0 || len(d.files) > 0 {
		return errors.New("from-env-file cannot be combined with from-file or from-literal")
	}
	data, err := os.ReadFile(d.envFile)
	if err != nil {
		return fmt.Errorf("--from-env-file: %w", err)
	}
	for line := range strings.Lines(strings.TrimPrefix(string(data), "\ufeff")) {
		line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), " \t")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, set := strings.Cut(line, "=")
		if problems := validation.IsEnvVarName(key); len(problems) > 0 {
			return fmt.Errorf("--from-env-file: %q is not a valid key name: %s", key, problems[0])
		}
		if !set {
			if value, set = os.LookupEnv(key); !set {
				continue
			}
		}
		if err := add(key, []byte(value)); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) createConfigMap() *cobra.Command {
	var d dataFlags
	c := s.builder("configmap", "Create a config map from files and literals", d.register, func(context.Context, string) (map[string]any, error) {
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
	}, func(context.Context, string) (map[string]any, error) {
		data, err := d.read()
		if err != nil {
			return nil, err
		}
		return secretObject(kind, data), nil
	}), s.createTLSSecret(), s.createRegistrySecret())
	return parent
}

func (s *session) createDeployment() *cobra.Command {
	var images, command []string
	var replicas int64
	var port int64
	c := s.builder("deployment", "Create a deployment of an image", func(c *cobra.Command) {
		c.Flags().StringSliceVar(&images, "image", nil, "`image` to run; several make a container each")
		c.Flags().Int64VarP(&replicas, "replicas", "r", 1, "how many pods")
		c.Flags().Int64Var(&port, "port", 0, "port that the container listens on")
		_ = c.MarkFlagRequired("image")
		commandAfterDash(c, &command)
	}, func(_ context.Context, name string) (map[string]any, error) {
		if len(images) > 1 && len(command) > 0 {
			return nil, errors.New("cannot specify multiple --image options and command")
		}
		o := object("apps/v1", "Deployment")
		labels := map[string]any{"app": name}
		o["metadata"] = map[string]any{"labels": labels}
		var containers []any
		for _, image := range images {
			container := map[string]any{"name": containerName(image), "image": image}
			if port > 0 {
				container["ports"] = []any{map[string]any{"containerPort": port}}
			}
			if len(command) > 0 {
				container["command"] = anyList(command)
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
	c.Use, c.Aliases = "deployment NAME --image=IMAGE [-- COMMAND ARG…]", []string{"deploy"}
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

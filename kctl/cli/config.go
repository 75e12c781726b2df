package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"bareboat.dev/kctl/output"
)

// defaultKubeconfig is what `kctl up` writes for the administrator.
const defaultKubeconfig = "/etc/bareboat/admin.conf"

// configFile is the kubeconfig in use, as a tree: fields that kctl does not know stay when it is written back.
type configFile struct {
	path string
	tree map[string]any
}

func (s *session) configPath() string {
	return cmp.Or(s.kubeconfig, strings.Split(os.Getenv("KUBECONFIG"), string(os.PathListSeparator))[0], defaultKubeconfig)
}

func (s *session) configFile() (*configFile, error) {
	path := s.configPath()
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w; name a kubeconfig with --kubeconfig or $KUBECONFIG", err)
	}
	c := &configFile{path: path}
	if err := yaml.Unmarshal(data, &c.tree); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// named returns the entries of a list such as "contexts" with their names, in order.
func (c *configFile) named(list, field string) (names []string, byName map[string]map[string]any) {
	byName = map[string]map[string]any{}
	items, _ := c.tree[list].([]any)
	for _, item := range items {
		m, _ := item.(map[string]any)
		name, _ := m["name"].(string)
		value, ok := m[field].(map[string]any)
		if !ok {
			value = map[string]any{}
			if m != nil {
				m[field] = value
			}
		}
		names, byName[name] = append(names, name), value
	}
	return names, byName
}

func (c *configFile) current() string {
	name, _ := c.tree["current-context"].(string)
	return name
}

// save replaces the file at once and keeps its mode: it may hold keys.
func (c *configFile) save() error {
	data, err := yaml.Marshal(c.tree)
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o600)
	if info, err := os.Stat(c.path); err == nil {
		mode = info.Mode().Perm()
	}
	if err := os.MkdirAll(filepath.Dir(c.path), 0o750); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(c.path), ".kctl-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Chmod(mode), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), c.path)
}

func (s *session) configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Look at and change the kubeconfig"}
	c.AddCommand(s.configView(), s.configContexts(), s.configSetContext(), s.configSetCluster(), s.configSetCredentials(), s.configSetProperty(), s.configUnset(), s.configRename(), s.configNames("clusters", "cluster"), s.configNames("users", "user"))
	for _, list := range []string{"context", "cluster", "user"} {
		c.AddCommand(s.configDelete(list))
	}
	c.AddCommand(&cobra.Command{
		Use: "current-context", Short: "Print the current context's name", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			f, err := s.configFile()
			if err != nil {
				return err
			}
			if f.current() == "" {
				return errors.New("current-context is not set; choose one with: kctl config use-context NAME")
			}
			fmt.Fprintln(s.out, f.current())
			return nil
		},
	}, &cobra.Command{
		Use: "use-context NAME", Short: "Choose the current context", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := s.configFile()
			if err != nil {
				return err
			}
			names, contexts := f.named("contexts", "context")
			if contexts[args[0]] == nil {
				return fmt.Errorf("no context exists with the name %q; there are: %s", args[0], strings.Join(names, ", "))
			}
			f.tree["current-context"] = args[0]
			if err := f.save(); err != nil {
				return err
			}
			fmt.Fprintf(s.out, "Switched to context %q.\n", args[0])
			return nil
		},
	})
	return c
}

func (s *session) configView() *cobra.Command {
	var raw, minify, flatten bool
	var how printing
	c := &cobra.Command{
		Use: "view", Short: "Print the kubeconfig without its keys", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			f, err := s.configFile()
			if err != nil {
				return err
			}
			if minify {
				if err := f.minify(cmp.Or(s.context, f.current())); err != nil {
					return err
				}
			}
			if flatten {
				if err := f.flatten(); err != nil {
					return err
				}
			}
			if !raw {
				redact(f.tree)
			}
			if how.lines() {
				how.output = "yaml"
			}
			p, err := how.printer()
			if err != nil {
				return err
			}
			return p.Print(s.out, &unstructured.Unstructured{Object: f.tree})
		},
	}
	c.Flags().BoolVar(&raw, "raw", false, "with certificates, keys and tokens")
	c.Flags().BoolVar(&minify, "minify", false, "only the current context with its cluster and user")
	c.Flags().BoolVar(&flatten, "flatten", false, "put the certificates and keys that files hold into the output itself")
	how.register(c.Flags(), output.Formats)
	return c
}

// redact puts a word in place of what must not be read over a shoulder or pasted into a report.
func redact(value any) {
	switch v := value.(type) {
	case map[string]any:
		for key := range v {
			switch key {
			case "token", "password", "client-key-data":
				v[key] = "REDACTED"
			case "certificate-authority-data", "client-certificate-data":
				v[key] = "DATA+OMITTED"
			default:
				redact(v[key])
			}
		}
	case []any:
		for _, item := range v {
			redact(item)
		}
	}
}

func (s *session) configContexts() *cobra.Command {
	var noHeaders bool
	var format string
	c := &cobra.Command{
		Use: "get-contexts [NAME…]", Short: "List the contexts",
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := s.configFile()
			if err != nil {
				return err
			}
			names, contexts := f.named("contexts", "context")
			for _, name := range args {
				if contexts[name] == nil {
					return fmt.Errorf("context %s not found", name)
				}
			}
			if len(args) > 0 {
				names = args
			}
			switch {
			case format == "name":
				for _, name := range names {
					fmt.Fprintln(s.out, name)
				}
				return nil
			case format != "":
				return fmt.Errorf("output must be one of '' or 'name': %s", format)
			}
			return s.printContexts(f, names, contexts, noHeaders)
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "", "name: print only names")
	c.Flags().BoolVar(&noHeaders, "no-headers", false, "leave the headers out")
	return c
}

func (s *session) printContexts(f *configFile, names []string, contexts map[string]map[string]any, noHeaders bool) error {
	tw := tabwriter.NewWriter(s.out, 0, 8, 3, ' ', 0)
	if !noHeaders {
		fmt.Fprintln(tw, "CURRENT\tNAME\tCLUSTER\tAUTHINFO\tNAMESPACE")
	}
	for _, name := range names {
		mark := ""
		if name == f.current() {
			mark = "*"
		}
		ctx := contexts[name]
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", mark, name, text(ctx["cluster"]), text(ctx["user"]), text(ctx["namespace"]))
	}
	return tw.Flush()
}

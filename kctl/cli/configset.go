package cli

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// configToChange is configFile, but a file that is not there yet is begun.
func (s *session) configToChange() (*configFile, error) {
	f, err := s.configFile()
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	return &configFile{path: s.configPath(), tree: map[string]any{"apiVersion": "v1", "kind": "Config"}}, nil
}

// entry is a named entry of a list, which is added if it is not there.
func (c *configFile) entry(list, field, name string) (value map[string]any, added bool) {
	if _, byName := c.named(list, field); byName[name] != nil {
		return byName[name], false
	}
	value = map[string]any{}
	items, _ := c.tree[list].([]any)
	c.tree[list] = append(items, map[string]any{"name": name, field: value})
	return value, true
}

// configSetter makes a command that sets fields of an entry; what is said of it is "Cluster" or the like.
func (s *session) configSetter(use, short, said, list, field string, flags func(*pflag.FlagSet), set func(f *pflag.FlagSet, entry map[string]any) error) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := s.configToChange()
			if err != nil {
				return err
			}
			name, err := entryName(cmd, args, f)
			if err != nil {
				return err
			}
			entry, added := f.entry(list, field, name)
			if err := set(cmd.Flags(), entry); err != nil {
				return err
			}
			if err := f.save(); err != nil {
				return err
			}
			word := map[string]string{"Cluster": "set", "User": "set"}[said]
			if word == "" {
				word = map[bool]string{true: "created", false: "modified"}[added]
			}
			fmt.Fprintf(s.out, "%s %q %s.\n", said, name, word)
			return nil
		},
	}
	flags(c.Flags())
	return c
}

// entryName is the entry that the arguments, or --current, mean.
func entryName(cmd *cobra.Command, args []string, f *configFile) (string, error) {
	current, _ := cmd.Flags().GetBool("current")
	switch {
	case current && len(args) == 0:
		if f.current() == "" {
			return "", errors.New("no current context is set")
		}
		return f.current(), nil
	case current || len(args) != 1:
		return "", fmt.Errorf("name one entry: %s", cmd.UseLine())
	}
	return args[0], nil
}

// fields sets those fields of an entry whose flags were given; an empty value takes the field away.
func fields(f *pflag.FlagSet, entry map[string]any, byFlag map[string]string) {
	f.Visit(func(flag *pflag.Flag) {
		field, known := byFlag[flag.Name]
		switch value := flag.Value.String(); {
		case !known:
		case flag.Value.Type() == "bool":
			entry[field] = value == "true"
		case value == "":
			delete(entry, field)
		default:
			entry[field] = value
		}
	})
}

// files sets fields that name files, or with --embed-certs the contents of the files.
func files(f *pflag.FlagSet, entry map[string]any, byFlag map[string]string) error {
	embed, _ := f.GetBool("embed-certs")
	for flag, field := range byFlag {
		name, _ := f.GetString(flag)
		if name == "" {
			continue
		}
		delete(entry, field)
		delete(entry, field+"-data")
		path, err := filepath.Abs(name)
		if err != nil {
			return err
		}
		if !embed {
			entry[field] = path
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("--%s: %w", flag, err)
		}
		entry[field+"-data"] = base64.StdEncoding.EncodeToString(data)
	}
	return nil
}

func (s *session) configSetContext() *cobra.Command {
	return s.configSetter("set-context (NAME | --current) [--cluster=CLUSTER] [--user=USER] [--namespace=NAMESPACE]", "Set a context's cluster, user or default namespace", "Context", "contexts", "context",
		func(f *pflag.FlagSet) {
			f.Bool("current", false, "the current context")
			f.String("cluster", "", "`name` of the context's cluster")
			f.String("user", "", "`name` of the context's user")
		},
		func(f *pflag.FlagSet, entry map[string]any) error {
			fields(f, entry, map[string]string{"cluster": "cluster", "user": "user", "namespace": "namespace"})
			return nil
		})
}

func (s *session) configSetCluster() *cobra.Command {
	return s.configSetter("set-cluster NAME [--server=ADDRESS] [--certificate-authority=FILE]", "Set a cluster's address and authority", "Cluster", "clusters", "cluster",
		func(f *pflag.FlagSet) {
			f.String("server", "", "`address` of the server, e.g. https://10.0.0.1:6443")
			f.String("tls-server-name", "", "`name` that the server's certificate must have, if it is not the address")
			f.String("proxy-url", "", "`address` of a proxy on the way")
			f.Bool("insecure-skip-tls-verify", false, "take any certificate for the server's")
			f.String("certificate-authority", "", "`file` of the authority that signed the server's certificate")
			f.Bool("embed-certs", false, "keep the file's contents, not its name")
		},
		func(f *pflag.FlagSet, entry map[string]any) error {
			fields(f, entry, map[string]string{"server": "server", "tls-server-name": "tls-server-name", "proxy-url": "proxy-url", "insecure-skip-tls-verify": "insecure-skip-tls-verify"})
			return files(f, entry, map[string]string{"certificate-authority": "certificate-authority"})
		})
}

func (s *session) configSetCredentials() *cobra.Command {
	return s.configSetter("set-credentials NAME [--client-certificate=FILE --client-key=FILE | --token=TOKEN]", "Set how a user proves who it is", "User", "users", "user",
		func(f *pflag.FlagSet) {
			f.String("token", "", "bearer `token`")
			f.String("username", "", "`name` for a proxy that asks for one")
			f.String("password", "", "its `password`")
			f.String("client-certificate", "", "`file` of the user's certificate")
			f.String("client-key", "", "`file` of its key")
			f.Bool("embed-certs", false, "keep the files' contents, not their names")
			f.String("exec-command", "", "`command` that gets credentials")
			f.String("exec-api-version", "", "`version` of its answer, e.g. client.authentication.k8s.io/v1")
			f.StringSlice("exec-arg", nil, "an `argument` of the command")
			f.StringSlice("exec-env", nil, "`NAME=VALUE` in the command's environment")
		},
		func(f *pflag.FlagSet, entry map[string]any) error {
			fields(f, entry, map[string]string{"token": "token", "username": "username", "password": "password"})
			setExec(f, entry)
			return files(f, entry, map[string]string{"client-certificate": "client-certificate", "client-key": "client-key"})
		})
}

// setExec sets the command that gets credentials.
func setExec(f *pflag.FlagSet, entry map[string]any) {
	exec, _ := entry["exec"].(map[string]any)
	if exec == nil {
		exec = map[string]any{"interactiveMode": "IfAvailable", "provideClusterInfo": false}
	}
	fields(f, exec, map[string]string{"exec-command": "command", "exec-api-version": "apiVersion"})
	if args, _ := f.GetStringSlice("exec-arg"); len(args) > 0 {
		exec["args"] = anyList(args)
	}
	if env, _ := f.GetStringSlice("exec-env"); len(env) > 0 {
		var list []any
		for _, pair := range env {
			name, value, _ := strings.Cut(pair, "=")
			list = append(list, map[string]any{"name": name, "value": value})
		}
		exec["env"] = list
	}
	if text(exec["command"]) != "" {
		entry["exec"] = exec
	}
}

func (s *session) configSetProperty() *cobra.Command {
	var raw bool
	c := &cobra.Command{
		Use: "set PROPERTY VALUE", Short: "Set one value, e.g. clusters.home.server", Args: cobra.ExactArgs(2),
		Long: "Set one value. PROPERTY is a path with dots: current-context, or the kind of entry, the entry's name and its field, such as contexts.home.namespace.",
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := s.configToChange()
			if err != nil {
				return err
			}
			at, field, err := f.property(args[0], true)
			if err != nil {
				return err
			}
			switch value := args[1]; {
			case value == "true" || value == "false":
				at[field] = value == "true"
			case raw:
				at[field] = base64.StdEncoding.EncodeToString([]byte(value))
			default:
				at[field] = value
			}
			if err := f.save(); err != nil {
				return err
			}
			fmt.Fprintf(s.out, "Property %q set.\n", args[0])
			return nil
		},
	}
	c.Flags().BoolVar(&raw, "set-raw-bytes", false, "the value is the content of a field of data, which is kept in base64")
	return c
}

func (s *session) configUnset() *cobra.Command {
	return &cobra.Command{
		Use: "unset PROPERTY", Short: "Take one value or entry away, e.g. contexts.home.namespace", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := s.configToChange()
			if err != nil {
				return err
			}
			at, field, err := f.property(args[0], false)
			if err != nil {
				return err
			}
			delete(at, field)
			if list, isEntry := strings.CutSuffix(args[0], "."+field); isEntry && entryField(list) != "" {
				f.drop(list, field)
			}
			if err := f.save(); err != nil {
				return err
			}
			fmt.Fprintf(s.out, "Property %q unset.\n", args[0])
			return nil
		},
	}
}

// entryField is the field that holds an entry's content in a list of entries; empty for what is no such list.
func entryField(list string) string {
	switch list {
	case "clusters", "users", "contexts":
		return strings.TrimSuffix(list, "s")
	}
	return ""
}

// property finds the map that a path leads to and the field in it. The name of an entry may have dots itself.
func (c *configFile) property(path string, add bool) (at map[string]any, field string, err error) {
	list, rest, deep := strings.Cut(path, ".")
	content := entryField(list)
	switch {
	case !deep:
		return c.tree, path, nil
	case content == "":
		return c.tree, "", fmt.Errorf("%q is no property: it begins with clusters, users, contexts or current-context", path)
	}
	_, byName := c.named(list, content)
	if byName[rest] != nil && !add {
		return map[string]any{}, rest, nil
	}
	name, field, found := cutLast(rest)
	if !found {
		return nil, "", fmt.Errorf("unable to parse %q: which field of %q?", path, rest)
	}
	if byName[name] == nil && !add {
		return map[string]any{}, field, nil
	}
	at, _ = c.entry(list, content, name)
	return at, field, nil
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// drop takes an entry out of a list.
func (c *configFile) drop(list, name string) (dropped bool) {
	items, _ := c.tree[list].([]any)
	var kept []any
	for _, item := range items {
		if m, _ := item.(map[string]any); m["name"] != name {
			kept = append(kept, item)
		}
	}
	c.tree[list] = kept
	return len(kept) < len(items)
}

// minify leaves one context with what it refers to.
func (c *configFile) minify(name string) error {
	_, contexts := c.named("contexts", "context")
	context := contexts[name]
	if context == nil {
		return fmt.Errorf("cannot locate context %s", name)
	}
	c.tree["current-context"] = name
	for list, keep := range map[string]string{"contexts": name, "clusters": text(context["cluster"]), "users": text(context["user"])} {
		names, _ := c.named(list, entryField(list))
		for _, n := range names {
			if n != keep {
				c.drop(list, n)
			}
		}
	}
	return nil
}

// flatten puts what files hold in place of their names, which are relative to the kubeconfig.
func (c *configFile) flatten() error {
	for list, byField := range map[string][]string{"clusters": {"certificate-authority"}, "users": {"client-certificate", "client-key"}} {
		_, byName := c.named(list, entryField(list))
		for _, entry := range byName {
			for _, field := range byField {
				name := text(entry[field])
				if name == "" {
					continue
				}
				if !filepath.IsAbs(name) {
					name = filepath.Join(filepath.Dir(c.path), name)
				}
				data, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				delete(entry, field)
				entry[field+"-data"] = base64.StdEncoding.EncodeToString(data)
			}
		}
	}
	return nil
}

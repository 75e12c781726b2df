package client

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	// DefaultConfigPath is where `kctl up` writes the administrator's kubeconfig.
	DefaultConfigPath = "/etc/bareboat/admin.conf"
	// EndpointsExtension names the extension of a kubeconfig's cluster that lists all API servers, as
	// {endpoints: ["https://10.0.0.1:6443", …]}. kubectl ignores it and uses the cluster's server alone.
	EndpointsExtension = "bareboat.dev/endpoints"
)

// LoadConfig reads a kubeconfig and returns what the named context says; context "" is the file's current-context. Path ""
// means $KUBECONFIG, whose several files are merged as kubectl does (the first to define a name wins), or
// /etc/bareboat/admin.conf.
func LoadConfig(path, context string) (*Config, error) {
	paths := []string{path}
	if path == "" {
		paths = filepath.SplitList(os.Getenv("KUBECONFIG"))
	}
	if len(paths) == 0 {
		paths = []string{DefaultConfigPath}
	}
	merged, err := readKubeconfigs(paths)
	if err != nil {
		return nil, err
	}
	cfg, err := merged.config(context)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", strings.Join(paths, string(filepath.ListSeparator)), err)
	}
	return cfg, nil
}

// kubeconfig is the part of Kubernetes' client configuration format (k8s.io/client-go/tools/clientcmd/api/v1) that is read.
type kubeconfig struct {
	CurrentContext string      `json:"current-context"`
	Clusters       []kcCluster `json:"clusters"`
	Users          []kcUser    `json:"users"`
	Contexts       []kcContext `json:"contexts"`
}

type kcCluster struct {
	Name    string `json:"name"`
	Cluster struct {
		Server        string `json:"server"`
		TLSServerName string `json:"tls-server-name"`
		CAFile        string `json:"certificate-authority"`
		CAData        []byte `json:"certificate-authority-data"`
		SkipVerify    bool   `json:"insecure-skip-tls-verify"`
		Extensions    []struct {
			Name      string `json:"name"`
			Extension struct {
				Endpoints []string `json:"endpoints"`
			} `json:"extension"`
		} `json:"extensions"`
	} `json:"cluster"`
}

type kcUser struct {
	Name string `json:"name"`
	User struct {
		CertFile  string `json:"client-certificate"`
		CertData  []byte `json:"client-certificate-data"`
		KeyFile   string `json:"client-key"`
		KeyData   []byte `json:"client-key-data"`
		Token     string `json:"token"`
		TokenFile string `json:"tokenFile"`
		Username  string `json:"username"`
		Exec      any    `json:"exec"`
		Provider  any    `json:"auth-provider"`
	} `json:"user"`
}

type kcContext struct {
	Name    string `json:"name"`
	Context struct {
		Cluster   string `json:"cluster"`
		User      string `json:"user"`
		Namespace string `json:"namespace"`
	} `json:"context"`
}

// readKubeconfigs merges the files. A missing one is an error only if it is the only one.
func readKubeconfigs(paths []string) (*kubeconfig, error) {
	merged := &kubeconfig{}
	for _, p := range paths {
		kc, err := readKubeconfig(p)
		if errors.Is(err, fs.ErrNotExist) && len(paths) > 1 {
			continue
		}
		if err != nil {
			return nil, err
		}
		if merged.CurrentContext == "" {
			merged.CurrentContext = kc.CurrentContext
		}
		merged.Clusters = append(merged.Clusters, kc.Clusters...)
		merged.Users = append(merged.Users, kc.Users...)
		merged.Contexts = append(merged.Contexts, kc.Contexts...)
	}
	return merged, nil
}

func readKubeconfig(path string) (*kubeconfig, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	kc := &kubeconfig{}
	if err := yaml.Unmarshal(data, kc); err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	dir := filepath.Dir(path)
	for i := range kc.Clusters {
		absolute(dir, &kc.Clusters[i].Cluster.CAFile)
	}
	for i := range kc.Users {
		u := &kc.Users[i].User
		absolute(dir, &u.CertFile, &u.KeyFile, &u.TokenFile)
	}
	return kc, nil
}

// absolute makes paths that are relative to the kubeconfig's folder absolute.
func absolute(dir string, paths ...*string) {
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

func (kc *kubeconfig) config(name string) (*Config, error) {
	if name == "" {
		name = kc.CurrentContext
	}
	if name == "" {
		return nil, errors.New("no context named and no current-context set: pass --context, or set current-context")
	}
	ctx := find(kc.Contexts, func(c kcContext) bool { return c.Name == name })
	if ctx == nil {
		return nil, fmt.Errorf("context %q does not exist", name)
	}
	cluster := find(kc.Clusters, func(c kcCluster) bool { return c.Name == ctx.Context.Cluster })
	if cluster == nil {
		return nil, fmt.Errorf("context %q names cluster %q, which does not exist", name, ctx.Context.Cluster)
	}
	cfg := cluster.config()
	cfg.Namespace = ctx.Context.Namespace
	if ctx.Context.User == "" {
		return cfg, nil
	}
	user := find(kc.Users, func(u kcUser) bool { return u.Name == ctx.Context.User })
	if user == nil {
		return nil, fmt.Errorf("context %q names user %q, which does not exist", name, ctx.Context.User)
	}
	return cfg, user.apply(cfg)
}

func (c *kcCluster) config() *Config {
	cl := &c.Cluster
	cfg := &Config{
		CAData: cl.CAData, CAFile: cl.CAFile, ServerName: cl.TLSServerName, InsecureSkipTLSVerify: cl.SkipVerify,
		Insecure: strings.HasPrefix(cl.Server, "http://"),
	}
	if cl.Server != "" {
		cfg.Endpoints = []string{cl.Server}
	}
	for _, e := range cl.Extensions {
		if e.Name == EndpointsExtension && len(e.Extension.Endpoints) > 0 {
			cfg.Endpoints = e.Extension.Endpoints
		}
	}
	return cfg
}

func (u *kcUser) apply(cfg *Config) error {
	if u.User.Exec != nil || u.User.Provider != nil || u.User.Username != "" {
		return fmt.Errorf("user %q: only client certificates and bearer tokens are supported, not exec, auth-provider or passwords", u.Name)
	}
	cfg.CertData, cfg.CertFile = u.User.CertData, u.User.CertFile
	cfg.KeyData, cfg.KeyFile = u.User.KeyData, u.User.KeyFile
	cfg.Token, cfg.TokenFile = u.User.Token, u.User.TokenFile
	return nil
}

// find returns the first element that matches, or nil.
func find[E any](list []E, match func(E) bool) *E {
	for i := range list {
		if match(list[i]) {
			return &list[i]
		}
	}
	return nil
}

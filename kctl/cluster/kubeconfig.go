package cluster

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"sigs.k8s.io/yaml"

	"bareboat.dev/kctl/pki"
)

// kubeconfig is the part of a kubeconfig (client.config.k8s.io v1) that a one-cluster file needs.
type kubeconfig struct {
	APIVersion     string         `json:"apiVersion"`
	Kind           string         `json:"kind"`
	CurrentContext string         `json:"current-context"`
	Clusters       []namedCluster `json:"clusters"`
	Contexts       []namedContext `json:"contexts"`
	Users          []namedUser    `json:"users"`
}

type namedCluster struct {
	Name    string `json:"name"`
	Cluster struct {
		Server string `json:"server"`
		CA     string `json:"certificate-authority,omitempty"`
		CAData string `json:"certificate-authority-data,omitempty"`
	} `json:"cluster"`
}

type namedContext struct {
	Name    string `json:"name"`
	Context struct {
		Cluster string `json:"cluster"`
		User    string `json:"user"`
	} `json:"context"`
}

type namedUser struct {
	Name string `json:"name"`
	User struct {
		Cert     string `json:"client-certificate,omitempty"`
		Key      string `json:"client-key,omitempty"`
		CertData string `json:"client-certificate-data,omitempty"`
		KeyData  string `json:"client-key-data,omitempty"`
	} `json:"user"`
}

// writeKubeconfigs writes one kubeconfig per client of the API. Daemons' files name their certificates, so that a renewal reaches
// them; the administrator's file holds its own, so that it can be copied to another machine.
func writeKubeconfigs(l Layout, o Options) error {
	var errs []error
	for _, name := range []string{pki.Scheduler, pki.ControllerManager, pki.Kubelet, pki.Proxy, pki.DNS} {
		errs = append(errs, writeKubeconfig(l, name, "127.0.0.1", o.Port, false))
	}
	return errors.Join(append(errs, writeKubeconfig(l, pki.Admin, o.NodeIP.String(), o.Port, true))...)
}

func writeKubeconfig(l Layout, name, host string, port uint16, embed bool) error {
	store := pki.Store{Dir: l.PKI()}
	c := kubeconfig{APIVersion: "v1", Kind: "Config", CurrentContext: "bareboat"}
	cluster := namedCluster{Name: "bareboat"}
	cluster.Cluster.Server = "https://" + net.JoinHostPort(host, strconv.Itoa(int(port)))
	user := namedUser{Name: name}
	context := namedContext{Name: "bareboat"}
	context.Context.Cluster, context.Context.User = cluster.Name, user.Name
	if !embed {
		cluster.Cluster.CA = store.CertFile("ca")
		user.User.Cert, user.User.Key = store.CertFile(name), store.KeyFile(name)
	} else {
		for path, field := range map[string]*string{
			store.CertFile("ca"): &cluster.Cluster.CAData,
			store.CertFile(name): &user.User.CertData,
			store.KeyFile(name):  &user.User.KeyData,
		} {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			*field = base64.StdEncoding.EncodeToString(data)
		}
	}
	c.Clusters, c.Contexts, c.Users = []namedCluster{cluster}, []namedContext{context}, []namedUser{user}
	data, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	return writeFile(l.Kubeconfig(name), data, 0o600)
}

// writeFile replaces a file at once, and leaves it alone if it already says the same.
func writeFile(path string, data []byte, mode os.FileMode) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == string(data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(tmp.Name(), path)
}

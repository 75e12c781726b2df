package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// choices are what a user chose about a cluster when it was first started. They are kept beside the configuration, so that a
// later `up` without flags starts the same cluster. What was left to the host, such as its address, is asked of the host again.
type choices struct {
	APIVersion    string       `json:"apiVersion"`
	Kind          string       `json:"kind"`
	NodeName      string       `json:"nodeName"`
	NodeIP        string       `json:"nodeIP,omitempty"`
	ServiceCIDR   netip.Prefix `json:"serviceCIDR"`
	PodCIDR       netip.Prefix `json:"podCIDR"`
	ClusterDomain string       `json:"clusterDomain"`
	ProxyMode     string       `json:"proxyMode"`
}

func choicesFile(l Layout) string { return filepath.Join(l.Etc, "cluster.yaml") }

func choicesOf(o Options) choices {
	c := choices{
		APIVersion: configVersion, Kind: "ClusterConfiguration", NodeName: o.NodeName, ServiceCIDR: o.ServiceCIDR, PodCIDR: o.PodCIDR,
		ClusterDomain: o.ClusterDomain, ProxyMode: o.ProxyMode,
	}
	if o.NodeIPChosen {
		c.NodeIP = o.NodeIP.String()
	}
	return c
}

func saveChoices(l Layout, o Options) error {
	data, err := yaml.Marshal(choicesOf(o))
	if err != nil {
		return err
	}
	return writeFile(choicesFile(l), append([]byte("# What was chosen when this cluster was started; flags of kctl up win over it.\n"), data...), 0o644)
}

func loadChoices(l Layout) (choices, error) {
	var c choices
	data, err := os.ReadFile(choicesFile(l))
	if err != nil {
		return c, err
	}
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		return c, fmt.Errorf("read %s: %w; correct it, or remove it to choose anew", choicesFile(l), err)
	}
	return c, nil
}

// Remembered puts what an earlier Up was told in place of defaults. Without an earlier one it changes nothing.
func Remembered(l Layout, o Options) (Options, error) {
	c, err := loadChoices(l)
	if errors.Is(err, fs.ErrNotExist) {
		return o, nil
	}
	if err != nil {
		return o, err
	}
	o.NodeName, o.ServiceCIDR, o.PodCIDR, o.ClusterDomain, o.ProxyMode = c.NodeName, c.ServiceCIDR, c.PodCIDR, c.ClusterDomain, c.ProxyMode
	if c.NodeIP != "" {
		if o.NodeIP, err = netip.ParseAddr(c.NodeIP); err != nil {
			return o, fmt.Errorf("read %s: nodeIP: %w", choicesFile(l), err)
		}
		o.NodeIPChosen = true
	}
	return o, nil
}

// changeable fails if o chooses something else than the cluster has that cannot change: anything while it runs, and what is
// written in stored objects as long as there is a database.
func changeable(l Layout, o Options, running bool) error {
	was, err := loadChoices(l)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, noState := os.Stat(l.Database())
	var errs []error
	differs := func(flag, is, want string, stored bool) {
		switch {
		case is == want:
		case stored && noState == nil:
			errs = append(errs, fmt.Errorf("--%s: the cluster on this machine was made with %s, which its stored objects depend on; leave the flag out, or begin anew after: kctl down --purge", flag, is))
		case running:
			errs = append(errs, fmt.Errorf("--%s: the running cluster has %q; stop it first with: kctl down", flag, is))
		}
	}
	want := choicesOf(o)
	differs("node-name", was.NodeName, want.NodeName, false)
	differs("node-ip", was.NodeIP, want.NodeIP, false)
	differs("proxy-mode", was.ProxyMode, want.ProxyMode, false)
	differs("service-cidr", was.ServiceCIDR.String(), want.ServiceCIDR.String(), true)
	differs("pod-cidr", was.PodCIDR.String(), want.PodCIDR.String(), true)
	differs("cluster-domain", was.ClusterDomain, want.ClusterDomain, true)
	return errors.Join(errs...)
}

package config_test

import (
	"strings"
	"testing"

	"bareboat.dev/proxy/config"
)

// Each setting that cannot work is refused with its flag's name; the defaults work.
func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*config.Config)
		want string
	}{
		"defaults":      {func(*config.Config) {}, ""},
		"no cidr":       {func(c *config.Config) { c.ClusterCIDR = "" }, ""},
		"two families":  {func(c *config.Config) { c.ClusterCIDR = "10.244.0.0/16, fd00:10:244::/48" }, ""},
		"unknown mode":  {func(c *config.Config) { c.ProxyMode = "ipvs" }, "--proxy-mode"},
		"bad cidr":      {func(c *config.Config) { c.ClusterCIDR = "10.244.0.0" }, "--cluster-cidr"},
		"bad node port": {func(c *config.Config) { c.NodePortAddresses = []string{"primary"} }, "--nodeport-addresses"},
		"healthz off":   {func(c *config.Config) { c.HealthzBindAddress = "" }, ""},
		"bad healthz":   {func(c *config.Config) { c.HealthzBindAddress = "10256" }, "--healthz-bind-address"},
		"bad metrics":   {func(c *config.Config) { c.MetricsBindAddress = "localhost" }, "--metrics-bind-address"},
	} {
		cfg := config.Default()
		cfg.HostnameOverride = "Node-1 "
		c.edit(&cfg)
		err := cfg.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if n, err := cfg.NodeName(); n != "node-1" || err != nil {
			t.Errorf("%s: node name %q, %v", name, n, err)
		}
	}
}

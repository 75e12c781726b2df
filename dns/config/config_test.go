package config_test

import (
	"strings"
	"testing"

	"bareboat.dev/dns/config"
)

// Each setting that cannot work is refused with its flag's name; the defaults work.
func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*config.Config)
		want string
	}{
		"defaults":          {func(*config.Config) {}, ""},
		"two families":      {func(c *config.Config) { c.ClusterDNS = []string{"10.96.0.10", "fd00:96::a"} }, ""},
		"no address":        {func(c *config.Config) { c.ClusterDNS = nil }, "--cluster-dns is empty"},
		"a name as address": {func(c *config.Config) { c.ClusterDNS = []string{"dns"} }, "--cluster-dns"},
		"any address":       {func(c *config.Config) { c.Listen = []string{"0.0.0.0:53"} }, "--listen"},
		"no port":           {func(c *config.Config) { c.Listen = []string{"10.96.0.10"} }, "--listen"},
		"upstream":          {func(c *config.Config) { c.Upstreams = []string{"192.0.2.1", "[fd00::1]:5353"} }, ""},
		"a bad upstream":    {func(c *config.Config) { c.Upstreams = []string{"one"} }, "--upstream"},
		"a bad domain":      {func(c *config.Config) { c.ClusterDomain = "." }, "--cluster-domain"},
		"metrics":           {func(c *config.Config) { c.MetricsBindAddress = ":9153" }, "--metrics-bind-address"},
	} {
		cfg := config.Default()
		c.edit(&cfg)
		err := cfg.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

package config

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func parse(t *testing.T, args ...string) (Config, error) {
	t.Helper()
	c := Default()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	c.Flags(fs)
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	return c, c.Validate()
}

// The defaults are valid, and a wrong setting is answered with the flag's name.
func TestValidate(t *testing.T) {
	if _, err := parse(t); err != nil {
		t.Errorf("defaults: %v", err)
	}
	for flag, args := range map[string][]string{
		"--cluster-cidr":                {"--cluster-cidr=10.0.0.0/33"},
		"--cluster-cidr:":               {"--cluster-cidr=10.0.0.0/16,10.1.0.0/16"},
		"node mask":                     {"--node-cidr-mask-size=8"},
		"--leader-elect-lease-duration": {"--leader-elect-lease-duration=1500ms"},
		"--node-monitor-grace-period":   {"--node-monitor-grace-period=1s"},
		"--unhealthy-zone-threshold":    {"--unhealthy-zone-threshold=2"},
		"--tls-cert-file":               {"--tls-cert-file=x"},
		"--secure-port":                 {"--secure-port=70000"},
	} {
		if _, err := parse(t, args...); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// --controllers selects as documented.
func TestEnabled(t *testing.T) {
	for words, want := range map[string]bool{"*": true, "*,-job-controller": false, "job-controller": true, "other": false, "": false} {
		c := Config{Controllers: strings.Split(words, ",")}
		if got := c.Enabled("job-controller"); got != want {
			t.Errorf("%q: %v", words, got)
		}
	}
}

// Both families get a pool with their own mask.
func TestPools(t *testing.T) {
	c, err := parse(t, "--cluster-cidr=10.244.0.0/16,fd00::/48")
	if err != nil {
		t.Fatal(err)
	}
	pools, err := c.Pools()
	if err != nil || len(pools) != 2 || pools[0].NodeBits != 24 || pools[1].NodeBits != 64 {
		t.Errorf("pools %v, %v", pools, err)
	}
}

// Without a certificate metrics are served to this host only.
func TestAdminAddress(t *testing.T) {
	for args, want := range map[string]string{"": "127.0.0.1:10257", "--tls-cert-file=a --tls-private-key-file=b": ":10257", "--bind-address=10.0.0.1": "10.0.0.1:10257"} {
		c, err := parse(t, strings.Fields(args)...)
		if err != nil || c.AdminAddress() != want {
			t.Errorf("%q: %s, %v", args, c.AdminAddress(), err)
		}
	}
}

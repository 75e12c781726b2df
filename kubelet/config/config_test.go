package config

import (
	"strings"
	"testing"
)

// TestValidate shows what is said of settings that are wrong, and that the defaults need certificates only.
func TestValidate(t *testing.T) {
	valid := func() Config {
		c := Default()
		c.TLSCertFile, c.TLSPrivateKeyFile, c.ClientCAFile = "/c", "/k", "/a"
		return c
	}
	if c := valid(); c.Validate() != nil {
		t.Errorf("the defaults: %v", c.Validate())
	}
	asking := valid()
	asking.TLSCertFile, asking.TLSPrivateKeyFile, asking.ServerTLSBootstrap = "", "", true
	if err := asking.Validate(); err != nil {
		t.Errorf("a certificate that is asked for: %v", err)
	}
	for want, change := range map[string]func(*Config){
		`--hostname-override "A_b"`:                    func(c *Config) { c.HostnameOverride = "A_b" },
		`--node-ip "x": want an IP address`:            func(c *Config) { c.NodeIP = []string{"x"} },
		`--pod-cidr: "10.1": want a range such as`:     func(c *Config) { c.PodCIDR = []string{"10.1"} },
		`--root-dir "rel": want an absolute path`:      func(c *Config) { c.RootDir = "rel" },
		`--tls-cert-file is required`:                  func(c *Config) { c.TLSCertFile = "" },
		`must be given together`:                       func(c *Config) { c.TLSCertFile, c.ServerTLSBootstrap = "", true },
		`--image-gc-low-threshold must be below`:       func(c *Config) { c.ImageGCLowThresholdPercent = 99 },
		`--container-log-max-size "big"`:               func(c *Config) { c.ContainerLogMaxSize = "big" },
		`--system-reserved: cpu="lots"`:                func(c *Config) { c.SystemReserved = map[string]string{"cpu": "lots"} },
		`--register-with-taints "a=b": want key=value`: func(c *Config) { c.RegisterWithTaints = []string{"a=b"} },
	} {
		c := valid()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

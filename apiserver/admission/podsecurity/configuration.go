package podsecurity

import (
	"fmt"

	"k8s.io/pod-security-admission/api"
)

// Configuration is upstream's PodSecurityConfiguration (pod-security.admission.config.k8s.io/v1).
type Configuration struct {
	APIVersion string     `json:"apiVersion,omitempty"`
	Kind       string     `json:"kind,omitempty"`
	Defaults   Defaults   `json:"defaults"`
	Exemptions Exemptions `json:"exemptions"`
}

// Defaults are what namespaces without labels ask for; empty is privileged, at the latest version.
type Defaults struct {
	Enforce        string `json:"enforce,omitempty"`
	EnforceVersion string `json:"enforce-version,omitempty"`
	Audit          string `json:"audit,omitempty"`
	AuditVersion   string `json:"audit-version,omitempty"`
	Warn           string `json:"warn,omitempty"`
	WarnVersion    string `json:"warn-version,omitempty"`
}

// Exemptions are those whose pods are not looked at.
type Exemptions struct {
	Usernames      []string `json:"usernames,omitempty"`
	Namespaces     []string `json:"namespaces,omitempty"`
	RuntimeClasses []string `json:"runtimeClasses,omitempty"`
}

func (c *Configuration) policy() (api.Policy, error) {
	var p api.Policy
	for _, part := range []struct {
		name, level, version string
		to                   *api.LevelVersion
	}{
		{"enforce", c.Defaults.Enforce, c.Defaults.EnforceVersion, &p.Enforce},
		{"audit", c.Defaults.Audit, c.Defaults.AuditVersion, &p.Audit},
		{"warn", c.Defaults.Warn, c.Defaults.WarnVersion, &p.Warn},
	} {
		part.to.Level, part.to.Version = api.LevelPrivileged, api.LatestVersion()
		var err error
		if part.level != "" {
			if part.to.Level, err = api.ParseLevel(part.level); err != nil {
				return p, fmt.Errorf("defaults.%s: %w", part.name, err)
			}
		}
		if part.version != "" {
			if part.to.Version, err = api.ParseVersion(part.version); err != nil {
				return p, fmt.Errorf("defaults.%s-version: %w", part.name, err)
			}
		}
	}
	return p, nil
}

// Package configfile reads the file of --admission-control-config-file: upstream's AdmissionConfiguration (apiserver.config.k8s.io/v1),
// which configures admission plugins by name, each in place or in a file of its own
// (https://kubernetes.io/docs/reference/config-api/apiserver-config.v1/#apiserver-config-k8s-io-v1-AdmissionConfiguration).
package configfile

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"bareboat.dev/apiserver/admission/podsecurity"
)

// Configuration is what can be configured.
type Configuration struct {
	PodSecurity podsecurity.Configuration
}

// file is AdmissionConfiguration.
type file struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Plugins    []plugin `json:"plugins"`
}

type plugin struct {
	Name          string          `json:"name"`
	Path          string          `json:"path,omitempty"`
	Configuration json.RawMessage `json:"configuration,omitempty"`
}

// Read reads a file. Whatever it does not understand is an error: a rule that is misspelled must not be silently off.
func Read(path string) (Configuration, error) {
	var c Configuration
	var f file
	if err := strictly(path, &f); err != nil {
		return c, err
	}
	if group, _, _ := strings.Cut(f.APIVersion, "/"); group != "apiserver.config.k8s.io" || f.Kind != "AdmissionConfiguration" {
		return c, fmt.Errorf("%s: want kind AdmissionConfiguration of apiserver.config.k8s.io/v1, not %q of %q", path, f.Kind, f.APIVersion)
	}
	for _, p := range f.Plugins {
		if p.Name != "PodSecurity" {
			return c, fmt.Errorf("%s: plugin %q takes no configuration", path, p.Name)
		}
		if err := p.decode(filepath.Dir(path), &c.PodSecurity); err != nil {
			return c, fmt.Errorf("%s: plugin %s: %w", path, p.Name, err)
		}
	}
	return c, nil
}

func (p *plugin) decode(dir string, into any) error {
	if p.Path == "" {
		return yaml.UnmarshalStrict(p.Configuration, into)
	}
	path := p.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	return strictly(path, into)
}

func strictly(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := yaml.UnmarshalStrict(b, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

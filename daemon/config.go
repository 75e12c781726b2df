package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const (
	// ConfigAPIVersion is the apiVersion of configuration files.
	ConfigAPIVersion = "bareboat.dev/v1"
	// maxConfigBytes bounds a configuration file: a hundred settings take 10 KiB, a thousand mirrors 100 KiB.
	maxConfigBytes = 1 << 20
)

// ConfigKind is the kind of the configuration file of the daemon called name: "controllermanager" has
// "ControllermanagerConfiguration".
func ConfigKind(name string) string {
	if name == "" {
		return "Configuration"
	}
	return strings.ToUpper(name[:1]) + name[1:] + "Configuration"
}

// loadConfig decodes the file into config, strictly.
func loadConfig(path, name string, config any) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	if info.Size() > maxConfigBytes {
		return fmt.Errorf("--config: %s has %d bytes, which is more than a configuration's %d: is it the right file?", path, info.Size(), maxConfigBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	if err := decodeConfig(data, name, config); err != nil {
		return fmt.Errorf("configuration file %s: %w", path, err)
	}
	return nil
}

func decodeConfig(data []byte, name string, config any) error {
	asJSON, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(asJSON, &fields); err != nil {
		return errors.New("want a mapping of settings at the top level")
	}
	if err := checkType(fields, "apiVersion", ConfigAPIVersion); err != nil {
		return err
	}
	if err := checkType(fields, "kind", ConfigKind(name)); err != nil {
		return err
	}
	rest, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	strict, err := kjson.UnmarshalStrict(rest, config)
	if err != nil {
		return err
	}
	return errors.Join(strict...)
}

// checkType takes apiVersion or kind out of fields and compares it.
func checkType(fields map[string]json.RawMessage, field, want string) error {
	var have string
	if raw, ok := fields[field]; !ok {
		return fmt.Errorf("%s is missing: write %q", field, field+": "+want)
	} else if err := json.Unmarshal(raw, &have); err != nil || have != want {
		return fmt.Errorf("%s is %s, want %q", field, raw, want)
	}
	delete(fields, field)
	return nil
}

// Duration is a time.Duration that configuration files write as "1m30s". It is a pflag.Value too.
type Duration struct{ time.Duration }

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("%s is not a duration: write it as \"30s\" or \"1m30s\"", data)
	}
	return d.Set(s)
}

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// Set implements pflag.Value.
func (d *Duration) Set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration: write it as \"30s\" or \"1m30s\"", s)
	}
	d.Duration = v
	return nil
}

// Type implements pflag.Value.
func (d *Duration) Type() string { return "duration" }

package shim

import (
	"encoding/json"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// linuxSpec is the part of specs.Spec that Linux has. Package encoding/json keeps a table for each type that it can reach from what
// it decodes; those for the other systems' parts would cost each podshim some 60 KiB.
type linuxSpec struct {
	Version  string         `json:"ociVersion"`
	Process  *specs.Process `json:"process,omitempty"`
	Root     *specs.Root    `json:"root,omitempty"`
	Hostname string         `json:"hostname,omitempty"`
	Mounts   []specs.Mount  `json:"mounts,omitempty"`
	Linux    *specs.Linux   `json:"linux,omitempty"`
}

// leanConfig is ContainerConfig as podshim reads it.
type leanConfig struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Attempt   uint32     `json:"attempt"`
	Spec      *linuxSpec `json:"spec"`
	LogPath   string     `json:"logPath"`
	Stdin     bool       `json:"stdin"`
	StdinOnce bool       `json:"stdinOnce"`
	TTY       bool       `json:"tty"`
}

// UnmarshalJSON reads what MarshalJSON writes. Hooks and annotations in the specification are not read: nothing here uses them.
func (c *ContainerConfig) UnmarshalJSON(data []byte) error {
	var l leanConfig
	if err := json.Unmarshal(data, &l); err != nil {
		return err
	}
	*c = ContainerConfig{ID: l.ID, Name: l.Name, Attempt: l.Attempt, LogPath: l.LogPath, Stdin: l.Stdin, StdinOnce: l.StdinOnce, TTY: l.TTY}
	if s := l.Spec; s != nil {
		c.Spec = &specs.Spec{Version: s.Version, Process: s.Process, Root: s.Root, Hostname: s.Hostname, Mounts: s.Mounts, Linux: s.Linux}
	}
	return nil
}

// MarshalJSON writes all fields. That it exists keeps the decoder's side from looking into them.
func (c ContainerConfig) MarshalJSON() ([]byte, error) {
	type plain ContainerConfig
	return json.Marshal(plain(c))
}

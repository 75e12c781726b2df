package shim

import (
	"encoding/json"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// linuxSpec is the part of specs.Spec that Linux has. Package encoding/json keeps a table for each type that it can reach from what
// it decodes; those for the other systems' parts would cost each podshim some 60 KiB.
type linuxSpec struct {
	Version     string            `json:"ociVersion"`
	Process     *specs.Process    `json:"process,omitempty"`
	Root        *specs.Root       `json:"root,omitempty"`
	Hostname    string            `json:"hostname,omitempty"`
	Domainname  string            `json:"domainname,omitempty"`
	Mounts      []specs.Mount     `json:"mounts,omitempty"`
	Hooks       *specs.Hooks      `json:"hooks,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Linux       *specs.Linux      `json:"linux,omitempty"`
}

// leanConfig is ContainerConfig as podshim reads it.
type leanConfig struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Attempt   uint32     `json:"attempt"`
	Spec      *linuxSpec `json:"spec"`
	TargetID  string     `json:"targetID"`
	LogPath   string     `json:"logPath"`
	Stdin     bool       `json:"stdin"`
	StdinOnce bool       `json:"stdinOnce"`
	TTY       bool       `json:"tty"`
}

// UnmarshalJSON reads what MarshalJSON writes, but for other systems' parts of the specification.
func (c *ContainerConfig) UnmarshalJSON(data []byte) error {
	var l leanConfig
	if err := json.Unmarshal(data, &l); err != nil {
		return err
	}
	*c = ContainerConfig{ID: l.ID, Name: l.Name, Attempt: l.Attempt, TargetID: l.TargetID, LogPath: l.LogPath, Stdin: l.Stdin, StdinOnce: l.StdinOnce, TTY: l.TTY}
	if s := l.Spec; s != nil {
		c.Spec = &specs.Spec{
			Version: s.Version, Process: s.Process, Root: s.Root, Hostname: s.Hostname, Domainname: s.Domainname,
			Mounts: s.Mounts, Hooks: s.Hooks, Annotations: s.Annotations, Linux: s.Linux,
		}
	}
	return nil
}

// MarshalJSON writes all fields. That it exists keeps the decoder's side from looking into them.
func (c ContainerConfig) MarshalJSON() ([]byte, error) {
	type plain ContainerConfig
	return json.Marshal(plain(c))
}

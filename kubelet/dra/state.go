package dra

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/kubelet/durable"
)

// claim is what is known of a claim that is, or may be, prepared.
type claim struct {
	UID       types.UID `json:"uid"`
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	// Pods use it. When there are none left it is to be given back.
	Pods []types.UID `json:"pods,omitempty"`
	// Drivers have its devices, and may have been asked to prepare it.
	Drivers []string `json:"drivers,omitempty"`
	// Kept are the drivers that are not asked to give it back.
	Kept []string `json:"kept,omitempty"`
	// Prepared tells that they all have done so, Devices what they said.
	Prepared bool     `json:"prepared,omitempty"`
	Devices  []Device `json:"devices,omitempty"`
}

// Device is a device that a driver has prepared: its driver, pool and name tell it from others.
type Device struct {
	Driver string `json:"driver,omitempty"`
	Pool   string `json:"pool,omitempty"`
	Name   string `json:"name,omitempty"`
	// Share is which share of it this is, if it is shared.
	Share *string `json:"share,omitempty"`
	// Requests of the claim that it is for; none for all.
	Requests []string `json:"requests,omitempty"`
	// CDI are the names by which containers get it.
	CDI []string `json:"cdi,omitempty"`
}

// checkpoint is the file.
type checkpoint struct {
	// Version of the format: 1.
	Version int      `json:"version"`
	Claims  []*claim `json:"claims"`
}

const checkpointVersion = 1

// load reads the file; none is as good as an empty one.
func load(file string) (map[types.UID]*claim, error) {
	all := map[types.UID]*claim{}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	var c checkpoint
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if c.Version != checkpointVersion {
		return nil, fmt.Errorf("%s is of version %d, not %d", file, c.Version, checkpointVersion)
	}
	for _, x := range c.Claims {
		all[x.UID] = x
	}
	return all, nil
}

// saveLocked writes the file, durably, before anybody acts on what it says.
func (m *Manager) saveLocked() error {
	c := checkpoint{Version: checkpointVersion, Claims: []*claim{}}
	for _, x := range m.claims {
		c.Claims = append(c.Claims, x)
	}
	slices.SortFunc(c.Claims, func(a, b *claim) int { return compare(a, b) })
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return durable.WriteFile(m.file, data, 0o600)
}

func compare(a, b *claim) int {
	if a.UID < b.UID {
		return -1
	}
	return 1
}

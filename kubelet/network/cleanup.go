package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Cleanup removes everything that this package made on the node: interfaces, bridge, routes, rules, allocations, and sets the kernel
// parameters that it changed back. For the end of a node. PodCIDRs may be empty; both families are then looked at.
func Cleanup(_ context.Context, c Config) error {
	if c.Bridge == "" {
		c.Bridge = DefaultBridge
	}
	var all error
	families := familiesOf(&c)
	if len(families) == 0 {
		families = []tables{{netns: c.NetNSPath}, {netns: c.NetNSPath, ipv6: true}}
	}
	for _, t := range families {
		all = errors.Join(all, t.remove())
	}
	all = errors.Join(all, removeLinks(&c), restoreSysctls(&c))
	if all != nil {
		return fmt.Errorf("remove the pod network: %w", all)
	}
	return removeState(c.StateDir)
}

func removeLinks(c *Config) error {
	host, err := handleAt(c.NetNSPath)
	if err != nil {
		return err
	}
	defer host.Close()
	var all error
	routes, err := ourRoutes(host)
	all = errors.Join(all, err)
	for _, r := range routes {
		all = errors.Join(all, host.RouteDel(&r))
	}
	all = errors.Join(all, removeTunnel(host, false), removeTunnel(host, true))
	links, err := host.LinkList()
	if err != nil {
		return errors.Join(all, err)
	}
	bridge := 0
	for _, l := range links {
		if isOurBridge(l, c.Bridge) {
			bridge = l.Attrs().Index
		}
	}
	for _, l := range links {
		if l.Attrs().Index != bridge && !isOurPort(l, bridge) {
			continue
		}
		if err := host.LinkDel(l); err != nil && !isNotFound(err) {
			all = errors.Join(all, fmt.Errorf("remove %s: %w", l.Attrs().Name, err))
		}
	}
	return all
}

func restoreSysctls(c *Config) error {
	before := map[string]string{}
	if err := readJSONFile(filepath.Join(c.StateDir, sysctlFile), &before); err != nil {
		return err
	}
	return in(c.NetNSPath, func() error {
		var all error
		for name, value := range before {
			_, err := setSysctl(name, value)
			all = errors.Join(all, err)
		}
		return all
	})
}

// removeState removes the files that we made, and the directory if nothing else is in it.
func removeState(dir string) error {
	pods := filepath.Join(dir, podsDir)
	entries, err := os.ReadDir(pods)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var paths []string
	for _, e := range entries {
		paths = append(paths, filepath.Join(pods, e.Name()))
	}
	for _, p := range append(paths, pods, filepath.Join(dir, sysctlFile)) {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	_ = os.Remove(dir) // others may keep things there
	return nil
}

func readJSONFile(path string, v any) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

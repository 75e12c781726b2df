package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// podsDir has a file per pod: what it has been given. A file is written before anything is made for the pod, and removed after
// everything is gone. It is replaced by rename but not synced: it need not outlive the machine's boot, as the pods do not.
const podsDir = "pods"

// sysctlFile remembers the kernel parameters that we changed, for Cleanup.
const sysctlFile = "sysctl.json"

func podFile(stateDir, uid string) string { return filepath.Join(stateDir, podsDir, uid+".json") }

func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, path)
}

// readPods reads all pods' files. One that cannot be understood was cut off by a crash of the machine: it is removed.
func readPods(stateDir string) ([]Attached, error) {
	entries, err := os.ReadDir(filepath.Join(stateDir, podsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var pods []Attached
	for _, e := range entries {
		uid, ok := strings.CutSuffix(e.Name(), ".json")
		path := filepath.Join(stateDir, podsDir, e.Name())
		var a Attached
		if ok {
			data, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			ok = json.Unmarshal(data, &a) == nil && a.PodUID == uid && len(a.IPs) > 0
		}
		if !ok {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("remove broken pod network file: %w", err)
			}
			continue
		}
		pods = append(pods, a)
	}
	return pods, nil
}

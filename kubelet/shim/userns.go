package shim

import (
	"path/filepath"
	"strconv"
)

// UserNSPath is a path of the pod's user namespace, for mounts whose owners are mapped by it; empty if it has none of its own.
func (p *Pod) UserNSPath() string {
	if p.config.UserNamespace == nil {
		return ""
	}
	return filepath.Join("/proc", strconv.Itoa(p.process.PID), "fd", strconv.Itoa(UserNSDescriptor))
}

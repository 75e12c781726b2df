package server

import (
	"encoding/json"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"

	"bareboat.dev/kubelet/cgroup"
	"bareboat.dev/kubelet/shim"
)

// warmUp does ahead of the first container what every first container needs, while the kubelet is still making the pod's network and
// volumes: libcontainer keeps where the host's cgroups are mounted, which it reads from the table of all mounts (v1), and encoding/json
// keeps how types are encoded. Earlier is also less work: at a burst's beginning the table is short, at its end it has three more lines
// for each pod. Whatever fails here fails again, and is told, when a container is created.
func (s *Server) warmUp() {
	if s.cgroups.Version() == cgroup.V1 {
		_, _ = cgroups.GetCgroupMounts(false)
	}
	_, _ = json.Marshal(libcontainer.State{})
	_, _ = json.Marshal(shim.ContainerStatus{})
}

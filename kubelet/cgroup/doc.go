// Package cgroup makes, limits, measures and removes the node's control groups, on cgroup v1 and v2 alike.
//
// Paths are given relative to the root of the hierarchies, such as kubepods/burstable/pod<uid>. The kubelet owns everything below
// its QoS root ([Tree]), whose shape is that of Kubernetes with the cgroupfs driver:
//
//	kubepods/pod<uid>/<container>                Guaranteed
//	kubepods/burstable/pod<uid>/<container>
//	kubepods/besteffort/pod<uid>/<container>
//
// [Hierarchy] acts on any group. The containers' own groups are made by podshim from their OCI specification; this package reads
// and kills in them.
//
//	h, err := cgroup.Detect()
//	tree := h.Tree("kubepods")
//	err = tree.Ensure(cgroup.NodeLimits{…})
//	path, err := tree.CreatePod(cgroup.Burstable, uid, cgroup.Resources{CPUShares: 512, MemoryLimit: 256 << 20, PidsLimit: 1024})
//
// Units are those of the Kubernetes API turned into the kernel's: see [Resources].
package cgroup

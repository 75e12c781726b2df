// Package shim is the kubelet's side of podshim: the protocol they speak and a client for it.
//
// A podshim is one small process per pod. It is started by [Launch] directly in the pod's new network, IPC and UTS
// namespaces, holds them open (so no pause container is needed), is the parent of the pod's containers, writes their logs
// in CRI format, and records every exit on disk before it tells anyone. It belongs to no kubelet: it is its own session
// and lives in its own cgroup, so a kubelet that stops or is killed leaves it running, and the next one finds it with
// [List] and [Attach].
//
// The contract:
//
//   - Exits are never lost. An exit is written to the state directory (write, fsync, rename, fsync of the directory) before it is
//     announced; [Pod.Events] first replays the recorded exits of all containers not yet deleted and then follows.
//   - Exits may be announced more than once (on each Events call); a consumer keys them by container ID.
//   - Containers do not outlive their podshim: if it is killed, the kernel kills them. The kubelet sees [ErrShimDead] from
//     any call, reads what was recorded with [ReadState], and clears the rest away with [Reap].
//   - The state directory is enough: nothing about a pod is kept elsewhere, and nothing in it is needed after [Pod.Shutdown].
//
// Calls may be made from any number of goroutines, and are independent: each uses its own connection to the pod's unix socket.
//
//	pod, err := shim.Launch(ctx, "/usr/lib/bareboat/podshim", shim.PodConfig{
//		UID: uid, Namespace: "default", Name: "web", StateDir: "/run/bareboat/pods/" + uid, CgroupParent: "kubepods/pod" + uid,
//	})
//	// network.Setup(ctx, … pod.NetNSPath() …)
//	err = pod.Create(ctx, shim.ContainerConfig{ID: id, Name: "web", Spec: spec, LogPath: "/var/log/pods/…/web/0.log"})
//	pid, err := pod.Start(ctx, id)
//	for event, err := range pod.Events(ctx) { … }
//
// This package links neither libcontainer nor the Kubernetes API; [bareboat.dev/kubelet/shim/server] is the other side.
package shim

// Package device gives containers devices that plug-ins look after: the device plug-in API, v1beta1
// (https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/).
//
// Plug-ins register at a socket in a directory, where they have theirs; [Manager] follows what devices they have, and which of them
// are healthy. A pod's devices are chosen when it is admitted ([Manager.Take]), by [Choose], which is pure; its plug-ins are asked
// what they need when its containers are made ([Manager.Prepare]); they are free again when it has ended ([Manager.Release]).
//
//	m := device.New(device.Config{Dir: "/var/lib/kubelet/device-plugins", Log: log, Changed: nudge})
//	go m.Run(ctx)
//	err := m.Take(pod, container, numa.Hint{})              // ErrUnavailable
//	err = m.Commit()
//	grant, err := m.Prepare(ctx, pod.UID, "container")      // environment, mounts, device nodes
//
// The contract:
//
//   - A device belongs to one container from Take to Release, across restarts of the kubelet and of plug-ins: choices are a file that
//     is written before anybody learns of them.
//   - A resource that a plug-in has ever registered for stays known, as a file: a pod that asks for it before the plug-in has registered
//     again after a start of the kubelet is refused, rather than run without its device.
//   - A device of a plug-in that has gone, or that is unhealthy, is given to nobody; who has it keeps it.
//   - Devices are near the NUMA nodes that they are to be near, if there are any, and those that their plug-in prefers, if it says so.
//   - The devices of an init container are used again by later ones of its pod.
//
// It is one of the providers that package topology asks.
package device

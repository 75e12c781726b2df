// Package device gives containers devices that plug-ins look after: the device plug-in API, v1beta1
// (https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/).
//
// Plug-ins register at a socket in a directory, where they have theirs; [Manager] follows what devices they have, and which of them
// are healthy. A pod's devices are chosen when it is admitted ([Manager.Reserve]), by [Choose], which is pure; its plug-ins are asked
// when its containers are made ([Manager.Prepare]); they are free again when it has ended ([Manager.Release]).
//
//	m := device.New(device.Config{Dir: "/var/lib/kubelet/device-plugins", Log: log, Changed: nudge})
//	go m.Run(ctx)
//	err := m.Reserve(pod)                                   // ErrUnavailable
//	grant, err := m.Prepare(ctx, pod.UID, "container")      // environment, mounts, device nodes
//
// The contract:
//
//   - A device belongs to one container from Reserve to Release, across restarts of the kubelet and of plug-ins: choices are a file that
//     is written before anybody learns of them.
//   - A resource that a plug-in has ever registered for stays known, as a file: a pod that asks for it before the plug-in has registered
//     again after a start of the kubelet is refused, rather than run without its device.
//   - A device of a plug-in that has gone, or that is unhealthy, is given to nobody; who has it keeps it.
//   - The devices of an init container are used again by later ones of its pod.
package device

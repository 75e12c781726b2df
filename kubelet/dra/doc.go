// Package dra gives containers the devices of their pod's ResourceClaims (KEP-4381): the kubelet's half of Dynamic Resource Allocation.
//
// Drivers register as other plug-ins do (package plugins), with the type DRAPlugin; they are asked to prepare the
// claims of a pod before anything of it runs ([Manager.Prepare]), and answer with the names of CDI devices
// (https://github.com/cncf-tags/container-device-interface), whose files they have put into /etc/cdi or /var/run/cdi. What those ask for,
// environment, device nodes, mounts and hooks, goes into the specification of the containers that name the claim ([Manager.Inject]). When
// the last pod that uses a claim has ended ([Manager.Release]) the drivers are asked to undo it.
//
//	m, err := dra.New(dra.Config{Root: "/var/lib/kubelet", API: api, Log: log})
//	go m.Run(ctx)
//	err = m.Prepare(ctx, pod)               // before its containers
//	err = m.Inject(spec, pod, container)
//	m.Release(pod.UID)                      // after them
//
// The contract:
//
//   - A claim is prepared for pods that it is reserved for, and no others.
//   - Which pods use which claims is a file that is written before a driver is asked, so that whatever was prepared is unprepared, across
//     restarts of the kubelet and of drivers. A driver that has gone is asked when it comes back.
//   - Drivers are asked one thing at a time: what has ended is undone before anything else is prepared. They may be asked twice for the
//     same, and must answer alike, as the API of drivers says.
package dra

// Package volume makes a pod's volumes on its node and takes them away again.
//
// A pod's volumes live below its directory, laid out as Kubernetes lays them out:
//
//	<root>/pods/<uid>/volumes/kubernetes.io~<plugin>/<volume>     emptyDir, configMap, secret, downwardAPI, projected
//	<root>/pods/<uid>/volumes/kubernetes.io~{csi,nfs,image}/…     what plug-ins make: see [Plugin]
//	<root>/pods/<uid>/volume-subpaths/<volume>/<container>/<n>    subPath mounts
//
// The contract:
//
//   - The files of configMap, secret, downwardAPI and projected volumes change all at once: they are symbolic links through
//     "..data", which is replaced by rename.
//   - A subPath never leads out of its volume, whatever the containers do meanwhile: it is opened with openat2(2),
//     RESOLVE_IN_ROOT, and bound from that descriptor.
//   - The pod's group is given a volume from descriptors of what is in it: no link that a container puts there, at whatever
//     moment, leads outside.
//   - Teardown unmounts what was mounted before it deletes, never deletes through a mount and never follows a link: what
//     it finds on another device it refuses to enter.
//   - Mount and Unmount may be repeated after any failure.
//
// Secrets and memory-backed emptyDirs live in tmpfs and never touch a disk.
package volume

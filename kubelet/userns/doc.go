// Package userns gives pods ranges of the host's users and groups, for user namespaces of their own (PodSpec.hostUsers: false, KEP-127).
//
// Every pod has 65,536 ids of which no other pod has any, from a multiple of 65,536 on; the host's own users, below 65,536, are in none.
// A range is written into the pod's directory before it is used, and is the pod's until that directory is gone: files that a pod has left
// behind never become another's by a restart of the kubelet.
//
//	a, err := userns.Open("/var/lib/kubelet/pods", 110)
//	first, err := a.Allocate(uid)
//	a.Release(uid)
package userns

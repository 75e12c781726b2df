package csi

import (
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/kubelet/volume"
)

// InUse lists the volumes that somebody attached to this node and that pods use, or may use, by their names in
// node.status.volumesInUse. It reads the records below the kubelet's directory: each is written before a driver is asked for a volume,
// removed after the driver has given it up, and outlives the kubelet and the pod's object.
func InUse(root string) (names []corev1.UniqueVolumeName) {
	for _, file := range records(root) {
		if t, err := readTarget(filepath.Dir(file)); err == nil && t.Attached {
			names = append(names, t.inUse())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// records are the files of all volumes of all pods.
func records(root string) []string {
	files, _ := filepath.Glob(filepath.Join(root, "pods/*/volumes", volume.PluginCSI, "*", dataFile)) // the pattern is well formed
	return files
}

func (t target) inUse() corev1.UniqueVolumeName {
	return corev1.UniqueVolumeName("kubernetes.io/csi/" + t.Driver + "^" + t.Handle)
}

package volumeprotection

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A volume gets the finalizer while it lives and loses it when it is being deleted and is not bound.
func TestReconcile(t *testing.T) {
	now := metav1.Now()
	for name, c := range map[string]struct {
		deleting, has bool
		phase         corev1.PersistentVolumePhase
		writes        int
	}{
		"unprotected": {false, false, corev1.VolumeAvailable, 1}, "protected": {false, true, corev1.VolumeBound, 0},
		"deleted, bound": {true, true, corev1.VolumeBound, 0}, "deleted, released": {true, true, corev1.VolumeReleased, 1},
		"deleted, let go": {true, false, corev1.VolumeReleased, 0},
	} {
		v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v", UID: "u", ResourceVersion: "1"}, Status: corev1.PersistentVolumeStatus{Phase: c.phase}}
		if c.deleting {
			v.DeletionTimestamp = &now
		}
		if c.has {
			v.Finalizers = []string{Finalizer}
		}
		if p := Reconcile(v); len(p.Writes) != c.writes {
			t.Errorf("%s: %d writes", name, len(p.Writes))
		}
	}
}

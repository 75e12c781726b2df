package pod

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestMountStatus shows that a status says how a volume is mounted, not how it was to be.
func TestMountStatus(t *testing.T) {
	for want, m := range map[corev1.RecursiveReadOnlyMode]corev1.VolumeMount{
		"":         {},
		"Disabled": {ReadOnly: true},
		"Enabled":  {ReadOnly: true, RecursiveReadOnly: new(corev1.RecursiveReadOnlyIfPossible)},
	} {
		got := corev1.RecursiveReadOnlyMode("")
		if r := mountStatus(m).RecursiveReadOnly; r != nil {
			got = *r
		}
		if got != want {
			t.Errorf("%+v: %s, want %s", m, got, want)
		}
	}
}

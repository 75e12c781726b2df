package volume

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// claims is a world of one claim and its volume.
type claims struct {
	world
	claim corev1.PersistentVolumeClaim
	pv    *corev1.PersistentVolume
}

func (c *claims) Claim(context.Context, string, string) (*corev1.PersistentVolumeClaim, *corev1.PersistentVolume, error) {
	return &c.claim, c.pv, nil
}

// TestClaims shows which claims a pod gets the volumes of, and that a device is no directory.
func TestClaims(t *testing.T) {
	p := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte("volumes: [{name: own, ephemeral: {}}, {name: data, persistentVolumeClaim: {claimName: c}}, {name: scratch, emptyDir: {}}]"), &p.Spec); err != nil {
		t.Fatal(err)
	}
	p.Namespace, p.Name, p.UID = "ns", "p", "pod"
	for want, change := range map[string]func(*claims){
		"": func(*claims) {},
		"PersistentVolumeClaim ns/c is not bound":                  func(c *claims) { c.claim.Status.Phase = corev1.ClaimPending },
		"ns/c is not bound":                                        func(c *claims) { c.pv = nil },
		"PersistentVolume pv is not bound to any claim":            func(c *claims) { c.pv.Spec.ClaimRef = nil },
		`bound to a claim of uid "other"`:                          func(c *claims) { c.pv.Spec.ClaimRef.UID = "other" },
		"PersistentVolumeClaim ns/c is being deleted":              func(c *claims) { c.claim.DeletionTimestamp = &metav1.Time{} },
		"PVC ns/c was not created for pod ns/p (pod is not owner)": func(c *claims) { c.claim.OwnerReferences = nil },
		"volume own has volumeMode Block, but is specified in volumeMounts": func(c *claims) {
			block := corev1.PersistentVolumeBlock
			c.pv.Spec.VolumeMode = &block
		},
	} {
		c := &claims{pv: &corev1.PersistentVolume{}}
		c.pv.Name, c.pv.Spec.ClaimRef = "pv", &corev1.ObjectReference{UID: "claim"}
		c.pv.Spec.HostPath = &corev1.HostPathVolumeSource{Path: "/"}
		c.claim.Namespace, c.claim.Name, c.claim.UID, c.claim.Status.Phase = "ns", "c", "claim", corev1.ClaimBound
		controller := true
		c.claim.OwnerReferences = []metav1.OwnerReference{{UID: p.UID, Controller: &controller}}
		change(c)
		m := New(Config{Root: t.TempDir(), Sources: c})
		v := &p.Spec.Volumes[0]
		_, err := m.claimPath(t.Context(), p, v, true)
		if err == nil {
			err = m.CheckMode(t.Context(), p, v, corev1.PersistentVolumeFilesystem)
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
		if strings.HasSuffix(want, "being deleted") { // who runs goes on
			if _, err := m.Path(t.Context(), p, v); err != nil {
				t.Error(err)
			}
		}
		if strings.HasSuffix(want, "is not owner)") { // it may be used by its name
			if _, err := m.claimPath(t.Context(), p, &p.Spec.Volumes[1], true); err != nil {
				t.Error(err)
			}
		}
	}
	m := New(Config{Root: t.TempDir(), Sources: &claims{}})
	if again, err := m.Refresh(t.Context(), p); err != nil || again.IsZero() {
		t.Errorf("volumes that cannot be looked up now: again at %v, %v", again, err)
	}
	if err := m.CheckMode(t.Context(), p, &p.Spec.Volumes[2], corev1.PersistentVolumeBlock); err == nil || err.Error() != "volume scratch has volumeMode Filesystem, but is specified in volumeDevices" {
		t.Errorf("a directory as a device: %v", err)
	}
}

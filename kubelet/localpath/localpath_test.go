package localpath

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	"bareboat.dev/kubelet/volume"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func put(s *clienttest.Server, name, node string, change func(*corev1.PersistentVolume)) {
	now := metav1.Now()
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{NodeLabel: node}, Finalizers: []string{"other", Finalizer}, DeletionTimestamp: &now,
			Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": volume.LocalPathProvisioner},
		},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: volume.LocalPathRoot + "/" + name}},
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeReleased},
	}
	if change != nil {
		change(v)
	}
	clienttest.Put(s, client.PersistentVolumes(), v)
}

// Only the directories of released volumes of this node that are being deleted and may be go; links in them are not followed; and the
// finalizer comes off once a directory is gone, or is not to go.
func TestCleaner(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	s := clienttest.NewServer(t)
	for _, name := range []string{"gone", "bound", "alive", "kept", "elsewhere", "nobodys"} {
		dir := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, filepath.Join(dir, "sub", "link")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(outside, "precious"), []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	put(s, "bound", "me", func(v *corev1.PersistentVolume) { v.Status.Phase = corev1.VolumeBound })
	put(s, "alive", "me", func(v *corev1.PersistentVolume) { v.DeletionTimestamp = nil })
	put(s, "kept", "me", func(v *corev1.PersistentVolume) {
		v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	})
	put(s, "elsewhere", "other", nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- New(Config{Client: s.Client(), Node: "me", Root: root, Log: slog.New(slog.DiscardHandler)}).Run(ctx)
	}()
	put(s, "gone", "me", nil)
	all := client.Of(s.Client(), client.PersistentVolumes())
	for _, name := range []string{"gone", "kept"} {
		for ev, err := range all.Watch(ctx, "", client.WatchOptions{InitialEvents: true}) {
			if err != nil {
				t.Fatal(err)
			}
			if ev.Object != nil && ev.Object.Name == name && slices.Equal(ev.Object.Finalizers, []string{"other"}) {
				break
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for name, want := range map[string]bool{"gone": false, "bound": true, "alive": true, "kept": true, "elsewhere": true, "nobodys": true} {
		if _, err := os.Stat(filepath.Join(root, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(outside, "precious")); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
	for _, name := range []string{"bound", "alive", "elsewhere"} {
		v, err := all.Get(t.Context(), "", name)
		if err != nil || !slices.Contains(v.Finalizers, Finalizer) {
			t.Errorf("%s lost its finalizer: %v", name, err)
		}
	}
}

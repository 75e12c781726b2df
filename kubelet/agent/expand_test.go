package agent

import (
	"context"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/client/clienttest"
	"bareboat.dev/kubelet/volume"
)

// TestExpand shows when a volume is expanded, to which size, and what its claim says afterwards.
func TestExpand(t *testing.T) {
	pending := corev1.PersistentVolumeClaimStatus{Conditions: []corev1.PersistentVolumeClaimCondition{
		{Type: corev1.PersistentVolumeClaimFileSystemResizePending, Status: corev1.ConditionTrue}, {Type: corev1.PersistentVolumeClaimVolumeModifyVolumeError},
	}}
	byStatus := corev1.PersistentVolumeClaimStatus{AllocatedResourceStatuses: map[corev1.ResourceName]corev1.ClaimResourceStatus{
		corev1.ResourceStorage: corev1.PersistentVolumeClaimNodeResizePending}}
	busy := errors.New("the disk is busy")
	for name, c := range map[string]struct {
		status corev1.PersistentVolumeClaimStatus
		fail   error
		want   string // calls, whether it was done, the claim's size, its conditions and statuses
	}{
		"as large as it is to be": {corev1.PersistentVolumeClaimStatus{}, nil, "0 false 1Gi 0 0"},
		"its condition says so":   {pending, nil, "2147483648 true 2Gi 1 0"},
		"its status says so":      {byStatus, nil, "2147483648 true 2Gi 0 0"},
		"nothing for the node":    {byStatus, fmt.Errorf("%w here", volume.ErrUnsupported), "2147483648 true 2Gi 0 0"},
		"it fails":                {byStatus, busy, "2147483648 false 1Gi 0 1"},
	} {
		s := clienttest.NewServer(t)
		pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}}
		pv.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")}
		clienttest.Put(s, client.PersistentVolumes(), pv)
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c"}, Status: *c.status.DeepCopy()}
		claim.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
		clienttest.Put(s, client.PersistentVolumeClaims(), claim)
		asked := int64(0)
		e := expansion{client: s.Client(), expand: func(_ context.Context, v volume.Claimed, bytes int64) error {
			asked = bytes
			return c.fail
		}}
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}}
		done, err := e.run(t.Context(), volume.Claimed{Request: volume.Request{Pod: p, PV: &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}}}, Claim: "c"})
		if errors.Is(c.fail, busy) != (err != nil) {
			t.Errorf("%s: %v", name, err)
		}
		now, err := client.Of(s.Client(), client.PersistentVolumeClaims()).Get(t.Context(), "ns", "c")
		if err != nil {
			t.Fatal(err)
		}
		size := now.Status.Capacity[corev1.ResourceStorage]
		if got := fmt.Sprintln(asked, done, size.String(), len(now.Status.Conditions), len(now.Status.AllocatedResourceStatuses)); got != c.want+"\n" {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

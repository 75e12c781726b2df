package core_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/kindtest"
)

const volume = `
apiVersion: v1
kind: PersistentVolume
metadata: {name: v}
spec: {accessModes: [ReadWriteOnce], capacity: {storage: 2Gi}, hostPath: {path: /data}}
`

// Volumes that kube-apiserver accepts and refuses, and why.
func TestPersistentVolume(t *testing.T) {
	r := kindtest.Kind(t, core.Resources(), "PersistentVolume")
	const onNode = "nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}"
	kindtest.Create(t, r, volume, []kindtest.Case{
		{Name: "minimal"},
		{Name: "local", Edit: "spec: {hostPath: null, local: {path: /d}, " + onNode + "}"},
		{Name: "csi", Edit: "spec: {hostPath: null, csi: {driver: a.b, volumeHandle: h, nodeExpandSecretRef: {name: s, namespace: ns}}, volumeAttributesClassName: gold}"},
		{Name: "empty", Edit: "spec: null", Want: []string{
			"spec.accessModes: Required value",
			"spec.capacity: Required value",
			`spec.capacity: Unsupported value: null: supported values: "storage"`,
			"spec: Required value: must specify a volume type"}},
		{Name: "capacity", Edit: "spec: {capacity: {storage: 0, pods: 1}}", Want: []string{
			`spec.capacity: Unsupported value: {"pods":"1","storage":"0"}: supported values: "storage"`,
			`spec.capacity[storage]: Invalid value: "0": must be greater than zero`}},
		{Name: "two sources", Edit: "spec: {nfs: {server: s, path: /}}", Want: []string{
			"spec.nfs: Forbidden: may not specify more than 1 volume type"}},
		{Name: "reclaim", Edit: "spec: {persistentVolumeReclaimPolicy: Burn}", Want: []string{
			`spec.persistentVolumeReclaimPolicy: Unsupported value: "Burn": supported values: "Delete", "Recycle", "Retain"`}},
		{Name: "recycled root", Edit: "spec: {persistentVolumeReclaimPolicy: Recycle, hostPath: {path: //}}", Want: []string{
			"spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"}},
		{Name: "local anywhere", Edit: "spec: {hostPath: null, local: {path: ../d}}", Want: []string{
			`spec.local.path: Invalid value: "../d": must not contain '..'`,
			"spec.nodeAffinity: Required value: Local volume requires node affinity"}},
		{Name: "no constraint", Edit: "spec: {nodeAffinity: {}}", Want: []string{
			"spec.nodeAffinity.required: Required value: must specify required node constraints"}},
		{Name: "secrets", Edit: "spec: {hostPath: null, csi: {driver: a.b, nodePublishSecretRef: {name: S}}}", Want: []string{
			"spec.csi.volumeHandle: Required value",
			`spec.csi.nodePublishSecretRef.name: Invalid value: "S": a lowercase RFC 1123 subdomain…`,
			"spec.csi.nodePublishSecretRef.namespace: Required value"}},
		{Name: "attributes without driver", Edit: "spec: {volumeAttributesClassName: ''}", Want: []string{
			"spec.volumeAttributesClassName: Required value: an empty string is disallowed",
			"spec.csi: Required value: has to be specified when using volumeAttributesClassName"}},
		{Name: "old systems", Edit: "spec: {hostPath: null, cephfs: {monitors: []}, azureFile: {secretName: s, shareName: s}}", Want: []string{
			"spec.cephfs.monitors: Required value",
			"spec.azureFile: Forbidden: may not specify more than 1 volume type"}},
	})
	kindtest.Update(t, r, volume, []kindtest.Case{
		{Name: "claim", Edit: "spec: {claimRef: {name: c, namespace: ns}, persistentVolumeReclaimPolicy: Delete, storageClassName: s}"},
		{Name: "affinity once", Edit: "spec: {" + onNode + "}"},
		{Name: "size", Edit: "spec: {capacity: {storage: 3Gi}}"},
		{Name: "source", Edit: "spec: {hostPath: {path: /other}}", Want: []string{
			"spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation…"}},
		{Name: "affinity twice", Old: "spec: {" + onNode + "}", Edit: "spec: {nodeAffinity: null}", Want: []string{
			"nodeAffinity: Invalid value: null: field is immutable"}},
		{Name: "mode", Edit: "spec: {volumeMode: Block}", Want: []string{`volumeMode: Invalid value: "Block": field is immutable`}},
	})
}

// The time of a phase is kept, unless the writer says another.
func TestVolumePhaseTime(t *testing.T) {
	r := kindtest.Kind(t, core.Resources(), "PersistentVolume")
	obj, errs := kindtest.New(t, r, volume)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	old, now := obj.(*corev1.PersistentVolume), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	body := old.DeepCopy()
	update := func() *metav1.Time {
		got, err := r.Subresources["status"].Apply(old, body, now)
		if err != nil {
			t.Fatal(err)
		}
		return got.(*corev1.PersistentVolume).Status.LastPhaseTransitionTime
	}
	if at := update(); at != nil {
		t.Errorf("same phase: got %v", at)
	}
	body.Status.Phase = corev1.VolumeBound
	if at := update(); at == nil || !at.Time.Equal(now) {
		t.Errorf("new phase: got %v, want %v", at, now)
	}
	body.Status.LastPhaseTransitionTime = &metav1.Time{Time: now.Add(-time.Hour)}
	if at := update(); at == nil || !at.Time.Equal(now.Add(-time.Hour)) {
		t.Errorf("writer's time: got %v", at)
	}
}

package claimprotection

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
)

// A claim gets the finalizer while it lives and loses it when it is being deleted and no pod on a node is left that uses it.
func TestReconcile(t *testing.T) {
	now := metav1.Now()
	onNode := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "n"}}
	ended := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "n"}, Status: corev1.PodStatus{Phase: corev1.PodFailed}}
	for name, c := range map[string]struct {
		deleting, has bool
		users         []*corev1.Pod
		writes        string
	}{
		"unprotected":       {false, false, nil, `{"metadata":{"finalizers":["x","kubernetes.io/pvc-protection"],"resourceVersion":"1","uid":"u"}}`},
		"protected":         {false, true, nil, ""},
		"deleted, used":     {true, true, []*corev1.Pod{onNode}, ""},
		"deleted, waiting":  {true, true, []*corev1.Pod{{}}, `{"metadata":{"finalizers":["x"],"resourceVersion":"1","uid":"u"}}`},
		"deleted, ended":    {true, true, []*corev1.Pod{ended}, `{"metadata":{"finalizers":["x"],"resourceVersion":"1","uid":"u"}}`},
		"deleted, let go":   {true, false, nil, ""},
		"deleted, some use": {true, true, []*corev1.Pod{ended, onNode}, ""},
	} {
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "c", UID: "u", ResourceVersion: "1", Finalizers: []string{"x"}}}
		if c.deleting {
			claim.DeletionTimestamp = &now
		}
		if c.has {
			claim.Finalizers = append(claim.Finalizers, Finalizer)
		}
		p := Reconcile(claim, c.users)
		got := ""
		if len(p.Writes) > 0 && p.Writes[0].Verb == plan.VerbMergePatch {
			got = string(p.Writes[0].Patch)
		}
		if got != c.writes {
			t.Errorf("%s: %s, want %s", name, got, c.writes)
		}
	}
}

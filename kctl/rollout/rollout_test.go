package rollout

import (
	"encoding/json"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

func replicaSet(revision, image string) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{RevisionAnnotation: revision}}}
	rs.Spec.Template.Labels = map[string]string{"app": "web", hashLabel: "h" + revision}
	rs.Spec.Template.Spec.Containers = []corev1.Container{{Name: "web", Image: image}}
	return rs
}

func testDeployment(image string) *appsv1.Deployment {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", ResourceVersion: "7"}}
	d.Spec.Template.Labels = map[string]string{"app": "web"}
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "web", Image: image}}
	return d
}

// TestTarget shows what undo goes back to, and when it refuses.
func TestTarget(t *testing.T) {
	sets := []*appsv1.ReplicaSet{replicaSet("1", "web:1"), replicaSet("2", "web:2"), replicaSet("3", "web:3")}
	if rs, err := Target(testDeployment("web:3"), sets, 0); err != nil || Revision(rs) != 2 {
		t.Errorf("undo goes to %v, %v", rs, err)
	}
	if rs, err := Target(testDeployment("web:3"), sets, 1); err != nil || Revision(rs) != 1 {
		t.Errorf("undo to 1 goes to %v, %v", rs, err)
	}
	if rs, err := Target(testDeployment("web:3"), sets, 3); err != nil || rs != nil {
		t.Errorf("undo to the current revision gives %v, %v", rs, err)
	}
	annotated := testDeployment("web:3")
	annotated.Spec.Template.Annotations = map[string]string{"restarted": "now"}
	if rs, err := Target(annotated, sets, 3); err != nil || Revision(rs) != 3 {
		t.Errorf("undo of an annotation goes to %v, %v", rs, err)
	}
	if _, err := Target(testDeployment("web:3"), sets, 9); err == nil {
		t.Error("undo to an unknown revision succeeded")
	}
	paused := testDeployment("web:3")
	paused.Spec.Paused = true
	if _, err := Target(paused, sets, 0); err == nil {
		t.Error("undo of a paused deployment succeeded")
	}
}

// TestUndoPatch shows that the patch is conditional and leaves the controller's label out.
func TestUndoPatch(t *testing.T) {
	patch, err := UndoPatch(testDeployment("web:3"), replicaSet("2", "web:2"))
	if err != nil || !json.Valid(patch) {
		t.Fatalf("%s: %v", patch, err)
	}
	for _, want := range []string{`"test"`, `"7"`, "web:2"} {
		if !strings.Contains(string(patch), want) {
			t.Errorf("the patch lacks %s: %s", want, patch)
		}
	}
	if strings.Contains(string(patch), hashLabel) {
		t.Errorf("the patch has the controller's label: %s", patch)
	}
}

// TestStatus shows kubectl's words for each stage of a deployment's rollout.
func TestStatus(t *testing.T) {
	three := int32(3)
	tests := []struct {
		status     appsv1.DeploymentStatus
		generation int64
		want       string
		done       bool
	}{
		{appsv1.DeploymentStatus{}, 1, "Waiting for deployment spec update to be observed...\n", false},
		{appsv1.DeploymentStatus{UpdatedReplicas: 1, Replicas: 3}, 0, "Waiting for deployment \"web\" rollout to finish: 1 out of 3 new replicas have been updated...\n", false},
		{appsv1.DeploymentStatus{UpdatedReplicas: 3, Replicas: 4}, 0, "Waiting for deployment \"web\" rollout to finish: 1 old replicas are pending termination...\n", false},
		{appsv1.DeploymentStatus{UpdatedReplicas: 3, Replicas: 3, AvailableReplicas: 2}, 0, "Waiting for deployment \"web\" rollout to finish: 2 of 3 updated replicas are available...\n", false},
		{appsv1.DeploymentStatus{UpdatedReplicas: 3, Replicas: 3, AvailableReplicas: 3}, 0, "deployment \"web\" successfully rolled out\n", true},
	}
	for _, tt := range tests {
		d := testDeployment("web:1")
		d.Kind, d.Generation, d.Spec.Replicas, d.Status = "Deployment", tt.generation, &three, tt.status
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(d)
		if err != nil {
			t.Fatal(err)
		}
		got, done, err := Status(&unstructured.Unstructured{Object: content})
		if err != nil || got != tt.want || done != tt.done {
			t.Errorf("got %q, %t, %v; want %q, %t", got, done, err, tt.want, tt.done)
		}
	}
}

// Package rollout reads how far a workload's rollout is and finds what an undo goes back to. It is pure: objects in, words or
// patches out.
package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// RevisionAnnotation numbers a deployment's replica sets.
const RevisionAnnotation = "deployment.kubernetes.io/revision"

// hashLabel is what the Deployment controller adds to each replica set's template.
const hashLabel = "pod-template-hash"

// Revision is a replica set's number in its deployment's history; 0 if it has none.
func Revision(rs *appsv1.ReplicaSet) int64 {
	n, _ := strconv.ParseInt(rs.Annotations[RevisionAnnotation], 10, 64)
	return n
}

// Status says in kubectl's words how far the rollout of a Deployment, StatefulSet or DaemonSet is.
func Status(u *unstructured.Unstructured) (message string, done bool, err error) {
	convert := func(into any) error { return runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, into) }
	switch u.GetKind() {
	case "Deployment":
		var d appsv1.Deployment
		if err := convert(&d); err != nil {
			return "", false, err
		}
		return deployment(&d)
	case "StatefulSet":
		var s appsv1.StatefulSet
		if err := convert(&s); err != nil {
			return "", false, err
		}
		return statefulSet(&s)
	case "DaemonSet":
		var d appsv1.DaemonSet
		if err := convert(&d); err != nil {
			return "", false, err
		}
		return daemonSet(&d)
	}
	return "", false, fmt.Errorf("no status viewer has been implemented for %s", u.GetKind())
}

func deployment(d *appsv1.Deployment) (string, bool, error) {
	if d.Generation > d.Status.ObservedGeneration {
		return "Waiting for deployment spec update to be observed...\n", false, nil
	}
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Reason == "ProgressDeadlineExceeded" {
			return "", false, fmt.Errorf("deployment %q exceeded its progress deadline", d.Name)
		}
	}
	st, want := d.Status, int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	switch {
	case st.UpdatedReplicas < want:
		return fmt.Sprintf("Waiting for deployment %q rollout to finish: %d out of %d new replicas have been updated...\n", d.Name, st.UpdatedReplicas, want), false, nil
	case st.Replicas > st.UpdatedReplicas:
		return fmt.Sprintf("Waiting for deployment %q rollout to finish: %d old replicas are pending termination...\n", d.Name, st.Replicas-st.UpdatedReplicas), false, nil
	case st.AvailableReplicas < st.UpdatedReplicas:
		return fmt.Sprintf("Waiting for deployment %q rollout to finish: %d of %d updated replicas are available...\n", d.Name, st.AvailableReplicas, st.UpdatedReplicas), false, nil
	}
	return fmt.Sprintf("deployment %q successfully rolled out\n", d.Name), true, nil
}

func statefulSet(s *appsv1.StatefulSet) (string, bool, error) {
	if s.Spec.UpdateStrategy.Type != appsv1.RollingUpdateStatefulSetStrategyType {
		return "", true, fmt.Errorf("rollout status is only available for %s strategy type", appsv1.RollingUpdateStatefulSetStrategyType)
	}
	want := int32(1)
	if s.Spec.Replicas != nil {
		want = *s.Spec.Replicas
	}
	switch {
	case s.Generation > s.Status.ObservedGeneration:
		return "Waiting for statefulset spec update to be observed...\n", false, nil
	case s.Status.ReadyReplicas < want:
		return fmt.Sprintf("Waiting for %d pods to be ready...\n", want-s.Status.ReadyReplicas), false, nil
	case s.Status.UpdateRevision != s.Status.CurrentRevision:
		return fmt.Sprintf("waiting for statefulset rolling update to complete %d pods at revision %s...\n", s.Status.UpdatedReplicas, s.Status.UpdateRevision), false, nil
	}
	return fmt.Sprintf("statefulset rolling update complete %d pods at revision %s...\n", s.Status.CurrentReplicas, s.Status.CurrentRevision), true, nil
}

func daemonSet(d *appsv1.DaemonSet) (string, bool, error) {
	st := d.Status
	switch {
	case d.Generation > st.ObservedGeneration:
		return "Waiting for daemon set spec update to be observed...\n", false, nil
	case st.UpdatedNumberScheduled < st.DesiredNumberScheduled:
		return fmt.Sprintf("Waiting for daemon set %q rollout to finish: %d out of %d new pods have been updated...\n", d.Name, st.UpdatedNumberScheduled, st.DesiredNumberScheduled), false, nil
	case st.NumberAvailable < st.DesiredNumberScheduled:
		return fmt.Sprintf("Waiting for daemon set %q rollout to finish: %d of %d updated pods are available...\n", d.Name, st.NumberAvailable, st.DesiredNumberScheduled), false, nil
	}
	return fmt.Sprintf("daemon set %q successfully rolled out\n", d.Name), true, nil
}

// Target finds the replica set that an undo goes back to: the given revision, or with 0 the newest before the current
// one. It returns nil if the deployment's template is already that revision's. Sets are ordered by revision.
func Target(d *appsv1.Deployment, sets []*appsv1.ReplicaSet, to int64) (*appsv1.ReplicaSet, error) {
	if d.Spec.Paused {
		return nil, fmt.Errorf("you cannot rollback a paused deployment; resume it first with 'kctl rollout resume deployment/%s' and try again", d.Name)
	}
	var found *appsv1.ReplicaSet
	switch {
	case to > 0:
		for _, rs := range sets {
			if Revision(rs) == to {
				found = rs
			}
		}
		if found == nil {
			return nil, fmt.Errorf("unable to find specified revision %d in history", to)
		}
	case len(sets) < 2:
		return nil, errors.New("no rollout history found for deployment " + strconv.Quote(d.Name))
	default:
		found = sets[len(sets)-2]
	}
	if equality.Semantic.DeepEqual(withoutHash(found), &d.Spec.Template) {
		return nil, nil
	}
	return found, nil
}

// UndoPatch is the JSON patch (RFC 6902) that puts a replica set's template back, on condition that the deployment has not changed.
func UndoPatch(d *appsv1.Deployment, rs *appsv1.ReplicaSet) ([]byte, error) {
	annotations := maps.Clone(d.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	if cause, ok := rs.Annotations["kubernetes.io/change-cause"]; ok {
		annotations["kubernetes.io/change-cause"] = cause
	} else {
		delete(annotations, "kubernetes.io/change-cause")
	}
	type op struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	return json.Marshal([]op{
		{"test", "/metadata/resourceVersion", d.ResourceVersion},
		{"replace", "/spec/template", withoutHash(rs)},
		{"add", "/metadata/annotations", annotations},
	})
}

// withoutHash is the template that the user wrote: the controller's label is not part of it.
func withoutHash(rs *appsv1.ReplicaSet) *corev1.PodTemplateSpec {
	t := rs.Spec.Template.DeepCopy()
	delete(t.Labels, hashLabel)
	return t
}

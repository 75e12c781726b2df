package deployment

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/plan"
)

// The annotations with which kubectl and this controller keep the history of a rollout.
const (
	RevisionAnnotation        = "deployment.kubernetes.io/revision"
	RevisionHistoryAnnotation = "deployment.kubernetes.io/revision-history"
	DesiredReplicasAnnotation = "deployment.kubernetes.io/desired-replicas"
	MaxReplicasAnnotation     = "deployment.kubernetes.io/max-replicas"
)

// maxHistoryBytes bounds the revision-history annotation; at six bytes a revision it holds some 300 rollbacks.
const maxHistoryBytes = 2000

// maxNameBase leaves room for "-", a hash of ten letters, and the pods' own suffix within a label value's 63 characters; it
// is applied only to names that need it.
const maxNameBase = 253 - 11

// ownAnnotations are not copied from a Deployment to its ReplicaSets.
var ownAnnotations = []string{
	corev1.LastAppliedConfigAnnotation, RevisionAnnotation, RevisionHistoryAnnotation,
	DesiredReplicasAnnotation, MaxReplicasAnnotation, appsv1.DeprecatedRollbackTo,
}

// sameTemplate reports whether two templates make the same pods, whatever hash they are labelled with.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	a, b = a.DeepCopy(), b.DeepCopy()
	delete(a.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	delete(b.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return apiequality.Semantic.DeepEqual(a, b)
}

// TemplateHash is the value of the pod-template-hash label: short, and different for different templates and collision
// counts. Whether two templates are the same is never decided by it.
func TemplateHash(t *corev1.PodTemplateSpec, collisions *int32) string {
	b, err := json.Marshal(t)
	if err != nil {
		panic("deployment: a pod template is plain data: " + err.Error())
	}
	var salt []byte
	if collisions != nil {
		salt = strconv.AppendInt(nil, int64(*collisions), 10)
	}
	return owner.Hash(b, salt)
}

func revision(rs *appsv1.ReplicaSet) int64 {
	v, err := strconv.ParseInt(rs.Annotations[RevisionAnnotation], 10, 64)
	if err != nil {
		return 0
	}
	return v
}

func (r *rollout) maxOldRevision() int64 {
	most := int64(0)
	for _, rs := range r.old {
		most = max(most, revision(rs))
	}
	return most
}

// syncCurrent keeps the current ReplicaSet's annotations and minReadySeconds as the Deployment's, and gives it the newest
// revision: an old template that is current again is a rollback, and its former revision goes to its history.
func (r *rollout) syncCurrent() {
	d, rs := r.Deployment, r.current
	want := maps.Clone(rs.Annotations)
	if want == nil {
		want = map[string]string{}
	}
	for k, v := range d.Annotations {
		if !slices.Contains(ownAnnotations, k) {
			want[k] = v
		}
	}
	if newest := r.maxOldRevision() + 1; revision(rs) < newest {
		if was := rs.Annotations[RevisionAnnotation]; was != "" {
			want[RevisionHistoryAnnotation] = appendHistory(want[RevisionHistoryAnnotation], was)
			r.because(corev1.ConditionTrue, "FoundNewReplicaSet", fmt.Sprintf("Found new replica set %q", rs.Name))
		}
		want[RevisionAnnotation] = strconv.FormatInt(newest, 10)
	}
	if !maps.Equal(want, rs.Annotations) {
		r.change(rs).Annotations = want
	}
	if rs.Spec.MinReadySeconds != d.Spec.MinReadySeconds {
		r.change(rs).Spec.MinReadySeconds = d.Spec.MinReadySeconds
	}
}

func appendHistory(history, revision string) string {
	if history != "" {
		history += ","
	}
	history += revision
	for len(history) > maxHistoryBytes {
		_, history, _ = strings.Cut(history, ",")
	}
	return history
}

// create makes the ReplicaSet of the current template. Its name follows from the template, so that making it twice
// collides. A ReplicaSet of that name that is another's raises the collision count, which changes the hash.
func (r *rollout) create(size int32) {
	d := r.Deployment
	hash := TemplateHash(&d.Spec.Template, d.Status.CollisionCount)
	base := d.Name
	if len(base) > maxNameBase {
		base = base[:maxNameBase]
	}
	name := base + "-" + hash
	if other := r.NameTaken(name); other != nil {
		r.collision = true
		return
	}
	template := d.Spec.Template.DeepCopy()
	template.Labels = withHash(template.Labels, hash)
	selector := d.Spec.Selector.DeepCopy()
	selector.MatchLabels = withHash(selector.MatchLabels, hash)
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: d.Namespace, Name: name, Labels: maps.Clone(template.Labels), Annotations: map[string]string{},
			OwnerReferences: []metav1.OwnerReference{owner.Ref(plan.Deployments, d)},
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: &size, MinReadySeconds: d.Spec.MinReadySeconds, Selector: selector, Template: *template},
	}
	for k, v := range d.Annotations {
		if !slices.Contains(ownAnnotations, k) {
			rs.Annotations[k] = v
		}
	}
	rs.Annotations[RevisionAnnotation] = strconv.FormatInt(r.maxOldRevision()+1, 10)
	setSizeAnnotations(rs, d)
	r.plan.Add(plan.Create(plan.ReplicaSets, rs))
	if size > 0 {
		r.plan.EventOf(rs, d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled up replica set %s from 0 to %d", name, size)
	}
	if r.Failure != "" {
		r.because(corev1.ConditionFalse, "ReplicaSetCreateError", r.Failure)
	}
}

func withHash(labels map[string]string, hash string) map[string]string {
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	out[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	return out
}

// cleanUp deletes the oldest revisions beyond spec.revisionHistoryLimit that have no pods left.
func (r *rollout) cleanUp() {
	limit := r.Deployment.Spec.RevisionHistoryLimit
	if limit == nil {
		return
	}
	var old []*appsv1.ReplicaSet
	for _, rs := range r.old {
		if rs.DeletionTimestamp == nil {
			old = append(old, rs)
		}
	}
	slices.SortStableFunc(old, func(a, b *appsv1.ReplicaSet) int { return int(revision(a) - revision(b)) })
	for _, rs := range old[:max(0, len(old)-int(*limit))] {
		if rs.Status.Replicas == 0 && *rs.Spec.Replicas == 0 && rs.Generation <= rs.Status.ObservedGeneration && r.next[rs] == nil {
			r.plan.Add(plan.Delete(plan.ReplicaSets, rs))
		}
	}
}

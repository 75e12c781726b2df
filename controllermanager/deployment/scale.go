package deployment

import (
	"math"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// MaxSurge is how many pods a rolling update may have beyond the desired number, and MaxUnavailable how many it may lack.
// Percentages are of the desired number, surge rounded up and unavailability down; if both come to zero, one pod may be
// unavailable, or no rollout could move.
func MaxSurge(d *appsv1.Deployment) int32 {
	surge, _ := fenceposts(d)
	return surge
}

// MaxUnavailable is described at MaxSurge; it is never more than the desired number.
func MaxUnavailable(d *appsv1.Deployment) int32 {
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType || *d.Spec.Replicas == 0 {
		return 0
	}
	_, unavailable := fenceposts(d)
	return min(unavailable, *d.Spec.Replicas)
}

func fenceposts(d *appsv1.Deployment) (surge, unavailable int32) {
	ru := d.Spec.Strategy.RollingUpdate
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType || ru == nil {
		return 0, 0
	}
	surge = scaled(ru.MaxSurge, *d.Spec.Replicas, true)
	unavailable = scaled(ru.MaxUnavailable, *d.Spec.Replicas, false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable
}

func scaled(v *intstr.IntOrString, total int32, up bool) int32 {
	n, err := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(v, intstr.FromInt32(0)), int(total), up)
	if err != nil {
		return 0 // Validation does not let such a value in.
	}
	return int32(n)
}

func maxReplicas(d *appsv1.Deployment) int32 { return *d.Spec.Replicas + MaxSurge(d) }

func sizeAnnotations(d *appsv1.Deployment) (desired, most string) {
	return strconv.Itoa(int(*d.Spec.Replicas)), strconv.Itoa(int(maxReplicas(d)))
}

func sizeAnnotationsDiffer(rs *appsv1.ReplicaSet, d *appsv1.Deployment) bool {
	desired, most := sizeAnnotations(d)
	return rs.Annotations[DesiredReplicasAnnotation] != desired || rs.Annotations[MaxReplicasAnnotation] != most
}

func setSizeAnnotations(rs *appsv1.ReplicaSet, d *appsv1.Deployment) {
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	rs.Annotations[DesiredReplicasAnnotation], rs.Annotations[MaxReplicasAnnotation] = sizeAnnotations(d)
}

func annotated(rs *appsv1.ReplicaSet, key string) (int32, bool) {
	v, err := strconv.ParseInt(rs.Annotations[key], 10, 32)
	return int32(v), err == nil
}

func active(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	var out []*appsv1.ReplicaSet
	for _, rs := range sets {
		if *rs.Spec.Replicas > 0 {
			out = append(out, rs)
		}
	}
	return out
}

func sizes(sets []*appsv1.ReplicaSet) (sum int32) {
	for _, rs := range sets {
		sum += *rs.Spec.Replicas
	}
	return sum
}

// availableIn counts available pods that are to stay: right after a ReplicaSet was shrunk its status still counts pods that
// are about to go, and another may not be missed in their place.
func availableIn(sets []*appsv1.ReplicaSet) (sum int32) {
	for _, rs := range sets {
		sum += min(rs.Status.AvailableReplicas, *rs.Spec.Replicas)
	}
	return sum
}

// scalingEvent reports whether the Deployment's size changed since its ReplicaSets were sized.
func (r *rollout) scalingEvent() bool {
	for _, rs := range active(r.all()) {
		if desired, ok := annotated(rs, DesiredReplicasAnnotation); ok && desired != *r.Deployment.Spec.Replicas {
			return true
		}
	}
	return false
}

// scale fits the ReplicaSets to a changed size without moving the rollout: with one active ReplicaSet that one; with a
// complete rollout the rest goes to zero; in the middle of a rolling update each in proportion to its size.
func (r *rollout) scale() {
	d := r.Deployment
	if only := r.activeOrLatest(); only != nil {
		if *only.Spec.Replicas != *d.Spec.Replicas {
			r.resize(only, *d.Spec.Replicas)
		} else if sizeAnnotationsDiffer(only, d) {
			r.resize(only, *only.Spec.Replicas)
		}
		return
	}
	if r.saturated() {
		for _, rs := range active(r.old) {
			r.resize(rs, 0)
		}
		return
	}
	if d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		r.proportional()
	}
}

func (r *rollout) activeOrLatest() *appsv1.ReplicaSet {
	switch a := active(r.all()); {
	case len(a) == 1:
		return a[0]
	case len(a) > 1:
		return nil
	case r.current != nil:
		return r.current
	case len(r.old) > 0:
		return r.old[len(r.old)-1]
	}
	return nil
}

func (r *rollout) saturated() bool {
	rs, want := r.current, *r.Deployment.Spec.Replicas
	if rs == nil {
		return false
	}
	desired, ok := annotated(rs, DesiredReplicasAnnotation)
	return ok && *rs.Spec.Replicas == want && desired == want && rs.Status.AvailableReplicas == want
}

// proportional spreads the difference between what there is and what there may be over the active ReplicaSets by their
// size, the largest first (newest first when growing, oldest first when shrinking); what rounding leaves goes to the first.
func (r *rollout) proportional() {
	d := r.Deployment
	sets := active(r.all())
	allowed := int32(0)
	if *d.Spec.Replicas > 0 {
		allowed = maxReplicas(d)
	}
	toAdd := allowed - sizes(sets)
	slices.SortStableFunc(sets, func(a, b *appsv1.ReplicaSet) int {
		if *a.Spec.Replicas != *b.Spec.Replicas {
			return int(*b.Spec.Replicas - *a.Spec.Replicas)
		}
		if toAdd > 0 {
			return byCreation(b, a)
		}
		return byCreation(a, b)
	})
	added := int32(0)
	next := make([]int32, len(sets))
	for i, rs := range sets {
		share := r.share(rs, toAdd, added)
		next[i] = *rs.Spec.Replicas + share
		added += share
	}
	for i, rs := range sets {
		if i == 0 && toAdd != 0 {
			next[i] = max(0, next[i]+toAdd-added)
		}
		r.resize(rs, next[i])
	}
}

// share is a ReplicaSet's part of toAdd, of which added is given away already.
func (r *rollout) share(rs *appsv1.ReplicaSet, toAdd, added int32) int32 {
	if toAdd == 0 || toAdd == added || *rs.Spec.Replicas == 0 {
		return 0
	}
	fraction := r.fraction(rs)
	if toAdd > 0 {
		return min(fraction, toAdd-added)
	}
	return max(fraction, toAdd-added)
}

// fraction is how much a ReplicaSet changes to keep its part of the whole: the whole it was sized for is in its annotation.
func (r *rollout) fraction(rs *appsv1.ReplicaSet) int32 {
	d := r.Deployment
	if *d.Spec.Replicas == 0 {
		return -*rs.Spec.Replicas
	}
	whole, ok := annotated(rs, MaxReplicasAnnotation)
	if !ok || whole == 0 {
		if whole = d.Status.Replicas; whole == 0 {
			return 0
		}
	}
	grown := float64(*rs.Spec.Replicas) * float64(maxReplicas(d)) / float64(whole)
	return int32(math.Round(grown)) - *rs.Spec.Replicas
}

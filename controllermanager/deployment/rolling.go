package deployment

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
)

// rollingUpdate grows the current ReplicaSet as far as maxSurge allows, or else shrinks the old ones as far as
// maxUnavailable allows. One of the two per step: what the other may do depends on what this one does.
func (r *rollout) rollingUpdate() {
	d := r.Deployment
	if r.current == nil {
		r.create(r.sizeOfNew())
		return
	}
	if size := r.sizeOfCurrent(); size != *r.current.Spec.Replicas {
		r.resize(r.current, size)
		return
	}
	if len(active(r.old)) > 0 {
		r.shrinkOld()
	}
	if sizeAnnotationsDiffer(r.current, d) {
		r.resize(r.current, *r.current.Spec.Replicas)
	}
}

// sizeOfNew is the size at which a ReplicaSet that does not exist yet may start.
func (r *rollout) sizeOfNew() int32 {
	return max(0, min(maxReplicas(r.Deployment)-sizes(r.old), *r.Deployment.Spec.Replicas))
}

func (r *rollout) sizeOfCurrent() int32 {
	d, have := r.Deployment, *r.current.Spec.Replicas
	if have >= *d.Spec.Replicas {
		return *d.Spec.Replicas
	}
	room := maxReplicas(d) - sizes(r.all())
	return have + max(0, min(room, *d.Spec.Replicas-have))
}

// shrinkOld takes pods from the old ReplicaSets: first those that are not available anyway, then as many available ones as
// may be missed. Pods of the current ReplicaSet that are not available yet count against what may be missed.
func (r *rollout) shrinkOld() {
	d := r.Deployment
	minAvailable := *d.Spec.Replicas - MaxUnavailable(d)
	unavailableNew := *r.current.Spec.Replicas - r.current.Status.AvailableReplicas
	limit := sizes(r.all()) - minAvailable - unavailableNew
	if limit <= 0 {
		return
	}
	size := map[*appsv1.ReplicaSet]int32{}
	for _, rs := range r.old {
		size[rs] = *rs.Spec.Replicas
	}
	r.dropUnhealthy(size, limit)
	r.dropAvailable(size, minAvailable)
	for _, rs := range r.old {
		if size[rs] != *rs.Spec.Replicas {
			r.resize(rs, size[rs])
		}
	}
}

func (r *rollout) dropUnhealthy(size map[*appsv1.ReplicaSet]int32, limit int32) {
	for _, rs := range r.old {
		unhealthy := size[rs] - rs.Status.AvailableReplicas
		if limit <= 0 || size[rs] == 0 || unhealthy <= 0 {
			continue
		}
		n := min(limit, unhealthy)
		size[rs] -= n
		limit -= n
	}
}

func (r *rollout) dropAvailable(size map[*appsv1.ReplicaSet]int32, minAvailable int32) {
	spare := availableIn(r.all()) - minAvailable
	for _, rs := range slices.Clone(r.old) {
		if spare <= 0 {
			return
		}
		n := min(size[rs], spare)
		size[rs] -= n
		spare -= n
	}
}

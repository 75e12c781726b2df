package pod

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// Allocation is what a node has granted a pod (KEP-1287): the specification may ask for more or less since.
type Allocation struct {
	// Pod is for the pod as a whole (KEP-2837); nil if it has none of its own.
	Pod *corev1.ResourceRequirements `json:"pod,omitempty"`
	// Containers holds those of containers of all kinds but ephemeral ones, by name.
	Containers map[string]corev1.ResourceRequirements `json:"containers"`
}

// Wanted is the allocation that a specification asks for.
func Wanted(spec *corev1.PodSpec) Allocation {
	a := Allocation{Pod: spec.Resources.DeepCopy(), Containers: map[string]corev1.ResourceRequirements{}}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			a.Containers[list[i].Name] = *list[i].Resources.DeepCopy()
		}
	}
	return a
}

// Same says whether two allocations grant the same CPU and memory; nothing else can be resized.
func (a Allocation) Same(b Allocation) bool {
	if (a.Pod == nil) != (b.Pod == nil) || a.Pod != nil && !sameResources(a.Pod, b.Pod) {
		return false
	}
	for name, r := range a.Containers {
		if other, ok := b.Containers[name]; ok && !sameResources(&r, &other) {
			return false
		}
	}
	return true
}

// Apply writes what is granted into a specification, in the place of what it asks for.
func (a Allocation) Apply(spec *corev1.PodSpec) {
	if a.Pod != nil && spec.Resources != nil {
		spec.Resources = a.Pod.DeepCopy()
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if r, ok := a.Containers[list[i].Name]; ok {
				list[i].Resources = *r.DeepCopy()
			}
		}
	}
}

// allocated is what a container has been granted.
func (s *stepper) allocated(c *container) *corev1.ResourceRequirements {
	if a := s.in.Allocated; a != nil {
		if r, ok := a.Containers[c.spec.Name]; ok {
			return &r
		}
	}
	return &c.spec.Resources
}

// allocatedPod is what the pod as a whole has been granted; nil if it has no resources of its own.
func (s *stepper) allocatedPod() *corev1.ResourceRequirements {
	if a := s.in.Allocated; a != nil && a.Pod != nil && s.spec.Resources != nil {
		return a.Pod
	}
	return s.spec.Resources
}

// resize asks for what the specification says now to be granted and put into force, once for each generation, and again after an
// error. What is deferred is tried again when the caller forgets that it was.
func (s *stepper) resize() {
	if !s.ungranted() && !s.resizing() {
		return
	}
	r := s.in.Observed.Resized
	if r != nil && r.Generation == s.in.Pod.Generation && (r.Failure == nil || !s.due(r.Failure.At.Add(refusedRetry))) {
		return
	}
	s.act(Action{Op: Resize})
}

// ungranted says whether the specification asks for other resources than the node has granted.
func (s *stepper) ungranted() bool {
	return s.in.Allocated != nil && !s.in.Allocated.Same(Wanted(s.spec))
}

// resizing says whether a live container's resources differ from what it is granted.
func (s *stepper) resizing() bool {
	for _, c := range s.containers {
		if c.live() && c.kind != ephemeral && c.latest.Resources != nil && !sameResources(c.latest.Resources, s.allocated(c)) {
			return true
		}
	}
	return false
}

// resizeRestarts says whether a live container must be started anew for a resource that has changed, as its resizePolicy says.
func (s *stepper) resizeRestarts(c *container) bool {
	if c.latest.State != Running || c.latest.Resources == nil || c.kind == ephemeral {
		return false
	}
	granted := s.allocated(c)
	for _, p := range c.spec.ResizePolicy {
		if p.RestartPolicy == corev1.RestartContainer && !sameResource(c.latest.Resources, granted, p.ResourceName) {
			return true
		}
	}
	return false
}

func sameResources(a, b *corev1.ResourceRequirements) bool {
	return sameResource(a, b, corev1.ResourceCPU) && sameResource(a, b, corev1.ResourceMemory)
}

func sameResource(a, b *corev1.ResourceRequirements, name corev1.ResourceName) bool {
	return equality.Semantic.DeepEqual(a.Requests[name], b.Requests[name]) && equality.Semantic.DeepEqual(a.Limits[name], b.Limits[name])
}

// resizeConditions tell of a resize that is not granted, or not in force, yet.
func (s *stepper) resizeConditions() (list []corev1.PodCondition) {
	if s.memory.terminating != nil {
		return nil
	}
	r := s.in.Observed.Resized
	if s.ungranted() && r != nil && r.Pending != nil && r.Generation == s.in.Pod.Generation {
		list = append(list, corev1.PodCondition{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: r.Pending.Reason, Message: r.Pending.Message})
	}
	if s.resizing() {
		c := corev1.PodCondition{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue}
		if r != nil && r.Failure != nil {
			c.Reason, c.Message = r.Failure.Reason, r.Failure.Message
		}
		list = append(list, c)
	}
	return list
}

package pod

import (
	"sort"

	corev1 "k8s.io/api/core/v1"
)

// status is what the API should say of the pod.
func (s *stepper) status() corev1.PodStatus {
	old := &s.in.Pod.Status
	st := corev1.PodStatus{
		ObservedGeneration:          s.in.Pod.Generation,
		NominatedNodeName:           old.NominatedNodeName,
		ResourceClaimStatuses:       old.ResourceClaimStatuses,
		ExtendedResourceClaimStatus: old.ExtendedResourceClaimStatus,
		StartTime:                   old.StartTime,
		QOSClass:                    QOSClass(s.spec),
		Reason:                      old.Reason,
		Message:                     old.Message,
	}
	if st.StartTime == nil {
		now := apiTime(s.now)
		st.StartTime = &now
		if d := s.spec.ActiveDeadlineSeconds; d != nil {
			s.wakeAt(s.now.Add(seconds(*d)))
		}
	}
	for _, c := range s.containers {
		cs := s.containerStatus(c)
		switch c.kind {
		case initial, sidecar:
			st.InitContainerStatuses = append(st.InitContainerStatuses, cs)
		case regular:
			st.ContainerStatuses = append(st.ContainerStatuses, cs)
		case ephemeral:
			st.EphemeralContainerStatuses = append(st.EphemeralContainerStatuses, cs)
		}
	}
	sort.SliceStable(st.ContainerStatuses, func(i, j int) bool {
		return st.ContainerStatuses[i].Name < st.ContainerStatuses[j].Name
	})
	if r := s.allocatedPod(); r != nil {
		st.Resources, st.AllocatedResources = r.DeepCopy(), r.Requests.DeepCopy()
	}
	s.setAddresses(&st)
	st.Phase = s.phase()
	if t := s.memory.terminating; t != nil && t.reason != "" {
		st.Reason, st.Message = t.reason, t.message
	}
	st.Conditions = s.conditions(&st)
	return st
}

// setAddresses fills in the node's and the pod's addresses. A pod keeps its last ones.
func (s *stepper) setAddresses(st *corev1.PodStatus) {
	for _, ip := range s.in.HostIPs {
		st.HostIPs = append(st.HostIPs, corev1.HostIP{IP: ip})
	}
	if len(st.HostIPs) > 0 {
		st.HostIP = st.HostIPs[0].IP
	}
	for _, ip := range s.in.Observed.Sandbox.IPs {
		st.PodIPs = append(st.PodIPs, corev1.PodIP{IP: ip})
	}
	if len(st.PodIPs) == 0 && s.in.Observed.Sandbox.State == SandboxAbsent {
		st.PodIPs = s.in.Pod.Status.PodIPs
	}
	if len(st.PodIPs) > 0 {
		st.PodIP = st.PodIPs[0].IP
	}
}

// phase is the pod's phase, as the API documents it.
func (s *stepper) phase() corev1.PodPhase {
	old := s.in.Pod.Status.Phase
	if t := s.memory.terminating; t != nil {
		if s.anyLive() {
			return s.unfinishedPhase()
		}
		if t.failed || s.initFailed() != nil || s.anyFailed() || s.neverRan() {
			// What was deleted before it ran has failed, too: who holds a pod by a finalizer until it has an outcome, as Jobs do,
			// would wait for ever (KEP-3329).
			return corev1.PodFailed
		}
		return corev1.PodSucceeded
	}
	if old == corev1.PodRunning {
		return corev1.PodRunning
	}
	return s.unfinishedPhase()
}

// unfinishedPhase is Pending until every regular container has been up once, Running from then on.
func (s *stepper) unfinishedPhase() corev1.PodPhase {
	if s.in.Pod.Status.Phase == corev1.PodRunning {
		return corev1.PodRunning
	}
	for _, c := range s.ofKind(regular) {
		if c.latest == nil || c.live() && !c.up() && c.previous == nil {
			return corev1.PodPending
		}
	}
	return corev1.PodRunning
}

func (s *stepper) anyLive() bool {
	for _, c := range s.containers {
		if c.live() {
			return true
		}
	}
	return s.starting()
}

// anyFailed says whether a regular container's last instance failed, or never ran while others did.
func (s *stepper) anyFailed() bool {
	for _, c := range s.ofKind(regular) {
		if c.exited() && c.latest.ExitCode != 0 {
			return true
		}
	}
	return false
}

// neverRan says whether some regular container has never had an instance.
func (s *stepper) neverRan() bool {
	for _, c := range s.ofKind(regular) {
		if c.latest == nil {
			return true
		}
	}
	return false
}

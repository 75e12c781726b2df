package loop

import (
	"context"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
)

// unfinished selects the pods that take up room.
const unfinished = "status.phase!=Succeeded,status.phase!=Failed"

// newMirrors makes the mirrors.
func (s *Scheduler) newMirrors() {
	c, log := s.cfg.Client, s.cfg.Log
	s.pods = client.NewMirror(c, client.Pods(), client.MirrorOptions[*corev1.Pod]{FieldSelector: unfinished, Transform: trimPod, Log: log})
	s.nodes = client.NewMirror(c, client.Nodes(), client.MirrorOptions[*corev1.Node]{Transform: trimNode, Log: log})
	s.spaces = client.NewMirror(c, client.Namespaces(), client.MirrorOptions[*corev1.Namespace]{Log: log})
	s.claims = client.NewMirror(c, client.PersistentVolumeClaims(), client.MirrorOptions[*corev1.PersistentVolumeClaim]{Log: log})
	s.volumes = client.NewMirror(c, client.PersistentVolumes(), client.MirrorOptions[*corev1.PersistentVolume]{Log: log})
	s.classes = client.NewMirror(c, client.StorageClasses(), client.MirrorOptions[*storagev1.StorageClass]{Log: log})
	s.attach = client.NewMirror(c, client.CSINodes(), client.MirrorOptions[*storagev1.CSINode]{Log: log})
	s.disruption = client.NewMirror(c, client.PodDisruptionBudgets(), client.MirrorOptions[*policyv1.PodDisruptionBudget]{Log: log})
	s.resourceClaims = client.NewMirror(c, client.ResourceClaims(), client.MirrorOptions[*resourcev1.ResourceClaim]{Log: log})
	s.slices = client.NewMirror(c, client.ResourceSlices(), client.MirrorOptions[*resourcev1.ResourceSlice]{Log: log})
	s.deviceClasses = client.NewMirror(c, client.DeviceClasses(), client.MirrorOptions[*resourcev1.DeviceClass]{Log: log})
	s.taintRules = client.NewMirror(c, client.DeviceTaintRules(), client.MirrorOptions[*resourcev1.DeviceTaintRule]{Log: log})
}

// listen has the mirrors' changes sent to the deciding goroutine.
func (s *Scheduler) listen(ctx context.Context) {
	s.pods.OnChange(func(ch client.Change[*corev1.Pod]) { s.send(ctx, func() { s.podChanged(ch) }) })
	s.nodes.OnChange(func(ch client.Change[*corev1.Node]) { s.send(ctx, func() { s.nodeChanged(ch) }) })
	s.spaces.OnChange(func(ch client.Change[*corev1.Namespace]) { s.send(ctx, func() { s.namespaceChanged(ch) }) })
	s.listenVolumes(ctx)
	s.listenBudgets(ctx)
	s.listenDevices(ctx)
	// Everything that a decision could be wrong without. Drivers' limits are not waited for: few clusters have any.
	for _, m := range []interface{ OnSynced(func()) }{
		s.pods, s.nodes, s.spaces, s.claims, s.volumes, s.classes, s.disruption, s.resourceClaims, s.slices, s.deviceClasses,
		s.taintRules,
	} {
		s.unsynced++
		m.OnSynced(s.onceSynced(ctx))
	}
}

// onceSynced counts a mirror's first snapshot, behind all the changes that it consists of.
func (s *Scheduler) onceSynced(ctx context.Context) func() {
	first := true
	return func() {
		if first {
			first = false
			s.send(ctx, func() { s.unsynced-- })
		}
	}
}

// trimPod drops what no decision depends on; at 150,000 pods that is most of the memory.
func trimPod(pod *corev1.Pod) *corev1.Pod {
	slim := &corev1.Pod{
		TypeMeta: pod.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion, Labels: pod.Labels,
			DeletionTimestamp: pod.DeletionTimestamp, CreationTimestamp: pod.CreationTimestamp,
		},
		Spec: corev1.PodSpec{
			NodeName: pod.Spec.NodeName, NodeSelector: pod.Spec.NodeSelector, Affinity: pod.Spec.Affinity, Tolerations: pod.Spec.Tolerations,
			SchedulerName: pod.Spec.SchedulerName, Priority: pod.Spec.Priority, PreemptionPolicy: pod.Spec.PreemptionPolicy,
			Overhead: pod.Spec.Overhead, Resources: pod.Spec.Resources, TopologySpreadConstraints: pod.Spec.TopologySpreadConstraints,
			SchedulingGates: pod.Spec.SchedulingGates, Containers: trimContainers(pod.Spec.Containers), InitContainers: trimContainers(pod.Spec.InitContainers),
			Volumes: trimVolumes(pod.Spec.Volumes), ResourceClaims: pod.Spec.ResourceClaims,
		},
		Status: corev1.PodStatus{
			Phase: pod.Status.Phase, NominatedNodeName: pod.Status.NominatedNodeName, StartTime: pod.Status.StartTime,
			ResourceClaimStatuses: pod.Status.ResourceClaimStatuses,
		},
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			slim.Status.Conditions = []corev1.PodCondition{c}
		}
	}
	for _, c := range pod.Status.ContainerStatuses {
		if c.AllocatedResources != nil || c.Resources != nil { // in-place resize
			slim.Status.ContainerStatuses = append(slim.Status.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, AllocatedResources: c.AllocatedResources, Resources: c.Resources})
		}
	}
	return slim
}

func trimContainers(list []corev1.Container) []corev1.Container {
	if len(list) == 0 {
		return nil
	}
	out := make([]corev1.Container, len(list))
	for i := range list {
		c := &list[i]
		out[i] = corev1.Container{Name: c.Name, Image: c.Image, Resources: c.Resources, RestartPolicy: c.RestartPolicy}
		for _, p := range c.Ports {
			if p.HostPort > 0 {
				out[i].Ports = append(out[i].Ports, p)
			}
		}
	}
	return out
}

// trimVolumes keeps the names of claims.
func trimVolumes(list []corev1.Volume) []corev1.Volume {
	var out []corev1.Volume
	for i := range list {
		switch v := &list[i]; {
		case v.PersistentVolumeClaim != nil:
			out = append(out, corev1.Volume{Name: v.Name, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: v.PersistentVolumeClaim}})
		case v.Ephemeral != nil:
			out = append(out, corev1.Volume{Name: v.Name, VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}})
		}
	}
	return out
}

func trimNode(n *corev1.Node) *corev1.Node {
	return &corev1.Node{
		TypeMeta:   n.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion, Labels: n.Labels},
		Spec:       corev1.NodeSpec{Taints: n.Spec.Taints, Unschedulable: n.Spec.Unschedulable},
		Status:     corev1.NodeStatus{Allocatable: n.Status.Allocatable, Images: n.Status.Images},
	}
}

func (s *Scheduler) nodeChanged(ch client.Change[*corev1.Node]) {
	if ch.Type == client.Deleted {
		s.cluster.RemoveNode(ch.Old.Name)
		s.news.placedPods = true // a domain less may satisfy a spread constraint
		return
	}
	if s.cluster.SetNode(ch.New) {
		s.news.nodes[ch.New.Name] = true
		s.news.placedPods = true
	}
}

func (s *Scheduler) namespaceChanged(ch client.Change[*corev1.Namespace]) {
	if ch.Type == client.Deleted {
		s.cluster.SetNamespace(ch.Old.Name, nil)
		return
	}
	labels := ch.New.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	s.cluster.SetNamespace(ch.New.Name, labels)
	s.news.placedPods = true
}

func (s *Scheduler) podChanged(ch client.Change[*corev1.Pod]) {
	pod := ch.Object()
	delete(s.gated, pod.UID)
	switch {
	case ch.Type == client.Deleted:
		s.dequeue(pod)
		s.vacate(pod)
	case pod.Spec.NodeName != "":
		delete(s.nominated, pod.UID)
		s.queue.Delete(pod.UID)
		s.occupy(ch)
	case pod.DeletionTimestamp != nil || !s.mine(pod):
		s.dequeue(pod)
	case len(pod.Spec.SchedulingGates) > 0:
		s.dequeue(pod)
		s.gated[pod.UID] = true
	case s.binding[pod.UID] != nil:
		s.binding[pod.UID].Pod = pod
	case ch.Type == client.Updated && sameDemands(ch.Old, ch.New) && s.queue.Replace(pod):
	default:
		if node := pod.Status.NominatedNodeName; ch.Type == client.Added && node != "" {
			s.cluster.Nominate(pod, node) // by an earlier run: the room stays kept until the pod is decided on
		}
		s.queue.Add(pod, time.Now())
		s.cfg.Metrics.incoming("PodAdd", "active")
	}
}

// dequeue forgets a waiting pod and the room kept for it.
func (s *Scheduler) dequeue(pod *corev1.Pod) {
	s.queue.Delete(pod.UID)
	if nom, ok := s.nominated[pod.UID]; ok {
		delete(s.nominated, pod.UID)
		s.cluster.Forget(pod.UID)
		s.news.nodes[nom.node] = true
	}
}

func (s *Scheduler) mine(pod *corev1.Pod) bool {
	return pod.Spec.SchedulerName == s.cfg.Name || (pod.Spec.SchedulerName == "" && s.cfg.Name == DefaultName)
}

// sameDemands tells whether an update changed nothing that a decision depends on.
func sameDemands(a, b *corev1.Pod) bool {
	return reflect.DeepEqual(a.Spec, b.Spec) && reflect.DeepEqual(a.Labels, b.Labels) &&
		reflect.DeepEqual(a.Status.ResourceClaimStatuses, b.Status.ResourceClaimStatuses)
}

// occupy notes a bound pod, decided on here or elsewhere.
func (s *Scheduler) occupy(ch client.Change[*corev1.Pod]) {
	pod := ch.New
	old, was := s.cluster.PlacedOn(pod.UID)
	if err := s.cluster.SetPod(pod, pod.Spec.NodeName); err != nil {
		s.cfg.Log.Error("bound pod not understood", "pod", client.KeyOf(pod).String(), "error", err)
	}
	if was && old != pod.Spec.NodeName {
		s.news.nodes[old] = true
	}
	if ch.Type == client.Added || ch.Old.Spec.NodeName == "" {
		s.news.placedPods = true
		return
	}
	if !reflect.DeepEqual(ch.Old.Spec, pod.Spec) || !reflect.DeepEqual(ch.Old.Status.ContainerStatuses, pod.Status.ContainerStatuses) {
		s.news.nodes[pod.Spec.NodeName] = true // resized in place
	}
	if !reflect.DeepEqual(ch.Old.Labels, pod.Labels) || (ch.Old.DeletionTimestamp == nil) != (pod.DeletionTimestamp == nil) {
		s.news.placedPods = true
	}
}

// vacate notes that a pod is gone.
func (s *Scheduler) vacate(pod *corev1.Pod) {
	if node, ok := s.cluster.PlacedOn(pod.UID); ok {
		s.cluster.Forget(pod.UID)
		s.news.nodes[node] = true
		s.news.placedPods = true
	}
}

package loop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"bareboat.dev/client"
	"bareboat.dev/scheduler/plan"
	"bareboat.dev/scheduler/queue"
)

// bindVolumesTimeout is how long a decided pod waits for its volumes, as kube-scheduler: making a volume may take minutes.
const bindVolumesTimeout = 10 * time.Minute

// preparing is a decided pod that waits for its volumes and resource claims.
type preparing struct {
	binding
	deadline time.Time
	// selected are the claims whose node was written, by the version that shows it.
	selected map[client.Key]int64
	// asked tells that all that there is to write is written.
	asked bool
}

var (
	errVolumesTimeout = errors.New("binding volumes: timed out waiting for the condition")
	errNodeReset      = errors.New("binding volumes: provisioning failed for PVC")
)

// listenVolumes has the changes of what volumes depend on sent to the deciding goroutine.
func (s *Scheduler) listenVolumes(ctx context.Context) {
	s.claims.OnChange(func(ch client.Change[*corev1.PersistentVolumeClaim]) {
		s.send(ctx, func() {
			s.news.volumes, s.volumeNews = true, true
			if ch.New == nil {
				s.cluster.RemoveClaim(ch.Old.Namespace, ch.Old.Name)
				return
			}
			s.cluster.SetClaim(ch.New)
		})
	})
	s.volumes.OnChange(func(ch client.Change[*corev1.PersistentVolume]) {
		s.send(ctx, func() {
			s.news.volumes, s.volumeNews = true, true
			if ch.New == nil {
				s.cluster.RemoveVolume(ch.Old.Name)
				return
			}
			s.cluster.SetVolume(ch.New)
		})
	})
	s.classes.OnChange(func(ch client.Change[*storagev1.StorageClass]) {
		s.send(ctx, func() {
			s.news.volumes = true
			s.cluster.SetStorageClass(ch.Object().Name, ch.New)
		})
	})
	s.attach.OnChange(func(ch client.Change[*storagev1.CSINode]) {
		s.send(ctx, func() {
			s.news.volumes = true
			s.cluster.SetAttachLimits(ch.Object().Name, attachLimits(ch.New))
		})
	})
}

// attachLimits are the limits that a node's drivers announce.
func attachLimits(n *storagev1.CSINode) map[string]int {
	limits := map[string]int{}
	if n == nil {
		return limits
	}
	for _, d := range n.Spec.Drivers {
		if d.Allocatable != nil && d.Allocatable.Count != nil {
			limits[d.Name] = int(*d.Allocatable.Count)
		}
	}
	return limits
}

// waitsForVolumes tells whether a decided pod's claims are not all bound yet, by this decision or an earlier one.
func (s *Scheduler) waitsForVolumes(pod *corev1.Pod, d plan.Decision) bool {
	if len(pod.Spec.Volumes) == 0 {
		return false
	}
	bound, err := s.cluster.VolumesBound(pod, d.Node)
	return !bound || err != nil
}

// prepare starts what a decided pod's volumes and resource claims need. The pod counts as placed; it is bound when they are.
func (s *Scheduler) prepare(ctx context.Context, it *queue.Item, d plan.Decision) {
	p := &preparing{binding: binding{it, it.Pod, d.Node}, deadline: time.Now().Add(bindVolumesTimeout), selected: map[client.Key]int64{}}
	s.preparing[it.Pod.UID] = p
	s.requests++
	go s.writeSteps(ctx, p, d)
}

// writeSteps writes what a decided pod's claims and volumes need, and reports to the deciding goroutine.
func (s *Scheduler) writeSteps(ctx context.Context, p *preparing, d plan.Decision) {
	ctx, cancel := context.WithTimeout(ctx, bindTimeout)
	defer cancel()
	var selected map[client.Key]int64
	claims, err := s.writeClaims(ctx, p.pod, d.Claims)
	if err == nil {
		if selected, err = s.writeVolumes(ctx, p, d.Volumes); err != nil {
			err = fmt.Errorf("binding volumes: %w", err)
		}
	}
	s.inbox <- func() {
		s.requests--
		if len(d.Claims) > 0 {
			s.claimsWritten(p.pod.UID, claims)
		}
		s.stepsWritten(p, selected, err)
	}
}

// writeVolumes binds volumes to claims and selects nodes for those to be made; it returns the claims whose node was written, by the
// version that shows it.
func (s *Scheduler) writeVolumes(ctx context.Context, p *preparing, steps []plan.VolumeStep) (map[client.Key]int64, error) {
	selected := map[client.Key]int64{}
	for _, step := range steps {
		if step.Volume != nil {
			if err := s.bindVolume(ctx, step); err != nil {
				return nil, err
			}
			continue
		}
		if step.Claim.Annotations[plan.SelectedNode] == p.node {
			continue
		}
		claim, err := s.selectNode(ctx, step.Claim, p.node)
		if err != nil {
			return nil, err
		}
		selected[client.KeyOf(claim)] = client.RevisionOf(claim)
	}
	return selected, nil
}

// bindVolume makes a volume point to its claim, if it is as it was when it was chosen. The binder does the rest.
func (s *Scheduler) bindVolume(ctx context.Context, step plan.VolumeStep) error {
	type object = map[string]any
	v, c := step.Volume, step.Claim
	meta := object{"uid": v.UID, "resourceVersion": v.ResourceVersion}
	if v.Spec.ClaimRef == nil {
		meta["annotations"] = object{plan.BoundByController: "yes"}
	}
	patch, err := json.Marshal(object{"metadata": meta, "spec": object{"claimRef": object{
		"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": c.Namespace, "name": c.Name, "uid": c.UID,
	}}})
	if err != nil {
		return err
	}
	_, err = client.Of(s.cfg.Client, client.PersistentVolumes()).Patch(ctx, "", v.Name, client.MergePatch, patch, client.PatchOptions{})
	return err
}

// selectNode tells the provisioner of a claim for which node to make a volume.
func (s *Scheduler) selectNode(ctx context.Context, c *corev1.PersistentVolumeClaim, node string) (*corev1.PersistentVolumeClaim, error) {
	type object = map[string]any
	patch, err := json.Marshal(object{"metadata": object{"uid": c.UID, "annotations": object{plan.SelectedNode: node}}})
	if err != nil {
		return nil, err
	}
	return client.Of(s.cfg.Client, client.PersistentVolumeClaims()).Patch(ctx, c.Namespace, c.Name, client.MergePatch, patch, client.PatchOptions{})
}

func (s *Scheduler) stepsWritten(p *preparing, selected map[client.Key]int64, err error) {
	if s.preparing[p.pod.UID] != p {
		return // gone meanwhile
	}
	if err != nil {
		s.prepareFailed(p, err)
		return
	}
	p.asked, p.selected = true, selected
	s.volumeNews = true
}

// bindPrepared binds the pods whose volumes are bound, and gives up on those whose will not be.
func (s *Scheduler) bindPrepared(ctx context.Context, now time.Time) {
	if len(s.preparing) == 0 || !s.volumeNews && !s.prepareOverdue(now) {
		return
	}
	s.volumeNews = false
	var ready []binding
	for uid, p := range s.preparing {
		if current, ok := s.pods.Get(p.pod.Namespace, p.pod.Name); !ok || current.UID != uid || current.Spec.NodeName != "" {
			delete(s.preparing, uid) // gone, or bound by somebody; the mirror has told or will tell
			delete(s.binding, uid)
			continue
		}
		if !p.asked {
			continue
		}
		bound, err := s.cluster.VolumesBound(p.pod, p.node)
		switch {
		case err != nil:
			s.prepareFailed(p, fmt.Errorf("binding volumes: %w", err))
		case bound:
			delete(s.preparing, uid)
			ready = append(ready, p.binding)
		case s.nodeReset(p):
			s.prepareFailed(p, errNodeReset)
		case !now.Before(p.deadline):
			s.prepareFailed(p, errVolumesTimeout)
		}
	}
	if len(ready) > 0 {
		s.batches++
		go s.bind(ctx, ready)
	}
}

// nodeReset tells whether a provisioner has given the node back that was selected for one of the pod's claims.
func (s *Scheduler) nodeReset(p *preparing) bool {
	for key, written := range p.selected {
		c, ok := s.claims.Get(key.Namespace, key.Name)
		if ok && client.RevisionOf(c) >= written && c.Spec.VolumeName == "" && c.Annotations[plan.SelectedNode] == "" {
			return true
		}
	}
	return false
}

// prepareFailed takes a decision back.
func (s *Scheduler) prepareFailed(p *preparing, err error) {
	delete(s.preparing, p.pod.UID)
	delete(s.binding, p.pod.UID)
	s.vacate(p.pod)
	current, ok := s.pods.Get(p.pod.Namespace, p.pod.Name)
	if !ok || current.UID != p.pod.UID || current.DeletionTimestamp != nil {
		return
	}
	s.cfg.Metrics.bindFailed(s.cfg.Name)
	s.cfg.Log.Warn("pod not prepared", "pod", client.KeyOf(p.pod).String(), "node", p.node, "error", err)
	s.cfg.Events.Event(p.pod, corev1.EventTypeWarning, "FailedScheduling", "%v", err)
	p.item.Pod = current
	s.queue.Retry(p.item, time.Now())
}

// prepareOverdue tells whether a pod has waited long enough, and nextDeadline when one will have.
func (s *Scheduler) prepareOverdue(now time.Time) bool {
	next, ok := s.nextDeadline()
	return ok && !now.Before(next)
}

func (s *Scheduler) nextDeadline() (next time.Time, ok bool) {
	for _, p := range s.preparing {
		if p.asked && (!ok || p.deadline.Before(next)) {
			next, ok = p.deadline, true
		}
	}
	return next, ok
}

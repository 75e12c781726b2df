package loop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/client"
	"bareboat.dev/scheduler/devices"
	"bareboat.dev/scheduler/queue"
)

// claimTries is how often a claim is written anew that somebody else has written meanwhile: pods that share a claim reserve it one
// after another, a batch's worth of them at most maxBinding at once.
const claimTries = 2 * maxBinding

var (
	errClaimChanged = errors.New("claim changed while it was being allocated")
	errClaimFull    = errors.New("resourceclaim in use")
)

// listenDevices has the changes of what devices depend on sent to the deciding goroutine.
func (s *Scheduler) listenDevices(ctx context.Context) {
	s.resourceClaims.OnChange(func(ch client.Change[*resourcev1.ResourceClaim]) { s.send(ctx, func() { s.resourceClaimChanged(ch) }) })
	s.slices.OnChange(func(ch client.Change[*resourcev1.ResourceSlice]) {
		s.send(ctx, func() {
			s.news.devices = true
			if ch.New == nil {
				s.cluster.Devices().RemoveSlice(ch.Old.Name)
				return
			}
			s.cluster.Devices().SetSlice(ch.New)
		})
	})
	s.deviceClasses.OnChange(func(ch client.Change[*resourcev1.DeviceClass]) {
		s.send(ctx, func() {
			s.news.devices = true
			if ch.New == nil {
				s.cluster.Devices().RemoveClass(ch.Old.Name)
				return
			}
			s.cluster.Devices().SetClass(ch.New)
		})
	})
	s.taintRules.OnChange(func(ch client.Change[*resourcev1.DeviceTaintRule]) {
		s.send(ctx, func() {
			s.news.devices = true
			if ch.New == nil {
				s.cluster.Devices().RemoveTaintRule(ch.Old.Name)
				return
			}
			s.cluster.Devices().SetTaintRule(ch.New)
		})
	})
}

func (s *Scheduler) resourceClaimChanged(ch client.Change[*resourcev1.ResourceClaim]) {
	claim := ch.Object()
	s.news.claims[client.KeyOf(claim)] = true
	if ch.Type != client.Added && ch.Old.Status.Allocation != nil && (ch.New == nil || ch.New.Status.Allocation == nil) {
		s.news.devices = true // some became free
	}
	if ch.New == nil {
		s.cluster.Devices().RemoveClaim(claim.Namespace, claim.Name)
		return
	}
	s.takeClaim(claim)
}

// takeClaim takes over a claim's state, unless a newer one is known: the answer to a write may come before the mirror's news of it.
func (s *Scheduler) takeClaim(claim *resourcev1.ResourceClaim) {
	have := s.cluster.Devices().Claim(claim.Namespace, claim.Name)
	if have != nil && have.UID == claim.UID && client.RevisionOf(have) > client.RevisionOf(claim) {
		return
	}
	s.cluster.Devices().SetClaim(claim)
}

// claimNews tells whether the news concerns a pod that waits for devices.
func (s *Scheduler) claimNews(it *queue.Item) bool {
	if s.news.devices {
		return true
	}
	for i := range it.Pod.Spec.ResourceClaims {
		name, err := devices.ClaimName(it.Pod, &it.Pod.Spec.ResourceClaims[i])
		if err == nil && s.news.claims[client.Key{Namespace: it.Pod.Namespace, Name: name}] {
			return true
		}
	}
	return false
}

// writeClaims writes decided allocations and the pod's reservations into its claims, all or none, and returns the claims as they are
// then. Each write is conditional on the version that was decided from.
func (s *Scheduler) writeClaims(ctx context.Context, pod *corev1.Pod, steps []devices.Step) ([]*resourcev1.ResourceClaim, error) {
	var written []*resourcev1.ResourceClaim
	for _, step := range steps {
		claim, err := s.writeClaim(ctx, pod, step)
		if err == nil {
			written = append(written, claim)
			continue
		}
		for i, claim := range written {
			s.undoClaim(ctx, pod, claim, steps[i].Allocation != nil)
		}
		return nil, fmt.Errorf("reserving ResourceClaim %s/%s: %w", step.Claim.Namespace, step.Claim.Name, err)
	}
	return written, nil
}

// writeClaim writes one claim: the finalizer that keeps it while it has devices, then the allocation and the reservation in one.
func (s *Scheduler) writeClaim(ctx context.Context, pod *corev1.Pod, step devices.Step) (*resourcev1.ResourceClaim, error) {
	api := client.Of(s.cfg.Client, client.ResourceClaims())
	claim := step.Claim
	for try := 1; ; try++ {
		next, err := s.reserve(ctx, api, pod, claim, step.Allocation)
		if err == nil || !apierrors.IsConflict(err) || try == claimTries {
			return next, err
		}
		current, err := api.Get(ctx, claim.Namespace, claim.Name)
		if err != nil {
			return nil, err
		}
		// What was decided must still hold: unallocated if it was to be allocated, and allocated as it was otherwise.
		if current.UID != claim.UID || current.DeletionTimestamp != nil || !equality.Semantic.DeepEqual(current.Status.Allocation, step.Claim.Status.Allocation) {
			return nil, errClaimChanged
		}
		claim = current
	}
}

func (s *Scheduler) reserve(ctx context.Context, api *client.Resource[*resourcev1.ResourceClaim], pod *corev1.Pod, claim *resourcev1.ResourceClaim,
	allocation *resourcev1.AllocationResult,
) (*resourcev1.ResourceClaim, error) {
	if allocation != nil && !slices.Contains(claim.Finalizers, resourcev1.Finalizer) {
		protected, err := api.Patch(ctx, claim.Namespace, claim.Name, client.MergePatch, finalizerPatch(claim), client.PatchOptions{})
		if err != nil {
			return nil, err
		}
		claim = protected
	}
	claim = claim.DeepCopy()
	if allocation != nil {
		now := metav1.NewTime(time.Now())
		claim.Status.Allocation = allocation.DeepCopy()
		claim.Status.Allocation.AllocationTimestamp = &now
	}
	if !devices.ReservedFor(claim, pod.UID) {
		if len(claim.Status.ReservedFor) >= resourcev1.ResourceClaimReservedForMaxSize {
			return nil, errClaimFull
		}
		claim.Status.ReservedFor = append(claim.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: pod.Name, UID: pod.UID})
	}
	return api.UpdateStatus(ctx, claim)
}

func finalizerPatch(claim *resourcev1.ResourceClaim) []byte {
	type object = map[string]any
	data, err := json.Marshal(object{"metadata": object{
		"uid": claim.UID, "resourceVersion": claim.ResourceVersion, "finalizers": append(slices.Clone(claim.Finalizers), resourcev1.Finalizer),
	}})
	if err != nil { // plain values always encode
		panic(err)
	}
	return data
}

// undoClaim takes a reservation back, and the allocation that came with it, if nobody has written the claim since. What it fails to
// take back serves the pod's next attempt, or is taken by the claims' controller.
func (s *Scheduler) undoClaim(ctx context.Context, pod *corev1.Pod, claim *resourcev1.ResourceClaim, allocated bool) {
	claim = claim.DeepCopy()
	claim.Status.ReservedFor = slices.DeleteFunc(claim.Status.ReservedFor, func(ref resourcev1.ResourceClaimConsumerReference) bool { return ref.UID == pod.UID })
	if allocated && len(claim.Status.ReservedFor) == 0 {
		claim.Status.Allocation, claim.Status.Devices = nil, nil
	}
	if _, err := client.Of(s.cfg.Client, client.ResourceClaims()).UpdateStatus(ctx, claim); err != nil {
		s.cfg.Log.Warn("reservation not taken back", "claim", client.KeyOf(claim).String(), "pod", client.KeyOf(pod).String(), "error", err)
	}
}

// claimsWritten takes over what became of a decided pod's claims, even if the pod is gone.
func (s *Scheduler) claimsWritten(pod types.UID, claims []*resourcev1.ResourceClaim) {
	for _, claim := range claims {
		s.takeClaim(claim)
	}
	s.cluster.Devices().Forget(pod)
	s.news.devices = s.news.devices || len(claims) == 0
}

// release takes devices back from a claim of a refused pod that has them where the pod cannot go, one claim at a time, so that it can
// be allocated elsewhere.
func (s *Scheduler) release(ctx context.Context, pod *corev1.Pod) {
	for _, claim := range s.cluster.Devices().Stranded(pod) {
		if s.releasing[claim.UID] {
			continue
		}
		s.releasing[claim.UID] = true
		s.requests++
		go func() {
			ctx, cancel := context.WithTimeout(ctx, bindTimeout)
			defer cancel()
			free := claim.DeepCopy()
			free.Status.Allocation, free.Status.ReservedFor, free.Status.Devices = nil, nil, nil
			_, err := client.Of(s.cfg.Client, client.ResourceClaims()).UpdateStatus(ctx, free)
			s.inbox <- func() {
				s.requests--
				delete(s.releasing, claim.UID)
				if err != nil {
					s.cfg.Log.Warn("claim not deallocated", "claim", client.KeyOf(claim).String(), "error", err)
				}
			}
		}()
		return
	}
}

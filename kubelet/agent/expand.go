package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/client"
	"bareboat.dev/kubelet/volume"
)

// expandEvery is how often the claims of this node's pods are asked for, to see whether a volume's disk has become larger and its file
// system has to follow. Nodes may read claims but not watch them; a claim costs one read a minute, and only if a driver makes its volume.
const expandEvery = time.Minute

// expandVolumes makes the file systems of volumes as large as their disks, until ctx ends.
func (a *Agent) expandVolumes(ctx context.Context) error {
	timer := time.NewTimer(expandEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		for _, w := range a.all() {
			if w.volumesMounted() && w.hasClaims() {
				a.expandPod(ctx, w.snapshot().pod)
			}
		}
		timer.Reset(expandEvery)
	}
}

// hasClaims says whether claims stand behind any of the pod's volumes.
func (w *worker) hasClaims() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.pod.Spec.Volumes, func(v corev1.Volume) bool { return volume.ClaimName(w.pod, &v) != "" })
}

func (a *Agent) expandPod(ctx context.Context, p *corev1.Pod) {
	claims, err := a.volumes.Claims(ctx, p)
	if err != nil && ctx.Err() == nil {
		a.Log.Debug("claims were not looked up", "pod", podKey(p), "error", err)
	}
	e := expansion{client: a.Client, expand: a.volumes.Expand}
	for _, c := range claims {
		if c.PV.Spec.CSI == nil || c.ReadOnly() {
			continue
		}
		done, err := e.run(ctx, c)
		switch {
		case err != nil && ctx.Err() == nil:
			a.event(p, corev1.EventTypeWarning, "VolumeResizeFailed", "", "NodeExpandVolume failed for volume %q : %v", c.PV.Name, err)
			a.Log.Warn("volume was not expanded", "pod", podKey(p), "volume", c.PV.Name, "error", err)
		case done:
			a.event(p, corev1.EventTypeNormal, "FileSystemResizeSuccessful", "", "NodeExpandVolume succeeded for volume %q", c.PV.Name)
		}
	}
}

// expansion makes one volume larger.
type expansion struct {
	client *client.Client
	expand func(ctx context.Context, c volume.Claimed, bytes int64) error
}

// run expands a volume if its claim says that the node has to, and tells the claim. It reports whether it did.
func (e expansion) run(ctx context.Context, c volume.Claimed) (bool, error) {
	claims := client.Of(e.client, client.PersistentVolumeClaims())
	claim, err := claims.Get(ctx, c.Pod.Namespace, c.Claim)
	if err != nil {
		return false, fmt.Errorf("claim %s/%s: %w", c.Pod.Namespace, c.Claim, err)
	}
	if !awaitsNode(claim) {
		return false, nil
	}
	pv, err := client.Of(e.client, client.PersistentVolumes()).Get(ctx, "", c.PV.Name)
	if err != nil {
		return false, fmt.Errorf("volume %s: %w", c.PV.Name, err)
	}
	c.PV = pv
	size := pv.Spec.Capacity[corev1.ResourceStorage]
	// A driver that has nothing to do on the node is done.
	if err := e.expand(ctx, c, size.Value()); err != nil && !errors.Is(err, volume.ErrUnsupported) {
		return false, err
	}
	next := claim.DeepCopy()
	expanded(next, pv)
	if _, err := claims.UpdateStatus(ctx, next); err != nil {
		return false, fmt.Errorf("claim %s/%s: %w", c.Pod.Namespace, c.Claim, err)
	}
	return true, nil
}

// awaitsNode says whether a claim's volume is as large as it is to be but for what the node has to do.
func awaitsNode(claim *corev1.PersistentVolumeClaim) bool {
	switch claim.Status.AllocatedResourceStatuses[corev1.ResourceStorage] {
	case corev1.PersistentVolumeClaimNodeResizePending, corev1.PersistentVolumeClaimNodeResizeInProgress:
		return true
	}
	return slices.ContainsFunc(claim.Status.Conditions, func(c corev1.PersistentVolumeClaimCondition) bool {
		return c.Type == corev1.PersistentVolumeClaimFileSystemResizePending && c.Status == corev1.ConditionTrue
	})
}

// expanded notes in a claim's status that its volume is as large as it is to be.
func expanded(claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) {
	if claim.Status.Capacity == nil {
		claim.Status.Capacity = corev1.ResourceList{}
	}
	claim.Status.Capacity[corev1.ResourceStorage] = pv.Spec.Capacity[corev1.ResourceStorage]
	delete(claim.Status.AllocatedResourceStatuses, corev1.ResourceStorage)
	claim.Status.Conditions = slices.DeleteFunc(claim.Status.Conditions, func(c corev1.PersistentVolumeClaimCondition) bool {
		return c.Type == corev1.PersistentVolumeClaimFileSystemResizePending || c.Type == corev1.PersistentVolumeClaimResizing
	})
}

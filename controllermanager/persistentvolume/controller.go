package persistentvolume

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

// workers is how many claims, and how many volumes, are worked on at a time. Two claims that choose the same volume cost one
// of them a conflict and a second look.
const workers = 2

// The indexes.
var (
	// volumesByClass finds volumes by the name of their class.
	volumesByClass = engine.Index[*corev1.PersistentVolume]{Name: "class", Keys: func(v *corev1.PersistentVolume) []string {
		return []string{VolumeClass(v)}
	}}
	// VolumesByClaim finds volumes by the claim that they name.
	VolumesByClaim = engine.Index[*corev1.PersistentVolume]{Name: "claim", Keys: claimOf}
	// claimsByVolume finds claims by the volume that they name.
	claimsByVolume = engine.Index[*corev1.PersistentVolumeClaim]{Name: "volume", Keys: func(c *corev1.PersistentVolumeClaim) []string {
		if c.Spec.VolumeName == "" {
			return nil
		}
		return []string{c.Spec.VolumeName}
	}}
	// waitingByClass finds the claims of a class that name no volume; those that name no class at all are under classless.
	waitingByClass = engine.Index[*corev1.PersistentVolumeClaim]{Name: "waiting", Keys: func(c *corev1.PersistentVolumeClaim) []string {
		if c.Spec.VolumeName != "" {
			return nil
		}
		name, named := ClassOf(c)
		if !named {
			return []string{"", classless}
		}
		return []string{name}
	}}
)

// classless is no class's name.
const classless = "/"

func claimOf(v *corev1.PersistentVolume) []string {
	if v.Spec.ClaimRef == nil {
		return nil
	}
	return []string{v.Spec.ClaimRef.Namespace + "/" + v.Spec.ClaimRef.Name}
}

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:  "persistentvolume-binder-controller",
		Reads: []plan.Kind{plan.PVs, plan.PVCs, plan.StorageClasses, plan.Pods},
		Writes: []engine.Claim{
			{Kind: plan.PVs, Field: "spec.claimRef"},
			{Kind: plan.PVs, Field: "metadata.annotations[" + BoundByController + "]"},
			{Kind: plan.PVs, Field: "status"},
			{Kind: plan.PVCs, Field: "spec.volumeName"},
			{Kind: plan.PVCs, Field: "spec.storageClassName"},
			{Kind: plan.PVCs, Field: "metadata.annotations[" + BindCompleted + "]"},
			{Kind: plan.PVCs, Field: "metadata.annotations[" + BoundByController + "]"},
			{Kind: plan.PVCs, Field: "metadata.annotations[" + Provisioner + "]"},
			{Kind: plan.PVCs, Field: "metadata.annotations[" + betaProvisioner + "]"},
			{Kind: plan.PVCs, Field: "status.phase"},
			{Kind: plan.PVCs, Field: "status.accessModes"},
			{Kind: plan.PVCs, Field: "status.capacity[bound]"},
			{Kind: plan.PVCs, Field: "status.currentVolumeAttributesClassName"},
		},
		Setup: setup,
	}
}

type controller struct {
	setup   *engine.Setup
	claims  *engine.View[*corev1.PersistentVolumeClaim]
	volumes *engine.View[*corev1.PersistentVolume]
	classes *engine.View[*storagev1.StorageClass]
	pods    *engine.View[*corev1.Pod]
}

func setup(s *engine.Setup) error {
	c := &controller{
		setup:   s,
		claims:  engine.Mirror(s, client.PersistentVolumeClaims(), claimsByVolume, waitingByClass),
		volumes: engine.Mirror(s, client.PersistentVolumes(), volumesByClass, VolumesByClaim),
		classes: engine.Mirror(s, client.StorageClasses()),
		pods:    engine.Mirror(s, client.Pods(), engine.PodsByClaim),
	}
	claims := c.claims.Loop(s, engine.LoopConfig{Name: "claims", Workers: workers}, c.claim)
	volumes := c.volumes.Loop(s, engine.LoopConfig{Name: "volumes", Workers: workers}, c.volume)
	enqueueClaims := func(index, key string) {
		for _, claim := range c.claims.ByIndex(index, key) {
			claims.Add(engine.Key(claim))
		}
	}
	c.claims.Enqueue(volumes, func(claim *corev1.PersistentVolumeClaim) []string {
		keys := claimsByVolume.Keys(claim)
		for _, v := range c.volumes.ByIndex(VolumesByClaim.Name, engine.Key(claim)) {
			keys = append(keys, v.Name)
		}
		return keys
	})
	c.volumes.Enqueue(claims, claimOf)
	c.volumes.OnChange(func(old, new *corev1.PersistentVolume) {
		if new == nil {
			enqueueClaims(claimsByVolume.Name, old.Name)
			return
		}
		enqueueClaims(claimsByVolume.Name, new.Name)
		if new.Spec.ClaimRef == nil && new.Status.Phase == corev1.VolumeAvailable {
			enqueueClaims(waitingByClass.Name, VolumeClass(new))
		}
	})
	c.classes.OnChange(func(_, new *storagev1.StorageClass) {
		if new != nil {
			enqueueClaims(waitingByClass.Name, new.Name)
			enqueueClaims(waitingByClass.Name, classless)
		}
	})
	return nil
}

// claim takes a claim one step. That its volume is gone is asked of the API.
func (c *controller) claim(ctx context.Context, claim *corev1.PersistentVolumeClaim, s engine.Step) (plan.Plan, error) {
	class, _ := ClassOf(claim)
	in := ClaimInput{
		Claim:   claim,
		Volumes: append(c.volumes.ByIndex(volumesByClass.Name, class), c.volumes.ByIndex(VolumesByClaim.Name, s.Key)...),
		Class: func(name string) *storagev1.StorageClass {
			class, _ := c.classes.Get("", name)
			return class
		},
		Classes: c.classes.List(), Pods: c.pods.ByIndex(engine.PodsByClaim.Name, s.Key),
	}
	if name := claim.Spec.VolumeName; name != "" {
		var ok bool
		if in.Volume, ok = c.volumes.Get("", name); !ok && claim.Status.Phase != corev1.ClaimLost {
			gone, err := c.setup.Gone(ctx, plan.PVs, "", name, "")
			if err != nil {
				return plan.Plan{}, err
			}
			in.VolumeGone = gone
		}
	}
	return ReconcileClaim(in), nil
}

// volume takes a volume one step. That its claim is gone is asked of the API: with reclaim policy Delete the data goes next.
func (c *controller) volume(ctx context.Context, v *corev1.PersistentVolume, _ engine.Step) (plan.Plan, error) {
	in := VolumeInput{Volume: v}
	ref := v.Spec.ClaimRef
	if ref == nil || ref.UID == "" {
		return ReconcileVolume(in), nil
	}
	claim, ok := c.claims.Get(ref.Namespace, ref.Name)
	if ok && claim.UID == ref.UID {
		in.Claim = claim
		return ReconcileVolume(in), nil
	}
	if v.Status.Phase != corev1.VolumeReleased && v.Status.Phase != corev1.VolumeFailed {
		gone, err := c.setup.Gone(ctx, plan.PVCs, ref.Namespace, ref.Name, ref.UID)
		if err != nil || !gone {
			return plan.Plan{}, err // If it is there, the mirror is about to say so.
		}
	}
	in.ClaimGone = true
	return ReconcileVolume(in), nil
}

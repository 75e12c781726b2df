package localpath

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/persistentvolume"
	"bareboat.dev/controllermanager/plan"
)

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:  "local-path-provisioner",
		Reads: []plan.Kind{plan.PVs, plan.PVCs, plan.StorageClasses, plan.Nodes},
		Writes: []engine.Claim{
			{Kind: plan.PVs, Field: "spec.capacity"},
			{Kind: plan.PVs, Field: "metadata.finalizers[" + Finalizer + "]"},
			{Kind: plan.PVCs, Field: "metadata.annotations[" + persistentvolume.SelectedNode + "]"},
			{Kind: plan.PVCs, Field: "status.capacity[expanded]"},
		},
		Creates: []plan.Kind{plan.PVs, plan.StorageClasses},
		Deletes: []plan.Kind{plan.PVs},
		Setup:   setup,
	}
}

type controller struct {
	setup   *engine.Setup
	volumes *engine.View[*corev1.PersistentVolume]
	classes *engine.View[*storagev1.StorageClass]
	nodes   *engine.View[*corev1.Node]
}

func setup(s *engine.Setup) error {
	c := &controller{
		setup: s, volumes: engine.Mirror(s, client.PersistentVolumes(), persistentvolume.VolumesByClaim), classes: engine.Mirror(s, client.StorageClasses()),
		nodes: engine.Mirror(s, client.Nodes()),
	}
	claims := engine.Mirror(s, client.PersistentVolumeClaims())
	provision := claims.Loop(s, engine.LoopConfig{Name: "local_path_claims"}, c.claim)
	reclaim := c.volumes.Loop(s, engine.LoopConfig{Name: "local_path_volumes"}, c.volume)
	classes := s.Loop(engine.LoopConfig{Name: "local_path_class", Step: func(context.Context, engine.Step) (plan.Plan, error) {
		return EnsureClass(c.classes.List()), nil
	}})
	classes.Add(ClassName)
	c.classes.OnChange(func(_, new *storagev1.StorageClass) {
		if new == nil {
			classes.Add(ClassName)
		}
	})
	c.volumes.Enqueue(provision, persistentvolume.VolumesByClaim.Keys)
	// A node that goes takes its volumes' directories with it.
	c.nodes.OnChange(func(old, new *corev1.Node) {
		if new != nil {
			return
		}
		for _, v := range c.volumes.List() {
			if v.Labels[NodeLabel] == old.Name {
				reclaim.Add(v.Name)
			}
		}
	})
	return nil
}

func (c *controller) claim(ctx context.Context, claim *corev1.PersistentVolumeClaim, _ engine.Step) (plan.Plan, error) {
	if claim.Annotations[persistentvolume.Provisioner] != Provisioner {
		return plan.Plan{}, nil
	}
	in := ClaimInput{Claim: claim}
	name, _ := persistentvolume.ClassOf(claim)
	in.Class, _ = c.classes.Get("", name)
	in.Volume, _ = c.volumes.Get("", VolumeName(claim))
	if node := claim.Annotations[persistentvolume.SelectedNode]; node != "" && in.Volume == nil {
		var known bool
		if in.Node, known = c.nodes.Get("", node); !known {
			gone, err := c.setup.Gone(ctx, plan.Nodes, "", node, "")
			if err != nil || !gone {
				return plan.Plan{}, err
			}
		}
	}
	return Provision(in), nil
}

func (c *controller) volume(ctx context.Context, v *corev1.PersistentVolume, _ engine.Step) (plan.Plan, error) {
	node := v.Labels[NodeLabel]
	if _, known := c.nodes.Get("", node); known || node == "" || v.DeletionTimestamp == nil {
		return Reclaim(v, false), nil
	}
	gone, err := c.setup.Gone(ctx, plan.Nodes, "", node, "")
	if err != nil {
		return plan.Plan{}, err
	}
	return Reclaim(v, gone), nil
}

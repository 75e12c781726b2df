package attachdetach

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/persistentvolume"
	"bareboat.dev/controllermanager/plan"
)

// workers is how many volumes are worked on at a time.
const workers = 2

// byVolume finds attachments by the volume they are of.
var byVolume = engine.Index[*storagev1.VolumeAttachment]{Name: "volume", Keys: volumeOf}

func volumeOf(a *storagev1.VolumeAttachment) []string {
	if a.Spec.Source.PersistentVolumeName == nil {
		return nil
	}
	return []string{*a.Spec.Source.PersistentVolumeName}
}

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name:    "persistentvolume-attach-detach-controller",
		Reads:   []plan.Kind{plan.PVs, plan.Pods, plan.Nodes, plan.CSIDrivers, plan.VolumeAttachments},
		Creates: []plan.Kind{plan.VolumeAttachments},
		Deletes: []plan.Kind{plan.VolumeAttachments},
		Setup:   setup,
	}
}

type controller struct {
	setup       *engine.Setup
	pods        *engine.View[*corev1.Pod]
	nodes       *engine.View[*corev1.Node]
	drivers     *engine.View[*storagev1.CSIDriver]
	attachments *engine.View[*storagev1.VolumeAttachment]
}

func setup(s *engine.Setup) error {
	volumes := engine.Mirror(s, client.PersistentVolumes(), persistentvolume.VolumesByClaim)
	c := &controller{
		setup: s, pods: engine.Mirror(s, client.Pods(), engine.PodsByClaim), nodes: engine.Mirror(s, client.Nodes()),
		drivers: engine.Mirror(s, client.CSIDrivers()), attachments: engine.Mirror(s, client.VolumeAttachments(), byVolume),
	}
	loop := volumes.Loop(s, engine.LoopConfig{Name: "attachdetach", Workers: workers}, c.step)
	c.attachments.Enqueue(loop, volumeOf)
	c.pods.OnChange(func(old, new *corev1.Pod) {
		pod := new
		if pod == nil {
			pod = old
		}
		if old != nil && new != nil && old.Spec.NodeName == new.Spec.NodeName {
			return
		}
		for _, claim := range engine.PodsByClaim.Keys(pod) {
			for _, v := range volumes.ByIndex(persistentvolume.VolumesByClaim.Name, claim) {
				loop.Add(v.Name)
			}
		}
	})
	c.drivers.OnChange(func(_, new *storagev1.CSIDriver) {
		for _, v := range volumes.List() {
			if new != nil && v.Spec.CSI != nil && v.Spec.CSI.Driver == new.Name {
				loop.Add(v.Name)
			}
		}
	})
	c.nodes.OnChange(func(old, new *corev1.Node) {
		if new != nil {
			return
		}
		for _, a := range c.attachments.List() {
			if a.Spec.NodeName == old.Name {
				loop.Add(volumeOf(a)...)
			}
		}
	})
	return nil
}

func (c *controller) step(ctx context.Context, v *corev1.PersistentVolume, _ engine.Step) (plan.Plan, error) {
	if v.Spec.CSI == nil {
		return plan.Plan{}, nil
	}
	claim := ""
	in := Input{Volume: v, Attachments: c.attachments.ByIndex(byVolume.Name, v.Name), NodeGone: func(name string) bool {
		if _, known := c.nodes.Get("", name); known {
			return false
		}
		gone, err := c.setup.Gone(ctx, plan.Nodes, "", name, "")
		return err == nil && gone
	}}
	in.Driver, _ = c.drivers.Get("", v.Spec.CSI.Driver)
	if ref := v.Spec.ClaimRef; ref != nil {
		claim = ref.Namespace + "/" + ref.Name
		in.Pods = c.pods.ByIndex(engine.PodsByClaim.Name, claim)
	}
	p := Reconcile(in)
	if claim == "" || !slices.ContainsFunc(p.Writes, func(w plan.Write) bool { return w.Verb == plan.VerbDelete }) {
		return p, nil
	}
	all, _, err := client.Of(c.setup.Client(), client.Pods()).List(ctx, v.Spec.ClaimRef.Namespace, client.ListOptions{})
	if err != nil {
		return plan.Plan{}, err
	}
	in.Pods = slices.DeleteFunc(all, func(pod *corev1.Pod) bool { return !slices.Contains(engine.PodsByClaim.Keys(pod), claim) })
	return Reconcile(in), nil
}

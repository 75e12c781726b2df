package attachdetach

import (
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"

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

	mu sync.Mutex
	// unused is since when an attachment has been seen without a pod.
	unused map[types.UID]time.Time
}

func setup(s *engine.Setup) error {
	volumes := engine.Mirror(s, client.PersistentVolumes(), persistentvolume.VolumesByClaim)
	c := &controller{
		setup: s, pods: engine.Mirror(s, client.Pods(), engine.PodsByClaim), nodes: engine.Mirror(s, client.Nodes()),
		drivers: engine.Mirror(s, client.CSIDrivers()), attachments: engine.Mirror(s, client.VolumeAttachments(), byVolume), unused: map[types.UID]time.Time{},
	}
	loop := volumes.Loop(s, engine.LoopConfig{Name: "attachdetach", Workers: workers}, c.step)
	c.attachments.Enqueue(loop, volumeOf)
	c.attachments.OnChange(func(old, new *storagev1.VolumeAttachment) {
		if new == nil {
			c.used(old)
		}
	})
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
		if old == nil || new != nil && !releases(old, new) {
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

// releases reports whether a change of a node can let go of a volume.
func releases(old, new *corev1.Node) bool {
	return !slices.Equal(old.Status.VolumesInUse, new.Status.VolumesInUse) || len(old.Spec.Taints) != len(new.Spec.Taints) ||
		isReady(old) != isReady(new)
}

// unusedSince is when an attachment was first seen without a pod.
func (c *controller) unusedSince(a *storagev1.VolumeAttachment, now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	since, known := c.unused[a.UID]
	if !known {
		since = now
		c.unused[a.UID] = now
	}
	return since
}

func (c *controller) used(a *storagev1.VolumeAttachment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.unused, a.UID)
}

func (c *controller) step(ctx context.Context, v *corev1.PersistentVolume, s engine.Step) (plan.Plan, error) {
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
	}, Node: func(name string) *corev1.Node {
		n, _ := c.nodes.Get("", name)
		return n
	}, Unused: func(a *storagev1.VolumeAttachment) time.Time { return c.unusedSince(a, s.Now) }}
	in.Driver, _ = c.drivers.Get("", v.Spec.CSI.Driver)
	if ref := v.Spec.ClaimRef; ref != nil {
		claim = ref.Namespace + "/" + ref.Name
		in.Pods = c.pods.ByIndex(engine.PodsByClaim.Name, claim)
	}
	for _, a := range in.Attachments {
		if slices.ContainsFunc(in.Pods, func(pod *corev1.Pod) bool { return pod.Spec.NodeName == a.Spec.NodeName }) {
			c.used(a)
		}
	}
	p := Reconcile(in, s.Now)
	if claim == "" || !slices.ContainsFunc(p.Writes, func(w plan.Write) bool { return w.Verb == plan.VerbDelete }) {
		return p, nil
	}
	all, _, err := client.Of(c.setup.Client(), client.Pods()).List(ctx, v.Spec.ClaimRef.Namespace, client.ListOptions{})
	if err != nil {
		return plan.Plan{}, err
	}
	in.Pods = slices.DeleteFunc(all, func(pod *corev1.Pod) bool { return !slices.Contains(engine.PodsByClaim.Keys(pod), claim) })
	return Reconcile(in, s.Now), nil
}

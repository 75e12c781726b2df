package plan

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// VolumeStep is one thing to be done before a pod can be bound to its node.
type VolumeStep struct {
	Claim *corev1.PersistentVolumeClaim
	// Volume to bind the claim to; nil if one is to be made for the pod's node.
	Volume *corev1.PersistentVolume
}

// volumeDemand is what a pod's claims demand of a node.
type volumeDemand struct {
	// refused is why no node will do, by plugin.
	refused string
	plugin  Plugin
	// bound are the volumes that the pod has, missing tells that one of them is not known.
	bound   []*knownVolume
	missing bool
	// unbound claims get their volume with the node, the smallest first.
	unbound []unboundClaim
	// exclusive claims may have one pod only.
	exclusive []claimKey
	pod       *corev1.Pod
}

// unboundClaim is a claim that waits for its first consumer.
type unboundClaim struct {
	claim *corev1.PersistentVolumeClaim
	class *storagev1.StorageClass
	// node that was selected, now or by an earlier decision; empty if none.
	node string
	// volume that is reserved; nil if none.
	volume *knownVolume
	// choice are the free volumes that suit, the smallest first.
	choice []*knownVolume
}

// demandOf gathers what a pod's claims demand; nil if it uses none.
func (t *volumeTable) demandOf(pod *corev1.Pod) *volumeDemand {
	if len(pod.Spec.Volumes) == 0 {
		return nil
	}
	keys := claimKeys(pod)
	if len(keys) == 0 {
		return nil
	}
	d := &volumeDemand{pod: pod}
	ephemeral := map[claimKey]bool{}
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.Ephemeral != nil {
			ephemeral[claimKey{pod.Namespace, pod.Name + "-" + v.Name}] = true
		}
	}
	for _, key := range keys {
		claim := t.claims[key]
		if d.refused = unusable(pod, claim, key, ephemeral[key]); d.refused == "" {
			d.refused = t.take(d, key, claim)
		}
		if d.refused != "" {
			d.plugin = VolumeBinding
			return d
		}
	}
	slices.SortStableFunc(d.unbound, func(a, b unboundClaim) int {
		x, y := a.claim.Spec.Resources.Requests[corev1.ResourceStorage], b.claim.Spec.Resources.Requests[corev1.ResourceStorage]
		return x.Cmp(y)
	})
	return d
}

// unusable tells why a claim cannot be used, in upstream's words; empty if it can.
func unusable(pod *corev1.Pod, claim *corev1.PersistentVolumeClaim, key claimKey, ephemeral bool) string {
	switch {
	case claim == nil && ephemeral:
		return fmt.Sprintf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", key.name)
	case claim == nil:
		return fmt.Sprintf("persistentvolumeclaim %q not found", key.name)
	case claim.Status.Phase == corev1.ClaimLost:
		return fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", key.name, claim.Spec.VolumeName)
	case claim.DeletionTimestamp != nil:
		return fmt.Sprintf("persistentvolumeclaim %q is being deleted", key.name)
	case ephemeral && !metav1.IsControlledBy(claim, pod):
		return fmt.Sprintf("PVC %s/%s was not created for pod %s/%s (pod is not owner)", claim.Namespace, claim.Name, pod.Namespace, pod.Name)
	}
	return ""
}

// take adds a claim to the demand, or tells why the pod must wait for it.
func (t *volumeTable) take(d *volumeDemand, key claimKey, claim *corev1.PersistentVolumeClaim) (refused string) {
	if slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteOncePod) {
		d.exclusive = append(d.exclusive, key)
	}
	if isBound(claim) {
		if v := t.volumes[claim.Spec.VolumeName]; v != nil {
			d.bound = append(d.bound, v)
		} else {
			d.missing = true
		}
		return ""
	}
	class := t.classes[claimClass(claim)]
	if class == nil || class.VolumeBindingMode == nil || *class.VolumeBindingMode != storagev1.VolumeBindingWaitForFirstConsumer || claim.Spec.VolumeName != "" {
		return "pod has unbound immediate PersistentVolumeClaims"
	}
	u := unboundClaim{claim: claim, class: class, node: claim.Annotations[SelectedNode]}
	if a := t.assumed[key]; a != nil {
		if u.node = a.node; a.volume != "" {
			u.volume = t.volumes[a.volume]
		}
	}
	if u.node == "" && u.volume == nil {
		u.choice = t.choiceFor(claim, class.Name)
	}
	d.unbound = append(d.unbound, u)
	return ""
}

// choiceFor lists the free volumes that suit a claim: those that name it, then the smallest first.
func (t *volumeTable) choiceFor(claim *corev1.PersistentVolumeClaim, class string) []*knownVolume {
	var out []*knownVolume
	selector := selectorOfClaim(claim)
	for name, v := range t.free[class] {
		if _, taken := t.reserved[name]; !taken && suits(v.PersistentVolume, claim, selector) {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b *knownVolume) int {
		x, y := a.Spec.Capacity[corev1.ResourceStorage], b.Spec.Capacity[corev1.ResourceStorage]
		named := func(v *knownVolume) int {
			if v.Spec.ClaimRef != nil {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(named(a), named(b)), x.Cmp(y), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// reject checks a node for the pod's volumes.
func (d *volumeDemand) reject(c *Cluster, n *node) verdictID {
	if d.refused != "" {
		return volumesRefused
	}
	if d.inUse(c.volumes) {
		return volumeInUse
	}
	if d.overLimit(c, n) {
		return volumeLimit
	}
	if d.missing {
		return volumeMissing
	}
	for _, v := range d.bound {
		if !v.reaches(n.obj) {
			return volumeAffinity
		}
	}
	if len(d.unbound) > 0 {
		if _, ok := d.choose(n); !ok {
			return volumeNone
		}
	}
	for _, v := range d.bound {
		if !inZone(v.PersistentVolume, n.obj) {
			return volumeZone
		}
	}
	return feasible
}

// inUse reports whether another pod uses a claim that may have one pod only.
func (d *volumeDemand) inUse(t *volumeTable) bool {
	for _, key := range d.exclusive {
		for uid := range t.users[key] {
			if uid != d.pod.UID {
				return true
			}
		}
	}
	return false
}

// choose decides for each unbound claim what would be done on a node; false if something cannot be done there.
func (d *volumeDemand) choose(n *node) ([]VolumeStep, bool) {
	var steps []VolumeStep
	var used []string
	for i := range d.unbound {
		u := &d.unbound[i]
		switch {
		case u.volume != nil:
			if !u.volume.reaches(n.obj) {
				return nil, false
			}
			continue // An earlier pod's decision, which is being carried out.
		case u.node != "":
			if u.node != n.name {
				return nil, false
			}
			steps = append(steps, VolumeStep{Claim: u.claim})
			continue
		}
		v := u.first(n, used)
		if v == nil && (len(u.choice) > 0 && u.choice[0].Spec.ClaimRef != nil || !provisions(u.class, n.obj)) {
			return nil, false
		}
		step := VolumeStep{Claim: u.claim}
		if v != nil {
			used = append(used, v.Name)
			step.Volume = v.PersistentVolume
		}
		steps = append(steps, step)
	}
	return steps, true
}

// first returns the first of the choice that can be used on a node and is not used up. A volume that names the claim is the only
// choice there is.
func (u *unboundClaim) first(n *node, used []string) *knownVolume {
	for _, v := range u.choice {
		if !slices.Contains(used, v.Name) && v.reaches(n.obj) {
			return v
		}
		if v.Spec.ClaimRef != nil {
			return nil
		}
	}
	return nil
}

// provisions reports whether a class can have a volume made that a node reaches.
func provisions(class *storagev1.StorageClass, n *corev1.Node) bool {
	if class.Provisioner == "" || class.Provisioner == noProvisioner {
		return false
	}
	if len(class.AllowedTopologies) == 0 {
		return true
	}
	return slices.ContainsFunc(class.AllowedTopologies, func(term corev1.TopologySelectorTerm) bool {
		return !slices.ContainsFunc(term.MatchLabelExpressions, func(e corev1.TopologySelectorLabelRequirement) bool {
			at, ok := n.Labels[e.Key]
			return !ok || !slices.Contains(e.Values, at)
		})
	})
}

// overLimit reports whether a node would have more volumes of a CSI driver attached than it can.
func (d *volumeDemand) overLimit(c *Cluster, n *node) bool {
	limits := c.volumes.limits[n.name]
	if len(limits) == 0 {
		return false
	}
	attached := map[string]map[string]bool{}
	for _, p := range n.pods {
		c.volumes.attachments(p.pod, attached)
	}
	before := map[string]int{}
	for driver, volumes := range attached {
		before[driver] = len(volumes)
	}
	c.volumes.attachments(d.pod, attached)
	for driver, volumes := range attached {
		if limit, limited := limits[driver]; limited && len(volumes) > before[driver] && len(volumes) > limit {
			return true
		}
	}
	return false
}

// attachments adds a pod's volumes by CSI driver: bound ones by their handle, others by their claim.
func (t *volumeTable) attachments(pod *corev1.Pod, out map[string]map[string]bool) {
	if len(pod.Spec.Volumes) == 0 {
		return
	}
	for _, key := range claimKeys(pod) {
		claim := t.claims[key]
		if claim == nil {
			continue
		}
		driver, handle := "", ""
		if v := t.volumes[claim.Spec.VolumeName]; v != nil {
			if v.Spec.CSI == nil {
				continue
			}
			driver, handle = v.Spec.CSI.Driver, v.Spec.CSI.VolumeHandle
		} else if class := t.classes[claimClass(claim)]; class != nil {
			driver, handle = class.Provisioner, key.namespace+"/"+key.name
		}
		if driver == "" {
			continue
		}
		if out[driver] == nil {
			out[driver] = map[string]bool{}
		}
		out[driver][handle] = true
	}
}

// assume decides a pod's unbound claims for the node it goes to, notes that, and returns what is to be done.
func (t *volumeTable) assume(d *volumeDemand, n *node) []VolumeStep {
	if d == nil || len(d.unbound) == 0 {
		return nil
	}
	steps, _ := d.choose(n)
	chosen := map[claimKey]VolumeStep{}
	for _, s := range steps {
		chosen[claimKey{s.Claim.Namespace, s.Claim.Name}] = s
	}
	for i := range d.unbound {
		u := &d.unbound[i]
		key := claimKey{u.claim.Namespace, u.claim.Name}
		a := t.assumed[key]
		if a == nil {
			a = &assumption{by: map[types.UID]bool{}}
			if v := chosen[key].Volume; v != nil {
				a.volume = v.Name
				t.reserved[v.Name] = key
			} else {
				a.node = n.name
			}
			t.assumed[key] = a
		}
		a.by[d.pod.UID] = true
	}
	return steps
}

// VolumesBound reports whether all claims of a pod that was decided on are bound, so that the pod can be bound to its node. An error
// says that this will not come about as decided.
func (c *Cluster) VolumesBound(pod *corev1.Pod, nodeName string) (bool, error) {
	i, ok := c.byName[nodeName]
	if !ok || !c.nodes[i].exists() {
		return false, fmt.Errorf("node %q not found", nodeName)
	}
	for _, key := range claimKeys(pod) {
		claim := c.volumes.claims[key]
		if claim == nil {
			return false, fmt.Errorf("persistentvolumeclaim %q not found", key.name)
		}
		if !isBound(claim) {
			return false, nil
		}
		v := c.volumes.volumes[claim.Spec.VolumeName]
		if v == nil || claim.Status.Phase != corev1.ClaimBound {
			return false, nil
		}
		if !v.reaches(c.nodes[i].obj) {
			return false, fmt.Errorf("pv %q node affinity doesn't match node %q", v.Name, nodeName)
		}
	}
	return true, nil
}

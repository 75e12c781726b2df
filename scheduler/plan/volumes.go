package plan

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// The annotations by which scheduler and volume binder talk to each other.
const (
	bindCompleted = "pv.kubernetes.io/bind-completed"
	// SelectedNode on a claim names the node for which its volume is to be made.
	SelectedNode = "volume.kubernetes.io/selected-node"
	// BoundByController on a volume says that no user chose its claim.
	BoundByController = "pv.kubernetes.io/bound-by-controller"
	// noProvisioner is the provisioner of classes whose volumes are made by hand.
	noProvisioner = "kubernetes.io/no-provisioner"
)

// claimKey names a PersistentVolumeClaim.
type claimKey struct{ namespace, name string }

// volumeTable is what is known of claims and volumes.
type volumeTable struct {
	claims  map[claimKey]*corev1.PersistentVolumeClaim
	volumes map[string]*knownVolume
	// free are the volumes that no claim has, by class.
	free    map[string]map[string]*knownVolume
	classes map[string]*storagev1.StorageClass
	// limits are how many volumes of a CSI driver may be attached to a node.
	limits map[string]map[string]int
	// users are the placed pods by the claims that they use.
	users map[claimKey]map[types.UID]*placed
	// assumed are unbound claims that placed pods are waiting for, reserved the free volumes among them.
	assumed  map[claimKey]*assumption
	reserved map[string]claimKey
}

// assumption is what was decided for a claim that is not bound yet.
type assumption struct {
	// node for which the volume is made; or volume, one that there is.
	node, volume string
	by           map[types.UID]bool
}

// knownVolume is a volume with its node affinity parsed.
type knownVolume struct {
	*corev1.PersistentVolume
	affinity *nodeaffinity.NodeSelector // nil if it can be used everywhere
	broken   bool                       // the affinity cannot be parsed: usable nowhere
}

func newVolumeTable() *volumeTable {
	return &volumeTable{
		claims: map[claimKey]*corev1.PersistentVolumeClaim{}, volumes: map[string]*knownVolume{}, free: map[string]map[string]*knownVolume{},
		classes: map[string]*storagev1.StorageClass{}, limits: map[string]map[string]int{}, users: map[claimKey]map[types.UID]*placed{},
		assumed: map[claimKey]*assumption{}, reserved: map[string]claimKey{},
	}
}

// SetClaim tells a claim's state. The object is kept and must not be modified afterwards.
func (c *Cluster) SetClaim(claim *corev1.PersistentVolumeClaim) {
	key := claimKey{claim.Namespace, claim.Name}
	c.volumes.claims[key] = claim
	if isBound(claim) {
		c.volumes.dropAssumption(key)
	}
}

// RemoveClaim tells that a claim is gone.
func (c *Cluster) RemoveClaim(namespace, name string) {
	delete(c.volumes.claims, claimKey{namespace, name})
	c.volumes.dropAssumption(claimKey{namespace, name})
}

// SetVolume tells a volume's state. The object is kept and must not be modified afterwards.
func (c *Cluster) SetVolume(v *corev1.PersistentVolume) {
	t := c.volumes
	t.takeOut(v.Name)
	k := &knownVolume{PersistentVolume: v}
	if v.Spec.NodeAffinity != nil && v.Spec.NodeAffinity.Required != nil {
		var err error
		k.affinity, err = nodeaffinity.NewNodeSelector(v.Spec.NodeAffinity.Required)
		k.broken = err != nil
	}
	t.volumes[v.Name] = k
	ref := v.Spec.ClaimRef
	if v.DeletionTimestamp == nil && (ref == nil && v.Status.Phase == corev1.VolumeAvailable || ref != nil && ref.UID == "") {
		class := volumeClass(v)
		if t.free[class] == nil {
			t.free[class] = map[string]*knownVolume{}
		}
		t.free[class][v.Name] = k
	}
}

// RemoveVolume tells that a volume is gone.
func (c *Cluster) RemoveVolume(name string) { c.volumes.takeOut(name) }

func (t *volumeTable) takeOut(name string) {
	old := t.volumes[name]
	if old == nil {
		return
	}
	class := volumeClass(old.PersistentVolume)
	if delete(t.free[class], name); len(t.free[class]) == 0 {
		delete(t.free, class)
	}
	delete(t.volumes, name)
}

// SetStorageClass tells a class; nil for one that is gone.
func (c *Cluster) SetStorageClass(name string, class *storagev1.StorageClass) {
	if class == nil {
		delete(c.volumes.classes, name)
		return
	}
	c.volumes.classes[name] = class
}

// SetAttachLimits tells how many volumes of each CSI driver may be attached to a node; nil for no limits.
func (c *Cluster) SetAttachLimits(node string, limits map[string]int) {
	if len(limits) == 0 {
		delete(c.volumes.limits, node)
		return
	}
	c.volumes.limits[node] = maps.Clone(limits)
}

// claimKeys lists the claims that a pod uses.
func claimKeys(pod *corev1.Pod) []claimKey {
	var keys []claimKey
	for i := range pod.Spec.Volumes {
		switch v := &pod.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			keys = append(keys, claimKey{pod.Namespace, v.PersistentVolumeClaim.ClaimName})
		case v.Ephemeral != nil:
			keys = append(keys, claimKey{pod.Namespace, pod.Name + "-" + v.Name})
		}
	}
	return keys
}

// podAdded and podRemoved keep the users.
func (t *volumeTable) podAdded(p *placed) {
	for _, key := range claimKeys(p.pod) {
		if t.users[key] == nil {
			t.users[key] = map[types.UID]*placed{}
		}
		t.users[key][p.pod.UID] = p
	}
}

func (t *volumeTable) podRemoved(p *placed) {
	for _, key := range claimKeys(p.pod) {
		if delete(t.users[key], p.pod.UID); len(t.users[key]) == 0 {
			delete(t.users, key)
		}
	}
}

// release forgets what was assumed for a pod's sake.
func (t *volumeTable) release(pod *corev1.Pod) {
	for _, key := range claimKeys(pod) {
		if a := t.assumed[key]; a != nil {
			if delete(a.by, pod.UID); len(a.by) == 0 {
				t.dropAssumption(key)
			}
		}
	}
}

func (t *volumeTable) dropAssumption(key claimKey) {
	if a := t.assumed[key]; a != nil {
		delete(t.reserved, a.volume)
		delete(t.assumed, key)
	}
}

// isBound reports whether a claim has been bound to its volume.
func isBound(c *corev1.PersistentVolumeClaim) bool {
	_, completed := c.Annotations[bindCompleted]
	return completed && c.Spec.VolumeName != ""
}

func claimClass(c *corev1.PersistentVolumeClaim) string {
	if class, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	if c.Spec.StorageClassName != nil {
		return *c.Spec.StorageClassName
	}
	return ""
}

func volumeClass(v *corev1.PersistentVolume) string {
	if class, ok := v.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	return v.Spec.StorageClassName
}

// reaches reports whether the volume can be used on a node.
func (v *knownVolume) reaches(n *corev1.Node) bool {
	return !v.broken && (v.affinity == nil || v.affinity.Match(n))
}

// zoneKeys are the labels by which a volume without node affinity may say where it is.
var zoneKeys = []string{corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion}

// inZone reports whether a node is in the zones and regions that a volume's labels name; several are joined by "__".
func inZone(v *corev1.PersistentVolume, n *corev1.Node) bool {
	for _, key := range zoneKeys {
		value, ok := v.Labels[key]
		if !ok {
			continue
		}
		if at, labelled := n.Labels[key]; !labelled || !slices.Contains(strings.Split(value, "__"), at) {
			return false
		}
	}
	return true
}

// suits reports whether a free volume can serve a claim, apart from where.
func suits(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim, selector labels.Selector) bool {
	have, want := v.Spec.Capacity[corev1.ResourceStorage], c.Spec.Resources.Requests[corev1.ResourceStorage]
	if have.Cmp(want) < 0 || modeOf(v.Spec.VolumeMode) != modeOf(c.Spec.VolumeMode) || textOf(v.Spec.VolumeAttributesClassName) != textOf(c.Spec.VolumeAttributesClassName) {
		return false
	}
	if ref := v.Spec.ClaimRef; ref != nil {
		return ref.Namespace == c.Namespace && ref.Name == c.Name
	}
	for _, m := range c.Spec.AccessModes {
		if !slices.Contains(v.Spec.AccessModes, m) {
			return false
		}
	}
	return selector.Matches(labels.Set(v.Labels))
}

func modeOf(m *corev1.PersistentVolumeMode) corev1.PersistentVolumeMode {
	if m == nil {
		return corev1.PersistentVolumeFilesystem
	}
	return *m
}

func textOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func selectorOfClaim(c *corev1.PersistentVolumeClaim) labels.Selector {
	if c.Spec.Selector == nil {
		return labels.Everything()
	}
	s, err := metav1.LabelSelectorAsSelector(c.Spec.Selector)
	if err != nil {
		return labels.Nothing()
	}
	return s
}

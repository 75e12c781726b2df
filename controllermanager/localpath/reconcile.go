// Package localpath provisions volumes that are directories on a node's own disk: the provisioner in the box, under the
// name bareboat.dev/local-path.
//
// The division of labour: the scheduler chooses a node for the first pod that uses a claim and says so in the claim's
// annotation; Provision makes a PersistentVolume of kind local that can be used on that node only; the node's kubelet makes
// the directory when the volume is first mounted. When the binder has released a volume whose reclaim policy is Delete,
// Reclaim deletes the PersistentVolume, which stays, being deleted, until the node's kubelet has removed the directory and taken
// Finalizer off. A directory is removed only because a volume that names it is being deleted, never because none does: so a
// control plane restored from an older backup costs no data.
//
// The size that is asked for is noted, not enforced: a directory shares its disk with others.
package localpath

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"bareboat.dev/controllermanager/owner"
	"bareboat.dev/controllermanager/persistentvolume"
	"bareboat.dev/controllermanager/plan"
)

const (
	// Provisioner is the name that classes ask for.
	Provisioner = "bareboat.dev/local-path"
	// ClassName is the class that every cluster begins with.
	ClassName = "local-path"
	// Root is where volumes' directories are on every node. The kubelet makes and removes directories nowhere else.
	Root = "/var/lib/bareboat/volumes"
	// Finalizer keeps a volume until its directory is gone; the kubelet takes it off.
	Finalizer = "bareboat.dev/local-path"
	// NodeLabel on a volume names its node. A kubelet watches the volumes of its own name.
	NodeLabel = "bareboat.dev/volume-node"
)

// Class returns the class that every cluster begins with: the default one, until an administrator marks another.
func Class() *storagev1.StorageClass {
	wait, reclaim, expand := storagev1.VolumeBindingWaitForFirstConsumer, corev1.PersistentVolumeReclaimDelete, true
	return &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: ClassName, Annotations: map[string]string{
			"storageclass.kubernetes.io/is-default-class": "true",
		}},
		Provisioner: Provisioner, VolumeBindingMode: &wait, ReclaimPolicy: &reclaim, AllowVolumeExpansion: &expand,
	}
}

// EnsureClass plans the class, if there is none of this provisioner. An administrator who wants none gives the controller
// manager --controllers=*,-local-path-provisioner.
func EnsureClass(classes []*storagev1.StorageClass) plan.Plan {
	var p plan.Plan
	taken := func(c *storagev1.StorageClass) bool { return c.Provisioner == Provisioner || c.Name == ClassName }
	if !slices.ContainsFunc(classes, taken) {
		p.Add(plan.Create(plan.StorageClasses, Class()))
	}
	return p
}

// ClaimInput is what a decision about a claim is made from.
type ClaimInput struct {
	Claim *corev1.PersistentVolumeClaim
	// Class of the claim, nil if there is none.
	Class *storagev1.StorageClass
	// Node is the one that the scheduler selected; nil if it selected none, or one that there is not.
	Node *corev1.Node
	// Volume is the one that the claim is bound to, or that was made for it; nil if there is none.
	Volume *corev1.PersistentVolume
}

// VolumeName is the name of the volume of a claim: made from the uid, so that nothing is made twice.
func VolumeName(c *corev1.PersistentVolumeClaim) string { return "pvc-" + string(c.UID) }

// Provision plans the volume of a claim.
func Provision(in ClaimInput) plan.Plan {
	var p plan.Plan
	c := in.Claim
	if c.Annotations[persistentvolume.Provisioner] != Provisioner || c.DeletionTimestamp != nil {
		return p
	}
	if in.Volume != nil || c.Spec.VolumeName != "" {
		expand(&p, in)
		return p
	}
	if in.Class == nil || in.Class.Provisioner != Provisioner {
		return p
	}
	selected := c.Annotations[persistentvolume.SelectedNode]
	if err := unsupported(in); err != nil {
		p.Event(c, corev1.EventTypeWarning, "ProvisioningFailed", "failed to provision volume with StorageClass %q: %v", in.Class.Name, err)
		return p
	}
	switch {
	case selected == "":
		p.Event(c, corev1.EventTypeWarning, "ProvisioningFailed", "failed to provision volume with StorageClass %q: a directory needs a node, which is selected only with volumeBindingMode WaitForFirstConsumer", in.Class.Name)
	case in.Node == nil:
		// The scheduler chooses again once its choice is gone.
		p.Event(c, corev1.EventTypeWarning, "ProvisioningFailed", "failed to get target node: node %q not found", selected)
		next := c.DeepCopy()
		delete(next.Annotations, persistentvolume.SelectedNode)
		p.Add(plan.Update(plan.PVCs, next))
	default:
		v := volume(in)
		p.Add(plan.Create(plan.PVs, v))
		p.Event(c, corev1.EventTypeNormal, "Provisioning", "External provisioner is provisioning volume for claim %q", c.Namespace+"/"+c.Name)
		p.EventOf(v, c, corev1.EventTypeNormal, "ProvisioningSucceeded", "Successfully provisioned volume %s", v.Name)
	}
	return p
}

// unsupported returns what of a claim a directory cannot do.
func unsupported(in ClaimInput) error {
	c := in.Claim
	if c.Spec.VolumeMode != nil && *c.Spec.VolumeMode == corev1.PersistentVolumeBlock {
		return fmt.Errorf("block volumes are not supported")
	}
	for _, m := range c.Spec.AccessModes {
		if m != corev1.ReadWriteOnce && m != corev1.ReadWriteOncePod {
			return fmt.Errorf("access mode %s is not supported: a directory is on one node", m)
		}
	}
	if c.Spec.Selector != nil {
		return fmt.Errorf("claim.Spec.Selector is not supported")
	}
	if c.Spec.DataSource != nil || c.Spec.DataSourceRef != nil {
		return fmt.Errorf("claim.Spec.DataSource is not supported")
	}
	if len(in.Class.Parameters) > 0 {
		return fmt.Errorf("class parameters are not supported")
	}
	if in.Node != nil && len(in.Node.Name) > validation.LabelValueMaxLength {
		return fmt.Errorf("the name of node %q is longer than a label may be", in.Node.Name)
	}
	return nil
}

func volume(in ClaimInput) *corev1.PersistentVolume {
	c := in.Claim
	name, mode, reclaim := VolumeName(c), corev1.PersistentVolumeFilesystem, corev1.PersistentVolumeReclaimDelete
	if in.Class.ReclaimPolicy != nil {
		reclaim = *in.Class.ReclaimPolicy
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{NodeLabel: in.Node.Name}, Finalizers: []string{Finalizer},
			Annotations: map[string]string{persistentvolume.ProvisionedBy: Provisioner},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: c.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes: c.Spec.AccessModes, ClaimRef: persistentvolume.ClaimRef(c), PersistentVolumeReclaimPolicy: reclaim,
			StorageClassName: in.Class.Name, VolumeMode: &mode,
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: Root + "/" + name}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{hostname(in.Node)}}},
			}}}},
		},
	}
}

func hostname(n *corev1.Node) string {
	if h := n.Labels[corev1.LabelHostname]; h != "" {
		return h
	}
	return n.Name
}

// expand notes the larger size that a bound claim asks for: first in the volume, then in the claim. There is nothing to do on
// the node.
func expand(p *plan.Plan, in ClaimInput) {
	c, v := in.Claim, in.Volume
	if v == nil || v.Annotations[persistentvolume.ProvisionedBy] != Provisioner || c.Status.Phase != corev1.ClaimBound || !persistentvolume.Names(v, c) {
		return
	}
	want, volume, have := c.Spec.Resources.Requests[corev1.ResourceStorage], v.Spec.Capacity[corev1.ResourceStorage], c.Status.Capacity[corev1.ResourceStorage]
	switch {
	case want.Cmp(volume) > 0:
		next := v.DeepCopy()
		next.Spec.Capacity[corev1.ResourceStorage] = want
		p.Add(plan.Update(plan.PVs, next))
	case want.Cmp(have) > 0:
		next := c.DeepCopy()
		next.Status.Capacity[corev1.ResourceStorage] = volume
		p.Add(plan.UpdateStatus(plan.PVCs, next))
		p.EventOf(next, c, corev1.EventTypeNormal, "VolumeResizeSuccessful", "Resize volume succeeded")
	}
}

// Reclaim plans the deletion of a volume that nobody has a right to any more. nodeGone says, by the API's word, that the volume's
// node is not part of the cluster any more: then there is no directory to wait for.
func Reclaim(v *corev1.PersistentVolume, nodeGone bool) plan.Plan {
	var p plan.Plan
	if v.Annotations[persistentvolume.ProvisionedBy] != Provisioner {
		return p
	}
	switch {
	case v.DeletionTimestamp == nil:
		if v.Status.Phase == corev1.VolumeReleased && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
			p.Add(plan.Delete(plan.PVs, v))
		}
	case slices.Contains(v.Finalizers, Finalizer) && (nodeGone || !ours(v)):
		keep := slices.DeleteFunc(slices.Clone(v.Finalizers), func(f string) bool { return f == Finalizer })
		p.Add(plan.MergePatch(plan.PVs, v, owner.MetaPatch(v, map[string]any{"finalizers": keep})))
	}
	return p
}

// ours reports whether the volume names a directory that a kubelet would remove.
func ours(v *corev1.PersistentVolume) bool {
	return v.Spec.Local != nil && v.Labels[NodeLabel] != "" && strings.TrimPrefix(v.Spec.Local.Path, Root+"/") == v.Name
}

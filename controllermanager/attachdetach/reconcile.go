// Package attachdetach asks for volumes of CSI drivers to be attached to the nodes where pods use them, and to be detached where none
// does any more.
//
// It asks by VolumeAttachments, which a driver's attacher carries out; the kubelet waits for its own. Only drivers whose CSIDriver
// says so are attached (spec.attachRequired, the default). A volume that one node at a time may use is asked for on a second
// node only when the first has let go.
//
// Reconcile is pure: one step of one PersistentVolume. A pod holds the attachment as long as it exists, finished or not: only when
// its kubelet has removed it are its volumes certainly unmounted, and to detach one that is mounted loses data. So that a pod
// was just bound is never missed, the shell asks the API itself before an attachment goes. A pod may be removed by force before its
// kubelet has unmounted anything: a volume that its node says is in use stays attached until the node says otherwise, has been
// unwell for ForceAfter, or is out of service.
package attachdetach

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/pods"
)

// Input is what a decision is made from.
type Input struct {
	Volume *corev1.PersistentVolume
	// Driver is the CSIDriver of the volume, nil if there is none.
	Driver *storagev1.CSIDriver
	// Pods are those that use the volume's claim.
	Pods []*corev1.Pod
	// Attachments are those of the volume.
	Attachments []*storagev1.VolumeAttachment
	// NodeGone reports whether a node is not part of the cluster any more.
	NodeGone func(name string) bool
	// Node returns a node as it was last seen, nil if it was not.
	Node func(name string) *corev1.Node
	// Unused is since when an attachment's volume has had no pod on its node.
	Unused func(a *storagev1.VolumeAttachment) time.Time
}

// ForceAfter is how long an unwell node may keep a volume that no pod uses there, upstream's.
const ForceAfter = 6 * time.Minute

// Name is that of the attachment of a volume to a node, as the kubelet looks it up.
func Name(handle, driver, node string) string {
	sum := sha256.Sum256([]byte(handle + driver + node))
	return "csi-" + hex.EncodeToString(sum[:])
}

// Reconcile plans the attachments of a volume.
func Reconcile(in Input, now time.Time) plan.Plan {
	var p plan.Plan
	v := in.Volume
	if v.Spec.CSI == nil {
		return p
	}
	users := map[string][]*corev1.Pod{}
	for _, pod := range in.Pods {
		if pod.Spec.NodeName != "" && !in.NodeGone(pod.Spec.NodeName) {
			users[pod.Spec.NodeName] = append(users[pod.Spec.NodeName], pod)
		}
	}
	attached := map[string]bool{}
	for _, a := range in.Attachments {
		attached[a.Spec.NodeName] = true
		if len(users[a.Spec.NodeName]) > 0 || a.DeletionTimestamp != nil {
			continue
		}
		switch until, held := in.held(a); {
		case !held || !until.IsZero() && !now.Before(until):
			p.Add(plan.Delete(plan.VolumeAttachments, a))
		case !until.IsZero():
			p.LookAgain(now, until)
		}
	}
	if in.Driver == nil || in.Driver.Spec.AttachRequired != nil && !*in.Driver.Spec.AttachRequired {
		return p
	}
	for _, node := range slices.Sorted(maps.Keys(users)) {
		waiting := slices.DeleteFunc(slices.Clone(users[node]), func(pod *corev1.Pod) bool { return !pods.Active(pod) })
		if attached[node] || len(waiting) == 0 {
			continue
		}
		if exclusive(v) && len(attached) > 0 {
			for _, pod := range waiting {
				p.Event(pod, corev1.EventTypeWarning, "FailedAttachVolume", "Multi-Attach error for volume %q Volume is already %s", v.Name, holders(users, node))
			}
			continue
		}
		attached[node] = true
		name := v.Name
		p.Add(plan.Create(plan.VolumeAttachments, &storagev1.VolumeAttachment{
			ObjectMeta: metav1.ObjectMeta{Name: Name(v.Spec.CSI.VolumeHandle, v.Spec.CSI.Driver, node)},
			Spec: storagev1.VolumeAttachmentSpec{
				Attacher: v.Spec.CSI.Driver, NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &name},
			},
		}))
	}
	return p
}

// held reports whether a node may still have the volume mounted, and until when that counts: zero is until the node says that it has
// not.
func (in Input) held(a *storagev1.VolumeAttachment) (until time.Time, held bool) {
	n := in.Node(a.Spec.NodeName)
	switch {
	case n == nil || !slices.Contains(n.Status.VolumesInUse, inUseName(in.Volume)):
		return time.Time{}, false
	case slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService }):
		return time.Time{}, false
	case isReady(n):
		return time.Time{}, true
	}
	return in.Unused(a).Add(ForceAfter), true
}

func isReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// inUseName is what a volume is called in a node's status.
func inUseName(v *corev1.PersistentVolume) corev1.UniqueVolumeName {
	return corev1.UniqueVolumeName("kubernetes.io/csi/" + v.Spec.CSI.Driver + "^" + v.Spec.CSI.VolumeHandle)
}

// exclusive reports whether one node at a time may use the volume.
func exclusive(v *corev1.PersistentVolume) bool {
	return !slices.Contains(v.Spec.AccessModes, corev1.ReadWriteMany) && !slices.Contains(v.Spec.AccessModes, corev1.ReadOnlyMany)
}

// holders says who uses a volume on other nodes.
func holders(users map[string][]*corev1.Pod, than string) string {
	var names []string
	for node, list := range users {
		for _, pod := range list {
			if node != than {
				names = append(names, pod.Name)
			}
		}
	}
	if len(names) == 0 {
		return "exclusively attached to one node and can't be attached to another"
	}
	slices.Sort(names)
	return "used by pod(s) " + strings.Join(names, ", ")
}

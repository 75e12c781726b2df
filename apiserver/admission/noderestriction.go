package admission

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/apiserver/authn"
	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/registry"
)

// NodeRestriction confines what a kubelet writes: its own Node, without the labels and taints that steer workloads to it,
// mirror pods of its own, and the status and deletion of pods that it runs.
//
// The authorizer says which audiences a node's tokens may have beyond those that its pods ask for.
func NodeRestriction(reader Reader, authorizer authz.Authorizer) Plugin {
	return Plugin{Name: "NodeRestriction", Mutate: func(ctx context.Context, a *Attributes) error {
		node, ok := authz.NodeName(a.User)
		if !ok {
			return nil
		}
		r := nodeRestriction{reader, authorizer, node}
		switch a.Resource.Kind.Group + "/" + a.Resource.Plural {
		case "/pods":
			return r.pod(ctx, a)
		case "/nodes":
			return r.node(a)
		case "/persistentvolumeclaims":
			return r.claimStatus(a)
		case "/persistentvolumes":
			return r.volume(a)
		case "/serviceaccounts":
			return r.token(ctx, a)
		case "coordination.k8s.io/leases":
			return r.lease(a)
		case "certificates.k8s.io/podcertificaterequests":
			return r.podCertificate(ctx, a)
		case "certificates.k8s.io/certificatesigningrequests":
			return r.certificate(a)
		case "storage.k8s.io/csinodes":
			return r.csiNode(a)
		case "resource.k8s.io/resourceslices":
			return r.slice(a)
		}
		return nil
	}}
}

type nodeRestriction struct {
	reader     Reader
	authorizer authz.Authorizer
	name       string
}

func (r nodeRestriction) forbid(a *Attributes, format string, args ...any) error {
	return apierrors.NewForbidden(resource(a), a.Name, fmt.Errorf(format, args...))
}

func (r nodeRestriction) pod(ctx context.Context, a *Attributes) error {
	switch {
	case a.Subresource == "status":
		return r.podStatus(a)
	case a.Subresource == "eviction":
		if old, ok := a.Old.(*corev1.Pod); ok && old.Spec.NodeName != r.name {
			return r.forbid(a, "node %q can only evict pods with spec.nodeName set to itself", r.name)
		}
		return nil
	case a.Subresource != "":
		return r.forbid(a, "unexpected pod subresource %q, only 'status' and 'eviction' are allowed", a.Subresource)
	case a.Operation == Create:
		return r.mirrorPod(ctx, a, a.Object.(*corev1.Pod))
	case a.Operation == Delete:
		if a.Old.(*corev1.Pod).Spec.NodeName != r.name {
			return r.forbid(a, "node %q can only delete pods with spec.nodeName set to itself", r.name)
		}
		return nil
	}
	return r.forbid(a, "unexpected operation %q, node %q can only create and delete mirror pods", a.Operation, r.name)
}

func (r nodeRestriction) podStatus(a *Attributes) error {
	pod, old := a.Object.(*corev1.Pod), a.Old.(*corev1.Pod)
	if old.Spec.NodeName != r.name {
		return r.forbid(a, "node %q can only update pod status for pods with spec.nodeName set to itself", r.name)
	}
	if !maps.Equal(pod.Labels, old.Labels) {
		return r.forbid(a, "node %q cannot update labels through pod status", r.name)
	}
	// By these a node may read claims.
	if !equality.Semantic.DeepEqual(pod.Status.ResourceClaimStatuses, old.Status.ResourceClaimStatuses) {
		return r.forbid(a, "node %q cannot update resource claim statuses", r.name)
	}
	if !equality.Semantic.DeepEqual(pod.Status.ExtendedResourceClaimStatus, old.Status.ExtendedResourceClaimStatus) {
		return r.forbid(a, "node %q cannot update extended resource claim status", r.name)
	}
	return nil
}

// mirrorPod: a node creates pods only to show its static pods, and these may reach for nothing in the API.
func (r nodeRestriction) mirrorPod(ctx context.Context, a *Attributes, pod *corev1.Pod) error {
	switch {
	case !isMirror(pod):
		return r.forbid(a, "pod does not have %q annotation, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, r.name)
	case pod.Spec.NodeName != r.name:
		return r.forbid(a, "node %q can only create pods with spec.nodeName set to itself", r.name)
	case len(pod.OwnerReferences) > 1:
		return r.forbid(a, "node %q can only create pods with a single owner reference set to itself", r.name)
	case len(pod.OwnerReferences) == 0:
		return r.forbid(a, "node %q can only create pods with an owner reference set to itself", r.name)
	}
	if err := r.owner(ctx, a, &pod.OwnerReferences[0]); err != nil {
		return err
	}
	if pod.Spec.ServiceAccountName != "" {
		return r.forbid(a, "node %q can not create pods that reference a service account", r.name)
	}
	for _, ref := range PodReferences(pod) {
		return r.forbid(a, "node %q can not create pods that reference %s", r.name, ref.Resource)
	}
	for i := range pod.Spec.Volumes {
		if p := pod.Spec.Volumes[i].Projected; p != nil && slices.ContainsFunc(p.Sources, func(s corev1.VolumeProjection) bool { return s.ClusterTrustBundle != nil }) {
			return r.forbid(a, "node %q can not create pods that reference clustertrustbundles", r.name)
		}
	}
	return nil
}

// owner: a mirror pod is the node's, which goes with it.
func (r nodeRestriction) owner(ctx context.Context, a *Attributes, o *metav1.OwnerReference) error {
	switch {
	case o.APIVersion != "v1" || o.Kind != "Node" || o.Name != r.name:
		return r.forbid(a, "node %q can only create pods with an owner reference set to itself", r.name)
	case o.Controller == nil || !*o.Controller:
		return r.forbid(a, "node %q can only create pods with a controller owner reference set to itself", r.name)
	case o.BlockOwnerDeletion != nil && *o.BlockOwnerDeletion:
		return r.forbid(a, "node %q must not set blockOwnerDeletion on an owner reference", r.name)
	}
	node, ok, err := r.reader.Object(ctx, "", "nodes", "", r.name, true)
	switch {
	case err != nil:
		return err
	case !ok:
		return apierrors.NewNotFound(corev1.Resource("nodes"), r.name)
	case o.UID != node.GetUID():
		return r.forbid(a, "node %s UID mismatch: expected %s got %s", r.name, o.UID, node.GetUID())
	}
	return nil
}

func (r nodeRestriction) node(a *Attributes) error {
	name := a.Name
	if a.Operation == Create {
		name = a.Object.GetName()
	}
	if name != r.name {
		return r.forbid(a, "node %q is not allowed to modify node %q", r.name, name)
	}
	if a.Operation == Delete {
		return nil
	}
	n := a.Object.(*corev1.Node)
	old, _ := a.Old.(*corev1.Node)
	if bad := restrictedLabels(n, old); len(bad) > 0 {
		return r.forbid(a, "is not allowed to modify labels: %s", strings.Join(bad, ", "))
	}
	if old == nil {
		return nil
	}
	if !equality.Semantic.DeepEqual(n.Spec.Taints, old.Spec.Taints) {
		return r.forbid(a, "node %q is not allowed to modify taints", r.name)
	}
	// A kubelet may register with these; later they are for the controllers that give out addresses and know the machine.
	if n.Spec.PodCIDR != old.Spec.PodCIDR || !slices.Equal(n.Spec.PodCIDRs, old.Spec.PodCIDRs) {
		return r.forbid(a, "node %q is not allowed to modify pod CIDRs", r.name)
	}
	if n.Spec.ProviderID != old.Spec.ProviderID {
		return r.forbid(a, "node %q is not allowed to modify providerID", r.name)
	}
	if !equality.Semantic.DeepEqual(n.OwnerReferences, old.OwnerReferences) {
		return r.forbid(a, "node %q is not allowed to modify owner references", r.name)
	}
	return nil
}

// allowedLabels are those of the kubernetes.io domains that a kubelet sets on its own Node.
func allowedLabel(key string) bool {
	switch key {
	case corev1.LabelHostname, corev1.LabelArchStable, corev1.LabelOSStable, corev1.LabelInstanceTypeStable, corev1.LabelTopologyRegion,
		corev1.LabelTopologyZone, corev1.LabelWindowsBuild, "beta.kubernetes.io/arch", "beta.kubernetes.io/os", "beta.kubernetes.io/instance-type",
		"failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region", "kubernetes.io/instance-type":
		return true
	}
	domain, _, ok := strings.Cut(key, "/")
	if !ok {
		return true
	}
	for _, d := range []string{"kubelet.kubernetes.io", "node.kubernetes.io"} {
		if domain == d || strings.HasSuffix(domain, "."+d) {
			return true
		}
	}
	if domain == "node-restriction.kubernetes.io" || strings.HasSuffix(domain, ".node-restriction.kubernetes.io") {
		return false
	}
	for _, d := range []string{"kubernetes.io", "k8s.io"} {
		if domain == d || strings.HasSuffix(domain, "."+d) {
			return false
		}
	}
	return true
}

// restrictedLabels returns the labels that changed and that a node may not change.
func restrictedLabels(n, old *corev1.Node) []string {
	var before map[string]string
	if old != nil {
		before = old.Labels
	}
	var bad []string
	for k, v := range n.Labels {
		if was, ok := before[k]; (!ok || was != v) && !allowedLabel(k) {
			bad = append(bad, k)
		}
	}
	for k := range before {
		if _, ok := n.Labels[k]; !ok && !allowedLabel(k) {
			bad = append(bad, k)
		}
	}
	slices.Sort(bad)
	return bad
}

// slice: of devices a node's drivers publish its own.
func (r nodeRestriction) slice(a *Attributes) error {
	of := func(obj registry.Object) bool {
		s, ok := obj.(*resourcev1.ResourceSlice)
		return ok && s.Spec.NodeName != nil && *s.Spec.NodeName == r.name
	}
	switch {
	case a.Operation == Create && !of(a.Object):
		return r.forbid(a, "can only create ResourceSlice with the same NodeName as the requesting node")
	case a.Operation == Delete && !of(a.Old):
		return r.forbid(a, "can only delete ResourceSlice with the same NodeName as the requesting node")
	}
	return nil // an update cannot change whose it is
}

// certificate: what a kubelet presents as a node's is asked for by that node.
func (r nodeRestriction) certificate(a *Attributes) error {
	csr, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
	if a.Operation != Create || !ok || csr.Spec.SignerName != certificatesv1.KubeletServingSignerName && csr.Spec.SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName {
		return nil
	}
	request, err := parseRequest(csr.Spec.Request)
	if err != nil {
		return r.forbid(a, "unable to parse csr: %w", err)
	}
	if want := authn.NodeUserPrefix + r.name; request.Subject.CommonName != want {
		return r.forbid(a, "can only create a node CSR with CN=%s", want)
	}
	return nil
}

// claimStatus: a node says how large a claim's volume has become, and nothing else.
func (r nodeRestriction) claimStatus(a *Attributes) error {
	if a.Subresource != "status" {
		return r.forbid(a, "may only update PVC status")
	}
	next, ok := a.Object.(*corev1.PersistentVolumeClaim)
	old, okOld := a.Old.(*corev1.PersistentVolumeClaim)
	if a.Operation != Update || !ok || !okOld {
		return r.forbid(a, "unexpected operation %q", a.Operation)
	}
	rest := func(c *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
		c = c.DeepCopy()
		c.ResourceVersion, c.ManagedFields = "", nil
		c.Status.Capacity, c.Status.Conditions, c.Status.AllocatedResourceStatuses, c.Status.AllocatedResources = nil, nil, nil, nil
		return c
	}
	if !equality.Semantic.DeepEqual(rest(next), rest(old)) {
		return r.forbid(a, "node %q is not allowed to update fields other than status.quantity and status.conditions", r.name)
	}
	return nil
}

// csiNode: what volume drivers a node has, and how many volumes they may have on it, is said by that node.
func (r nodeRestriction) csiNode(a *Attributes) error {
	name := a.Name
	if a.Object != nil {
		name = a.Object.GetName()
	}
	if name != r.name {
		return r.forbid(a, "can only access CSINode with the same name as the requesting node")
	}
	return nil
}

// podCertificate: a node asks for certificates for pods that run on it, as what they are, and for no others (KEP-4317).
func (r nodeRestriction) podCertificate(ctx context.Context, a *Attributes) error {
	if a.Operation != Create || a.Subresource != "" {
		return r.forbid(a, "unexpected operation %q, node %q can only create pod certificate requests", a.Operation, r.name)
	}
	s := &a.Object.(*certificatesv1.PodCertificateRequest).Spec
	if string(s.NodeName) != r.name {
		return r.forbid(a, "spec.nodeName=%q, which is not the requesting node %q", s.NodeName, r.name)
	}
	find := func(resource, namespace, name string, uid types.UID) (registry.Object, error) {
		obj, ok, err := r.reader.Object(ctx, "", resource, namespace, name, false)
		if err == nil && (!ok || obj.GetUID() != uid) { // the cache may be behind
			obj, ok, err = r.reader.Object(ctx, "", resource, namespace, name, true)
		}
		switch {
		case err != nil:
			return nil, err
		case !ok:
			return nil, r.forbid(a, "%s %q was not found", resource, name)
		case obj.GetUID() != uid:
			return nil, r.forbid(a, "the UID of %s %q (%s) does not match the UID in record (%s)", resource, name, uid, obj.GetUID())
		}
		return obj, nil
	}
	obj, err := find("pods", a.Namespace, s.PodName, s.PodUID)
	if err != nil {
		return err
	}
	pod := obj.(*corev1.Pod)
	switch {
	case pod.Spec.NodeName != r.name:
		return r.forbid(a, "pod %q is not running on node %q", s.PodName, r.name)
	case isMirror(pod):
		return r.forbid(a, "pod %q is a mirror pod", s.PodName)
	case pod.Spec.ServiceAccountName != s.ServiceAccountName:
		return r.forbid(a, "pod %q is not running as service account %q", s.PodName, s.ServiceAccountName)
	}
	if _, err := find("serviceaccounts", a.Namespace, s.ServiceAccountName, s.ServiceAccountUID); err != nil {
		return err
	}
	_, err = find("nodes", "", r.name, s.NodeUID)
	return err
}

// localPathFinalizer keeps a volume of the local-path provisioner until its node has removed the directory.
const localPathFinalizer = "bareboat.dev/local-path"

// volume: of a PersistentVolume that is a directory of its own disk and is being deleted, a node takes the one finalizer off that
// waits for it.
func (r nodeRestriction) volume(a *Attributes) error {
	old, isVolume := a.Old.(*corev1.PersistentVolume)
	if a.Operation != Update || a.Subresource != "" || !isVolume {
		return r.forbid(a, "unexpected operation %q, node %q can only update its own volumes", a.Operation, r.name)
	}
	if old.Labels[authz.VolumeNodeLabel] != r.name || old.DeletionTimestamp == nil {
		return r.forbid(a, "node %q can only update volumes that are being deleted and have label %s set to itself", r.name, authz.VolumeNodeLabel)
	}
	may, does := old.DeepCopy(), a.Object.(*corev1.PersistentVolume).DeepCopy()
	may.Finalizers = slices.DeleteFunc(may.Finalizers, func(f string) bool { return f == localPathFinalizer })
	may.ManagedFields, does.ManagedFields = nil, nil
	if !equality.Semantic.DeepEqual(may, does) {
		return r.forbid(a, "node %q can only remove finalizer %s", r.name, localPathFinalizer)
	}
	return nil
}

func (r nodeRestriction) lease(a *Attributes) error {
	if a.Namespace != corev1.NamespaceNodeLease {
		return r.forbid(a, "can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	}
	name := a.Name
	if l, ok := a.Object.(*coordinationv1.Lease); ok && a.Operation == Create {
		name = l.Name
	}
	if name != r.name {
		return r.forbid(a, "can only access node lease with the same name as the requesting node")
	}
	return nil
}

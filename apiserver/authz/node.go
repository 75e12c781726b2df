package authz

import (
	"context"
	"fmt"
	"strings"

	"bareboat.dev/apiserver/authn"
)

// Graph tells which objects belong to a node because one of its pods uses them.
type Graph interface {
	// NodeUses reports whether a pod bound to the node refers to the object. Resource is one of "pods", "secrets",
	// "configmaps", "serviceaccounts", "persistentvolumeclaims", "resourceclaims"; or "resourceslices", whose devices are the node's.
	NodeUses(ctx context.Context, node, resource, namespace, name string) (bool, error)
}

// Node is the authorizer for kubelets (users system:node:<name> in group system:nodes): a node reads and writes what is
// its own and what its pods use, and nothing else. NodeRestriction, an admission plugin, looks at the contents.
type Node struct{ Graph Graph }

// NodeName returns the node that an identity is, if it is one.
func NodeName(id *authn.Identity) (string, bool) {
	name, ok := strings.CutPrefix(id.Name, authn.NodeUserPrefix)
	return name, ok && name != "" && id.In(authn.Nodes)
}

// Authorize implements Authorizer.
func (n *Node) Authorize(ctx context.Context, a *Attributes) (Decision, string, error) {
	if !a.User.In(authn.Nodes) {
		return NoOpinion, "", nil
	}
	node, ok := NodeName(a.User)
	if !ok {
		return NoOpinion, fmt.Sprintf("unknown node for user %q", a.User.Name), nil
	}
	switch a.Group + "/" + a.Resource {
	case "/secrets", "/configmaps":
		return n.used(ctx, node, a)
	case "/persistentvolumeclaims":
		if a.Subresource == "status" && oneOf(a.Verb, "get", "update", "patch") || a.Subresource == "" && a.Verb == "get" {
			return n.uses(ctx, node, a)
		}
	case "/persistentvolumes":
		return volumes(node, a)
	case "/serviceaccounts":
		if a.Subresource == "token" && a.Verb == "create" || a.Subresource == "" && a.Verb == "get" {
			return n.uses(ctx, node, a)
		}
		return NoOpinion, "can only get individual service accounts and create tokens for them", nil
	case "/pods":
		return n.pods(ctx, node, a)
	case "/nodes":
		return nodes(node, a)
	case "coordination.k8s.io/leases":
		return allowIf(a.Namespace == "kube-node-lease" && a.Subresource == "" && oneOf(a.Verb, "get", "create", "update", "patch", "delete") &&
			(a.Name == node || a.Name == "" && a.Verb == "create"), "can only access node lease with the same name as the requesting node")
	case "/services":
		return allowIf(a.Subresource == "" && oneOf(a.Verb, "get", "list", "watch"), "")
	case "/events", "events.k8s.io/events":
		return allowIf(oneOf(a.Verb, "create", "update", "patch"), "")
	case "resource.k8s.io/resourceclaims":
		if a.Verb != "get" || a.Subresource != "" {
			return NoOpinion, "can only get individual resources of this type", nil
		}
		return n.uses(ctx, node, a)
	case "resource.k8s.io/resourceslices":
		return n.slices(ctx, node, a)
	case "storage.k8s.io/csinodes":
		return allowIf(oneOf(a.Verb, "get", "create", "update", "patch", "delete") && (a.Name == node || a.Verb == "create"), "can only access CSINode with the same name as the requesting node")
	case "storage.k8s.io/volumeattachments":
		return allowIf(a.Verb == "get" && a.Subresource == "", "can only get individual resources of this type")
	case "node.k8s.io/runtimeclasses", "storage.k8s.io/csidrivers", "networking.k8s.io/networkpolicies":
		return allowIf(a.Subresource == "" && oneOf(a.Verb, "get", "list", "watch"), "")
	case "certificates.k8s.io/certificatesigningrequests":
		return allowIf(oneOf(a.Verb, "create", "get", "list", "watch") && a.Subresource == "", "")
	case "certificates.k8s.io/podcertificaterequests":
		return podCertificateRequests(node, a)
	case "certificates.k8s.io/clustertrustbundles":
		return allowIf(a.Subresource == "" && oneOf(a.Verb, "get", "list", "watch"), "")
	case "authentication.k8s.io/tokenreviews", "authorization.k8s.io/subjectaccessreviews", "authorization.k8s.io/localsubjectaccessreviews":
		return allowIf(a.Verb == "create", "")
	}
	return NoOpinion, "", nil
}

// pods: a node lists and watches only its own, changes only their status, and may delete and evict them.
func (n *Node) pods(ctx context.Context, node string, a *Attributes) (Decision, string, error) {
	switch a.Subresource {
	case "":
		switch a.Verb {
		case "list", "watch":
			return allowIf(a.Fields["spec.nodeName"] == node, "can only list/watch pods with spec.nodeName field selector")
		case "get":
			return n.uses(ctx, node, a)
		case "create", "delete":
			return Allow, "", nil // mirror pods; NodeRestriction looks whose they are
		}
	case "status":
		return allowIf(oneOf(a.Verb, "get", "update", "patch"), "")
	case "eviction":
		return allowIf(a.Verb == "create", "")
	}
	return NoOpinion, "", nil
}

// podCertificateRequests: a node asks for its pods, which NodeRestriction checks, and follows the answers.
func podCertificateRequests(node string, a *Attributes) (Decision, string, error) {
	switch {
	case a.Subresource != "":
		return NoOpinion, "cannot access subresources of podcertificaterequests", nil
	case a.Verb == "create":
		return Allow, "", nil
	case oneOf(a.Verb, "list", "watch"):
		return allowIf(a.Fields["spec.nodeName"] == node, "can only list/watch podcertificaterequests with spec.nodeName field selector")
	}
	return NoOpinion, "can only create, list and watch podcertificaterequests", nil
}

func nodes(node string, a *Attributes) (Decision, string, error) {
	switch a.Subresource {
	case "":
		switch a.Verb {
		case "create":
			return allowIf(a.Name == "" || a.Name == node, "can only create own Node object")
		case "get":
			return allowIf(a.Name == node, fmt.Sprintf("node %q cannot read %q, only its own Node object", node, a.Name))
		case "list", "watch":
			// The built-in pod network needs every node's pod ranges and addresses. Kubernetes grants the same to kube-proxy
			// and to network add-ons, which run on every node with that right.
			return Allow, "", nil
		case "update", "patch":
			return allowIf(a.Name == node, fmt.Sprintf("node %q cannot modify node %q", node, a.Name))
		}
	case "status":
		return allowIf(a.Name == node && oneOf(a.Verb, "get", "update", "patch"), fmt.Sprintf("node %q cannot modify node %q", node, a.Name))
	}
	return NoOpinion, "", nil
}

// slices: a node reads and removes the slices of its own devices, which drivers that have gone leave behind.
func (n *Node) slices(ctx context.Context, node string, a *Attributes) (Decision, string, error) {
	switch {
	case a.Subresource != "":
		return NoOpinion, "cannot authorize ResourceSlice subresources", nil
	case oneOf(a.Verb, "list", "watch", "deletecollection"):
		return allowIf(a.Fields["spec.nodeName"] == node, "can only list/watch/deletecollection resourceslices with nodeName field selector")
	case oneOf(a.Verb, "get", "delete"):
		return n.uses(ctx, node, a)
	}
	return NoOpinion, "", nil
}

// VolumeNodeLabel on a PersistentVolume names the node whose disk it is a directory of. The node watches those volumes, to remove
// the directory when its time has come and to take its finalizer off; NodeRestriction looks at what it writes.
const VolumeNodeLabel = "bareboat.dev/volume-node"

func volumes(node string, a *Attributes) (Decision, string, error) {
	switch {
	case a.Subresource != "":
		return NoOpinion, "", nil
	case oneOf(a.Verb, "get", "patch"):
		return Allow, "", nil
	case oneOf(a.Verb, "list", "watch"):
		return allowIf(a.Labels[VolumeNodeLabel] == node, fmt.Sprintf("can only list/watch persistentvolumes with label selector %s=%s", VolumeNodeLabel, node))
	}
	return NoOpinion, "", nil
}

// used allows reading single objects that the node's pods refer to; lists and watches must name one.
func (n *Node) used(ctx context.Context, node string, a *Attributes) (Decision, string, error) {
	if a.Subresource != "" {
		return NoOpinion, "cannot get subresource", nil
	}
	if !oneOf(a.Verb, "get", "list", "watch") {
		return NoOpinion, "can only read resources of this type", nil
	}
	return n.uses(ctx, node, a)
}

func (n *Node) uses(ctx context.Context, node string, a *Attributes) (Decision, string, error) {
	name := a.Name
	if name == "" {
		name = a.Fields["metadata.name"]
	}
	if name == "" {
		return NoOpinion, "No Object name found", nil
	}
	ok, err := n.Graph.NodeUses(ctx, node, a.Resource, a.Namespace, name)
	if err != nil {
		return NoOpinion, "", err
	}
	return allowIf(ok, fmt.Sprintf("no relationship found between node '%s' and this object", node))
}

func allowIf(ok bool, reason string) (Decision, string, error) {
	if ok {
		return Allow, "", nil
	}
	return NoOpinion, reason, nil
}

func oneOf(s string, list ...string) bool { return contains(list, s) }

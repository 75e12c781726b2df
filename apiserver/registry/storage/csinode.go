package storage

import (
	"fmt"

	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

func csiNodes() *registry.Resource {
	return &registry.Resource{
		Kind:   storagev1.SchemeGroupVersion.WithKind("CSINode"),
		Plural: "csinodes", Singular: "csinode",
		KeyPrefix: "/registry/csinodes/",
		New:       func() registry.Object { return &storagev1.CSINode{} },
		NewList:   func() runtime.Object { return &storagev1.CSINodeList{} },
		Strategy: registry.Strategy{
			PrepareCreate:  registry.On(func(n *storagev1.CSINode) { n.Status = storagev1.CSINodeStatus{} }),
			PrepareUpdate:  registry.OnChange(func(n, old *storagev1.CSINode) { n.Status = old.Status }),
			Validate:       registry.Checks(checkCSINode),
			ValidateUpdate: registry.ChecksChange(checkCSINodeUpdate),
			ValidateName:   apivalidation.NameIsDNSSubdomain,
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Number("Drivers", "Drivers indicates the number of CSI drivers registered on the node", func(n *storagev1.CSINode) int64 { return int64(len(n.Spec.Drivers)) }),
			registry.AgeColumn(),
		},
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(takeCSINodeStatus, nil),
		},
	}
}

// maxNodeID is the CSI specification's bound of a node's ID.
const maxNodeID = 256

func checkCSINode(e *check.Errors, n *storagev1.CSINode) {
	at, names := field.NewPath("spec", "drivers"), map[string]bool{}
	for i := range n.Spec.Drivers {
		d, here := &n.Spec.Drivers[i], at.Index(i)
		checkDriverName(e, d.Name, here.Child("name"))
		e.Present(here.Child("nodeID"), d.NodeID)
		if len(d.NodeID) > maxNodeID {
			e.Invalid(here.Child("nodeID"), d.NodeID, fmt.Sprintf("must be %d characters or less", maxNodeID))
		}
		if d.Allocatable != nil && d.Allocatable.Count != nil {
			e.NonNegative(here.Child("allocatable", "count"), int64(*d.Allocatable.Count))
		}
		if names[d.Name] {
			e.Duplicate(here.Child("name"), d.Name)
		}
		names[d.Name] = true
		keys := map[string]bool{}
		for _, key := range d.TopologyKeys {
			e.Present(here, key)
			if keys[key] {
				e.Duplicate(here, key)
			}
			keys[key] = true
			e.QualifiedName(here, key)
		}
	}
}

// checkCSINodeUpdate: of a driver that stays, only how many volumes it can have may change.
func checkCSINodeUpdate(e *check.Errors, n, old *storagev1.CSINode) {
	checkCSINode(e, n)
	for _, was := range old.Spec.Drivers {
		for _, is := range n.Spec.Drivers {
			if is.Name == was.Name {
				is.Allocatable, was.Allocatable = nil, nil
				e.Immutable(field.NewPath("spec", "drivers"), is, was)
			}
		}
	}
}

// takeCSINodeStatus leaves out what the drivers' health is, whose feature gate (CSIVolumeHealth) is off by default in Kubernetes 1.37.
func takeCSINodeStatus(n, body *storagev1.CSINode) {
	n.Status = body.Status
	n.Status.StorageHealth = nil
}

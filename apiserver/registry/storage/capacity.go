package storage

import (
	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

func capacities() *registry.Resource {
	type capacity = *storagev1.CSIStorageCapacity
	return &registry.Resource{
		Kind:   storagev1.SchemeGroupVersion.WithKind("CSIStorageCapacity"),
		Plural: "csistoragecapacities", Singular: "csistoragecapacity",
		Namespaced: true, KeyPrefix: "/registry/csistoragecapacities/",
		New:     func() registry.Object { return &storagev1.CSIStorageCapacity{} },
		NewList: func() runtime.Object { return &storagev1.CSIStorageCapacityList{} },
		Strategy: registry.Strategy{
			Validate: registry.Checks(checkStorageCapacity),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, c, old capacity) {
				checkStorageCapacity(e, c)
				e.Immutable(field.NewPath("nodeTopology"), c.NodeTopology, old.NodeTopology)
				e.Immutable(field.NewPath("storageClassName"), c.StorageClassName, old.StorageClassName)
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,
		},
		Columns: []registry.Column{registry.NameColumn(), registry.CreatedColumn()},
	}
}

func checkStorageCapacity(e *check.Errors, c *storagev1.CSIStorageCapacity) {
	if c.NodeTopology != nil {
		e.Selector(field.NewPath("nodeTopology"), c.NodeTopology)
	}
	e.Name(field.NewPath("storageClassName"), c.StorageClassName, apivalidation.NameIsDNSSubdomain)
	if c.Capacity != nil {
		e.NonNegativeQuantity(field.NewPath("capacity"), *c.Capacity)
	}
}

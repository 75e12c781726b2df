package storage

import (
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

// isDefaultAttributesClass is the annotation that marks the class of claims that name none.
const isDefaultAttributesClass = "volumeattributesclass.alpha.kubernetes.io/is-default-class"

func attributesClasses() *registry.Resource {
	type class = *storagev1.VolumeAttributesClass
	name := registry.Text("Name", "", func(c class) string {
		if c.Annotations[isDefaultAttributesClass] == "true" {
			return c.Name + " (default)"
		}
		return c.Name
	})
	name.TableColumnDefinition = registry.NameColumn().TableColumnDefinition
	return &registry.Resource{
		Kind:   storagev1.SchemeGroupVersion.WithKind("VolumeAttributesClass"),
		Plural: "volumeattributesclasses", Singular: "volumeattributesclass",
		ShortNames: []string{"vac"},
		KeyPrefix:  "/registry/volumeattributesclasses/",
		New:        func() registry.Object { return &storagev1.VolumeAttributesClass{} },
		NewList:    func() runtime.Object { return &storagev1.VolumeAttributesClassList{} },
		Strategy: registry.Strategy{
			Validate: registry.Checks(checkAttributes),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, c, old class) {
				checkAttributes(e, c)
				e.Frozen(field.NewPath("driverName"), c.DriverName, old.DriverName, "updates to driverName are forbidden.")
				e.Frozen(field.NewPath("parameters"), c.Parameters, old.Parameters, "updates to parameters are forbidden.")
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,

			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{
			name,
			registry.Text("DriverName", storagev1.VolumeAttributesClass{}.SwaggerDoc()["driverName"], func(c class) string { return c.DriverName }),
			registry.AgeColumn(),
		},
	}
}

func checkAttributes(e *check.Errors, c *storagev1.VolumeAttributesClass) {
	if at := field.NewPath("driverName"); e.Present(at, c.DriverName) {
		e.QualifiedName(at, strings.ToLower(c.DriverName))
	}
	if len(c.Parameters) == 0 {
		e.Required(field.NewPath("parameters"), "must contain at least one key/value pair")
	}
	checkParameters(e, c.Parameters, field.NewPath("parameters"))
}

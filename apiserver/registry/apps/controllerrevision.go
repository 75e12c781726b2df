package apps

import (
	"encoding/json"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

func controllerRevisions() *registry.Resource {
	return &registry.Resource{
		Kind: kind("ControllerRevision"), Plural: "controllerrevisions", Singular: "controllerrevision",
		Namespaced: true, KeyPrefix: "/registry/controllerrevisions/",
		New:     func() registry.Object { return &appsv1.ControllerRevision{} },
		NewList: func() runtime.Object { return &appsv1.ControllerRevisionList{} },
		Strategy: registry.Strategy{
			Validate: registry.Checks(checkRevision),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, r, old *appsv1.ControllerRevision) {
				checkRevision(e, r)
				e.Immutable(field.NewPath("data"), r.Data, old.Data)
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,

			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("Controller", "Controller of the object", revisionController),
			registry.NumericText("Revision", appsv1.ControllerRevision{}.SwaggerDoc()["revision"],
				func(r *appsv1.ControllerRevision) string { return fmt.Sprint(r.Revision) }),
			registry.AgeColumn(),
		},
	}
}

func checkRevision(e *check.Errors, r *appsv1.ControllerRevision) {
	data := field.NewPath("data")
	if len(r.Data.Raw) == 0 && r.Data.Object == nil || string(r.Data.Raw) == "null" {
		e.Required(data, "data is mandatory")
	} else if len(r.Data.Raw) > 0 && !json.Valid(r.Data.Raw) {
		e.Invalid(data, "<value omitted>", "error parsing data as JSON")
	}
	e.NonNegative(field.NewPath("revision"), r.Revision)
}

func revisionController(r *appsv1.ControllerRevision) string {
	owner := metav1.GetControllerOf(r)
	if owner == nil {
		return "<none>"
	}
	gv, err := schema.ParseGroupVersion(owner.APIVersion)
	if err != nil || gv.Group == "" {
		return strings.ToLower(owner.Kind) + "/" + owner.Name
	}
	return strings.ToLower(owner.Kind) + "." + gv.Group + "/" + owner.Name
}

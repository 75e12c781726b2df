package resource

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

func (r *rules) classes() *registry.Resource {
	type class = *resourcev1.DeviceClass
	return &registry.Resource{
		Kind: kind("DeviceClass"), Plural: "deviceclasses", Singular: "deviceclass",
		KeyPrefix: "/registry/deviceclasses/",
		New:       func() registry.Object { return &resourcev1.DeviceClass{} },
		NewList:   func() runtime.Object { return &resourcev1.DeviceClassList{} },
		Strategy: registry.Strategy{
			Validate: registry.Checks(func(e *check.Errors, c class) { r.checkClass(e, c, true) }),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, c, old class) {
				// Expressions that were accepted once stay so.
				r.checkClass(e, c, !equality.Semantic.DeepEqual(c.Spec.Selectors, old.Spec.Selectors))
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,
			SpecChanged: registry.Differs(func(c, old class) bool {
				return !equality.Semantic.DeepEqual(c.Spec, old.Spec)
			}),

			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{registry.NameColumn(), registry.AgeColumn()},
	}
}

func (r *rules) checkClass(e *check.Errors, c *resourcev1.DeviceClass, compile bool) {
	at := field.NewPath("spec")
	if compile {
		r.checkSelectors(e, c.Spec.Selectors, at.Child("selectors"))
	}
	checkList(e, c.Spec.Config, resourcev1.DeviceConfigMaxSize, at.Child("config"), func(c *resourcev1.DeviceClassConfiguration, at *field.Path) {
		checkConfiguration(e, c.DeviceConfiguration, at)
	})
	if name := c.Spec.ExtendedResourceName; name != nil && !extended(*name) {
		e.Invalid(at.Child("extendedResourceName"), *name, "must be a valid extended resource name")
	}
}

// extended reports whether a name is that of a resource outside of Kubernetes' own domain, which quota can count.
func extended(name string) bool {
	return strings.Contains(name, "/") && !strings.Contains(name, corev1.ResourceDefaultNamespacePrefix) &&
		!strings.HasPrefix(name, corev1.DefaultResourceRequestsPrefix) &&
		len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+name)) == 0
}

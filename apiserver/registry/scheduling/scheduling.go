// Package scheduling is scheduling.k8s.io/v1.
package scheduling

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

const (
	systemPrefix    = "system-"
	highestOfUsers  = 1_000_000_000
	clusterCritical = 2 * highestOfUsers
)

// systemClasses are the classes of the system and their values.
var systemClasses = map[string]int32{
	"system-cluster-critical": clusterCritical,
	"system-node-critical":    clusterCritical + 1000,
}

// Resources returns the group's resources.
func Resources() []*registry.Resource { return []*registry.Resource{priorityClasses()} }

func priorityClasses() *registry.Resource {
	doc := schedulingv1.PriorityClass{}.SwaggerDoc()
	return &registry.Resource{
		Kind:   schedulingv1.SchemeGroupVersion.WithKind("PriorityClass"),
		Plural: "priorityclasses", Singular: "priorityclass",
		ShortNames: []string{"pc"},
		KeyPrefix:  "/registry/priorityclasses/",
		New:        func() registry.Object { return &schedulingv1.PriorityClass{} },
		NewList:    func() runtime.Object { return &schedulingv1.PriorityClassList{} },
		Strategy: registry.Strategy{
			Default: registry.On(func(c *schedulingv1.PriorityClass) {
				if c.PreemptionPolicy == nil {
					policy := corev1.PreemptLowerPriority
					c.PreemptionPolicy = &policy
				}
			}),
			Validate: registry.Checks(checkClass),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, c, old *schedulingv1.PriorityClass) {
				if c.Value != old.Value {
					e.Forbidden(field.NewPath("value"), "may not be changed in an update.")
				}
				e.Immutable(field.NewPath("preemptionPolicy"), c.PreemptionPolicy, old.PreemptionPolicy)
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,
			// The generation is 1 and stays so, as nothing that it counts can change.
			SpecChanged: func(_, _ registry.Object) bool { return false },

			AllowUnconditionalUpdate: true,
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Number("Value", doc["value"], func(c *schedulingv1.PriorityClass) int64 { return int64(c.Value) }),
			registry.Truth("Global-Default", doc["globalDefault"], func(c *schedulingv1.PriorityClass) bool { return c.GlobalDefault }),
			registry.AgeColumn(),
			registry.Text("PreemptionPolicy", doc["preemptionPolicy"], func(c *schedulingv1.PriorityClass) string {
				if c.PreemptionPolicy == nil {
					return ""
				}
				return string(*c.PreemptionPolicy)
			}),
		},
	}
}

func checkClass(e *check.Errors, c *schedulingv1.PriorityClass) {
	if strings.HasPrefix(c.Name, systemPrefix) {
		if why := notSystem(c); why != "" {
			e.Forbidden(field.NewPath("metadata", "name"),
				"priority class names with '"+systemPrefix+"' prefix are reserved for system use only. error: "+why)
		}
	} else if c.Value > highestOfUsers {
		e.Forbidden(field.NewPath("value"), fmt.Sprintf("maximum allowed value of a user defined priority is %d", highestOfUsers))
	}
	if p := c.PreemptionPolicy; p != nil {
		check.OneOf(e, field.NewPath("preemptionPolicy"), *p, corev1.PreemptLowerPriority, corev1.PreemptNever)
	}
}

// notSystem says why a class is not one of the system's.
func notSystem(c *schedulingv1.PriorityClass) string {
	value, known := systemClasses[c.Name]
	switch {
	case !known:
		return c.Name + " is not a known system priority class"
	case c.Value != value:
		return fmt.Sprintf("value of %s PriorityClass must be %d", c.Name, value)
	case c.GlobalDefault:
		return fmt.Sprintf("globalDefault of %s PriorityClass must be false", c.Name)
	}
	return ""
}

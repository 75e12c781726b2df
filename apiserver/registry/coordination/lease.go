// Package coordination is coordination.k8s.io/v1.
package coordination

import (
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

// Resources returns the group's resources.
func Resources() []*registry.Resource { return []*registry.Resource{leases()} }

func leases() *registry.Resource {
	return &registry.Resource{
		Kind: coordinationv1.SchemeGroupVersion.WithKind("Lease"), Plural: "leases", Singular: "lease",
		Namespaced: true, KeyPrefix: "/registry/leases/",
		New:     func() registry.Object { return &coordinationv1.Lease{} },
		NewList: func() runtime.Object { return &coordinationv1.LeaseList{} },
		Strategy: registry.Strategy{
			AnyFinalizer:  true,
			PrepareCreate: registry.On(func(l *coordinationv1.Lease) { dropCoordination(l, &coordinationv1.Lease{}) }),
			PrepareUpdate: registry.OnChange(dropCoordination),

			Validate:       registry.Checks(checkLease),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, l, _ *coordinationv1.Lease) { checkLease(e, l) }),
			ValidateName:   apivalidation.NameIsDNSSubdomain,

			AllowCreateOnUpdate: true,
		},
		Columns: []registry.Column{
			registry.NameColumn(),
			registry.Text("Holder", coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"], func(l *coordinationv1.Lease) string {
				if l.Spec.HolderIdentity == nil {
					return ""
				}
				return *l.Spec.HolderIdentity
			}),
			registry.AgeColumn(),
		},
	}
}

// dropCoordination drops the fields of coordinated leader election (KEP-4355), which is off unless a cluster turns it on,
// where they were not set before.
func dropCoordination(l, old *coordinationv1.Lease) {
	if old.Spec.Strategy == nil {
		l.Spec.Strategy = nil
	}
	if old.Spec.PreferredHolder == nil {
		l.Spec.PreferredHolder = nil
	}
}

func checkLease(e *check.Errors, l *coordinationv1.Lease) {
	at := field.NewPath("spec")
	if d := l.Spec.LeaseDurationSeconds; d != nil && *d <= 0 {
		e.Invalid(at.Child("leaseDurationSeconds"), *d, "must be greater than 0")
	}
	if n := l.Spec.LeaseTransitions; n != nil && *n < 0 {
		e.Invalid(at.Child("leaseTransitions"), *n, "must be greater than or equal to 0")
	}
	if s := l.Spec.Strategy; s != nil {
		checkStrategy(e, *s, at.Child("strategy"))
	}
	if p := l.Spec.PreferredHolder; p != nil && *p != "" && (l.Spec.Strategy == nil || *l.Spec.Strategy == "") {
		e.Forbidden(at.Child("preferredHolder"), "may only be specified when `strategy` is defined")
	}
}

// checkStrategy: the known one, or a name with a domain.
func checkStrategy(e *check.Errors, s coordinationv1.CoordinatedLeaseStrategy, at *field.Path) {
	if strings.Contains(string(s), "/") {
		e.QualifiedName(at, string(s))
		return
	}
	check.Supported(e, at, s, coordinationv1.OldestEmulationVersion)
}

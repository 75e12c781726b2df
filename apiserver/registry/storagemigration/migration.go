// Package storagemigration is storagemigration.k8s.io/v1: requests to write the objects of a resource anew.
package storagemigration

import (
	migrationv1 "k8s.io/api/storagemigration/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/check"
)

// Resources returns the group's resources.
func Resources() []*registry.Resource { return []*registry.Resource{migrations()} }

func migrations() *registry.Resource {
	type migration = *migrationv1.StorageVersionMigration
	return &registry.Resource{
		Kind:   migrationv1.SchemeGroupVersion.WithKind("StorageVersionMigration"),
		Plural: "storageversionmigrations", Singular: "storageversionmigration",
		KeyPrefix: "/registry/storageversionmigrations/",
		New:       func() registry.Object { return &migrationv1.StorageVersionMigration{} },
		NewList:   func() runtime.Object { return &migrationv1.StorageVersionMigrationList{} },
		Strategy: registry.Strategy{
			PrepareCreate: registry.On(func(m migration) { m.Status = migrationv1.StorageVersionMigrationStatus{} }),
			PrepareUpdate: registry.OnChange(func(m, old migration) { m.Status = old.Status }),
			Validate:      registry.Checks(func(e *check.Errors, m migration) { checkMigration(e, m) }),
			ValidateUpdate: registry.ChecksChange(func(e *check.Errors, m, old migration) {
				e.Immutable(field.NewPath("spec"), m.Spec, old.Spec)
				checkMigration(e, m)
			}),
			ValidateName: apivalidation.NameIsDNSSubdomain,
		},
		Columns: []registry.Column{
			nameColumn(),
			registry.Text("Resource", "GroupResource to migrate", func(m migration) string {
				if m.Spec.Resource.Group == "" {
					return m.Spec.Resource.Resource
				}
				return m.Spec.Resource.Resource + "." + m.Spec.Resource.Group
			}),
			registry.Text("Status", "Status of the migration", migrationState),
		},
		Subresources: map[string]registry.Subresource{
			"status": registry.StatusSubresource(func(m, body migration) { m.Status = body.Status }, checkMigrationStatus),
		},
	}
}

// nameColumn has no format, as it is in Kubernetes.
func nameColumn() registry.Column {
	c := registry.NameColumn()
	c.Format = ""
	return c
}

func checkMigration(e *check.Errors, m *migrationv1.StorageVersionMigration) {
	at := field.NewPath("spec", "resource")
	if e.Present(at.Child("resource"), m.Spec.Resource.Resource) {
		e.Each(at.Child("resource"), m.Spec.Resource.Resource, validation.IsDNS1035Label(m.Spec.Resource.Resource))
	}
	if m.Spec.Resource.Group != "" {
		e.Subdomain(at.Child("group"), m.Spec.Resource.Group)
	}
}

// checkMigrationStatus: a migration that has ended stays ended, in one way, and knows from which version it started.
func checkMigrationStatus(e *check.Errors, m, old *migrationv1.StorageVersionMigration) {
	at := field.NewPath("status", "conditions")
	e.Add(metavalidation.ValidateConditions(m.Status.Conditions, at)...)
	if v := m.Status.ResourceVersion; v != "" {
		if _, err := resourceversion.CompareResourceVersion(v, v); err != nil {
			e.Invalid(field.NewPath("status", "resourceVersion"), v, err.Error())
		}
	}
	if was := old.Status.ResourceVersion; was != "" && was != m.Status.ResourceVersion {
		e.Invalid(field.NewPath("status", "resourceVersion"), m.Status.ResourceVersion, "field is immutable")
	}
	succeeded, failed := holds(m, migrationv1.MigrationSucceeded), holds(m, migrationv1.MigrationFailed)
	if succeeded && failed {
		e.Invalid(at, m.Status.Conditions, "Both success and failed conditions cannot be true at the same time")
	}
	if holds(old, migrationv1.MigrationSucceeded) && !succeeded {
		e.Invalid(at, m.Status.Conditions, "Success condition cannot be set to false once it is true")
	}
	if holds(old, migrationv1.MigrationFailed) && !failed {
		e.Invalid(at, m.Status.Conditions, "Failed condition cannot be set to false once it is true")
	}
}

// migrationState is the last of the conditions that are true.
func migrationState(m *migrationv1.StorageVersionMigration) string {
	state := "Unknown"
	for _, c := range m.Status.Conditions {
		switch migrationv1.MigrationConditionType(c.Type) {
		case migrationv1.MigrationRunning, migrationv1.MigrationFailed, migrationv1.MigrationSucceeded:
			if c.Status == metav1.ConditionTrue {
				state = c.Type
			}
		}
	}
	return state
}

func holds(m *migrationv1.StorageVersionMigration, t migrationv1.MigrationConditionType) bool {
	for _, c := range m.Status.Conditions {
		if c.Type == string(t) && c.Status == metav1.ConditionTrue {
			return true
		}
	}
	return false
}

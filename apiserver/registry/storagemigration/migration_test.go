package storagemigration_test

import (
	"testing"
	"time"

	migrationv1 "k8s.io/api/storagemigration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/registry/kindtest"
	"bareboat.dev/apiserver/registry/storagemigration"
)

const migration = "apiVersion: storagemigration.k8s.io/v1\nkind: StorageVersionMigration\nmetadata: {name: m}\nspec: {resource: {group: apps, resource: deployments}}\n"

// Migrations that are accepted and refused, and why.
func TestMigration(t *testing.T) {
	r := kindtest.Kind(t, storagemigration.Resources(), "StorageVersionMigration")
	kindtest.Create(t, r, migration, []kindtest.Case{
		{Name: "minimal"},
		{Name: "core", Edit: "spec: {resource: {group: '', resource: secrets}}"},
		{Name: "nothing", Edit: "spec: {resource: {resource: ''}}", Want: []string{"spec.resource.resource: Required value"}},
		{Name: "names", Edit: "spec: {resource: {group: A_b, resource: a/b}}", Want: []string{
			`spec.resource.group: Invalid value: "A_b": a lowercase RFC 1123 subdomain…`, `spec.resource.resource: Invalid value: "a/b": a DNS-1035 label…`}},
	})
	kindtest.Update(t, r, migration, []kindtest.Case{
		{Name: "labels", Edit: "metadata: {labels: {a: b}}"},
		{Name: "spec", Edit: "spec: {resource: {resource: pods}}", Want: []string{`spec: Invalid value: {"resource":{"group":"apps","resource":"pods"}}: field is immutable`}},
	})
}

// A migration ends once and in one way.
func TestMigrationStatus(t *testing.T) {
	r := kindtest.Kind(t, storagemigration.Resources(), "StorageVersionMigration")
	stored, _ := kindtest.New(t, r, migration)
	with := func(conditions ...migrationv1.MigrationConditionType) *migrationv1.StorageVersionMigration {
		m := stored.DeepCopyObject().(*migrationv1.StorageVersionMigration)
		for _, c := range conditions {
			m.Status.Conditions = append(m.Status.Conditions, metav1.Condition{
				Type: string(c), Status: "True", Reason: "R", LastTransitionTime: metav1.NewTime(time.Unix(1, 0)),
			})
		}
		return m
	}
	for name, c := range map[string]struct {
		old, now *migrationv1.StorageVersionMigration
		wrong    int
	}{
		"starts":           {with(), with(migrationv1.MigrationRunning), 0},
		"ends":             {with(migrationv1.MigrationRunning), with(migrationv1.MigrationSucceeded), 0},
		"runs and ends":    {with(), with(migrationv1.MigrationRunning, migrationv1.MigrationFailed), 0},
		"ends in two":      {with(), with(migrationv1.MigrationSucceeded, migrationv1.MigrationFailed), 1},
		"does not go back": {with(migrationv1.MigrationSucceeded), with(), 1},
	} {
		if errs := r.Subresources["status"].Validate(c.now, c.old); len(errs) != c.wrong {
			t.Errorf("%s: %v", name, errs)
		}
	}

	kindtest.Status(t, r, migration, []kindtest.Case{
		{Name: "version", Edit: "status: {resourceVersion: '5'}"},
		{Name: "no version", Edit: "status: {resourceVersion: x}", Want: []string{`status.resourceVersion: Invalid value: "x": …`}},
		{Name: "another version", Old: "status: {resourceVersion: '5'}", Edit: "status: {resourceVersion: '6'}", Want: []string{
			`status.resourceVersion: Invalid value: "6": field is immutable`}},
	})
}

// Package storagemigration carries out StorageVersionMigrations (KEP-4192): it writes every object of a resource anew, so that the
// store holds none in an older version, and then takes those versions off the definition's status.storedVersions.
//
// A write that changes nothing is stored only if the object's encoding differs from what is stored, which is just what a
// migration is about; an object that somebody else writes meanwhile is migrated by that. So a migration may be begun anew at any
// time, and a crash costs only the work since the last beginning.
//
// One migration of a resource runs at a time, the oldest first. While one runs, the definition of a custom resource has the
// condition StorageMigrating, which remembers the definition's generation: if the definition is changed under way, objects may have
// been written in another version since, and the stored versions stay as they are.
package storagemigration

import (
	"fmt"
	"slices"
	"strings"
	"time"

	migrationv1 "k8s.io/api/storagemigration/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/plan"
)

type (
	migration  = migrationv1.StorageVersionMigration
	definition = apiextensionsv1.CustomResourceDefinition
)

const (
	// newcomer is how long a resource that is not served is waited for: its definition may have been applied in one go with the
	// migration.
	newcomer = time.Minute
	// pause is when to go on after an error that may pass.
	pause = 5 * time.Second
)

// Definitions describes the kind of custom kinds' definitions.
func Definitions() client.Kind[*definition] {
	return client.Kind[*definition]{
		Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions", KindName: "CustomResourceDefinition",
		New: func() *definition { return new(definition) },
	}
}

// Input is a migration and what it depends on.
type Input struct {
	Migration *migration
	// All are the migrations there are, of any resource.
	All []*migration
	// Served tells whether the resource is served with the verbs that a migration takes.
	Served bool
	// Definition of a custom resource, as it is now; nil for another.
	Definition *definition
	// Revision of the resource's collection, before the migration runs.
	Revision string
	// Progress is how far the objects have been written; nil if none has been.
	Progress *Progress
}

// Progress is how far a migration's objects have been written since its process began with it.
type Progress struct {
	// Written counts objects.
	Written int
	// Done is set after the last object.
	Done bool
	// Err is what no further try will mend, Passing what one may.
	Err, Passing error
}

// Over tells whether nothing is left to do for a migration.
func Over(m *migration) bool {
	return holds(m, migrationv1.MigrationSucceeded) || holds(m, migrationv1.MigrationFailed)
}

// Ready tells whether objects may be written: the migration says that it runs, and the definition that it is migrated.
func (in Input) Ready() bool {
	return !Over(in.Migration) && in.Served && in.turn() && in.marked() && holds(in.Migration, migrationv1.MigrationRunning)
}

// Reconcile plans a migration's next step.
func Reconcile(in Input, now time.Time) plan.Plan {
	var p plan.Plan
	m := in.Migration
	switch {
	case Over(m) || m.DeletionTimestamp != nil || !in.turn():
	case !in.Served:
		if patience := m.CreationTimestamp.Add(newcomer); patience.After(now) {
			p.LookAgain(now, patience)
			p.LookAgain(now, now.Add(pause))
			return p
		}
		in.conclude(&p, now, fmt.Sprintf("resource %s does not exist, or cannot be listed, updated and patched", name(m)))
	case holds(m, migrationv1.MigrationRunning) && in.released():
		in.conclude(&p, now, in.failure())
	case !in.marked():
		in.define(&p, now, apiextensionsv1.ConditionTrue, "MigrationRunning", in.running(), nil)
	case !holds(m, migrationv1.MigrationRunning):
		next := m.DeepCopy()
		next.Status.ResourceVersion = in.Revision
		say(next, migrationv1.MigrationRunning, metav1.ConditionTrue, "MigrationRunning", "The migration is running", now)
		p.Add(plan.UpdateStatus(plan.StorageVersionMigrations, next))
	case in.Progress == nil:
	case in.Progress.Err != nil || in.Progress.Done:
		in.end(&p, now)
	default:
		in.goOn(&p, now)
	}
	return p
}

// goOn says how far the objects are, and when to look at the next.
func (in Input) goOn(p *plan.Plan, now time.Time) {
	next := in.Migration.DeepCopy()
	if say(next, migrationv1.MigrationRunning, metav1.ConditionTrue, "MigrationRunning", in.Progress.String(), now) {
		p.Add(plan.UpdateStatus(plan.StorageVersionMigrations, next))
	}
	if in.Progress.Passing != nil {
		p.LookAgain(now, now.Add(pause))
	} else {
		p.LookAgain(now, now)
	}
}

// String is the message of a migration that runs.
func (p Progress) String() string {
	s := "The migration is running"
	if p.Written > 0 {
		s += fmt.Sprintf(", %d objects written", p.Written)
	}
	if p.Passing != nil {
		s += fmt.Sprintf("; transient error: %v", p.Passing)
	}
	return s
}

// turn tells whether this is the migration of its resource that is to be carried out now.
func (in Input) turn() bool {
	return !slices.ContainsFunc(in.All, func(other *migration) bool {
		return other.Spec.Resource == in.Migration.Spec.Resource && other.UID != in.Migration.UID && !Over(other) && before(other, in.Migration)
	})
}

// before orders migrations of a resource: one that runs, then the oldest.
func before(a, b *migration) bool {
	if ra, rb := holds(a, migrationv1.MigrationRunning), holds(b, migrationv1.MigrationRunning); ra != rb {
		return ra
	}
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.Name < b.Name
}

// marked tells whether the definition, if there is one, says that this migration runs.
func (in Input) marked() bool {
	if in.Definition == nil {
		return true
	}
	c := migrating(in.Definition)
	return c != nil && c.Status == apiextensionsv1.ConditionTrue && c.Message == in.running()
}

func (in Input) running() string { return fmt.Sprintf("Migration %s is running", in.Migration.Name) }

// The definition's last words on a migration begin with these; what follows the second is why.
func (in Input) succeeded() string {
	return fmt.Sprintf("Migration %s has succeeded", in.Migration.Name)
}
func (in Input) failed() string { return fmt.Sprintf("Migration %s has failed: ", in.Migration.Name) }

// released tells whether the definition says that this migration has ended. It is the record of it: what the migration itself
// says comes last, since that is final.
func (in Input) released() bool {
	if in.Definition == nil {
		return false
	}
	c := migrating(in.Definition)
	return c != nil && c.Status == apiextensionsv1.ConditionFalse &&
		(strings.HasPrefix(c.Message, in.succeeded()) || strings.HasPrefix(c.Message, in.failed()))
}

// failure is why the released definition's migration failed, empty if it did not.
func (in Input) failure() string {
	why, failed := strings.CutPrefix(migrating(in.Definition).Message, in.failed())
	if !failed {
		return ""
	}
	return why
}

// end says how the migration went: on the definition, or where there is none on the migration itself.
func (in Input) end(p *plan.Plan, now time.Time) {
	failure := ""
	if in.Progress.Err != nil {
		failure = in.Progress.Err.Error()
	}
	switch {
	case in.Definition == nil:
		in.conclude(p, now, failure)
	case failure != "":
		in.define(p, now, apiextensionsv1.ConditionFalse, "MigrationFailed", in.failed()+failure, nil)
	case migrating(in.Definition).ObservedGeneration != in.Definition.Generation:
		// The definition is not the one that the migration began with: objects may have been written in another version since.
		in.define(p, now, apiextensionsv1.ConditionFalse, "MigrationSucceeded", in.succeeded()+" but the stored versions have not been updated due to a generation mismatch", nil)
	default:
		in.define(p, now, apiextensionsv1.ConditionFalse, "MigrationSucceeded", in.succeeded()+" and the stored versions have been updated", stored(in.Definition))
	}
}

// conclude is the last that a migration says; failure is empty if it succeeded.
func (in Input) conclude(p *plan.Plan, now time.Time, failure string) {
	next := in.Migration.DeepCopy()
	if failure != "" {
		say(next, migrationv1.MigrationFailed, metav1.ConditionTrue, "StorageVersionMigrationFailed", "migration encountered unhandled error: "+failure, now)
	} else {
		say(next, migrationv1.MigrationSucceeded, metav1.ConditionTrue, "StorageVersionMigrationSucceeded", "Migration completed", now)
	}
	if meta.FindStatusCondition(next.Status.Conditions, string(migrationv1.MigrationRunning)) != nil {
		say(next, migrationv1.MigrationRunning, metav1.ConditionFalse, "MigrationCompleted", "Migration completed", now)
	}
	p.Add(plan.UpdateStatus(plan.StorageVersionMigrations, next))
}

// define plans the definition's condition, and its stored versions if there are any, and to look again: nobody tells of the change.
func (in Input) define(p *plan.Plan, now time.Time, status apiextensionsv1.ConditionStatus, reason, message string, versions []string) {
	next := in.Definition.DeepCopy()
	c := migrating(next)
	if c == nil {
		next.Status.Conditions = append(next.Status.Conditions, apiextensionsv1.CustomResourceDefinitionCondition{Type: apiextensionsv1.StorageMigrating})
		c = migrating(next)
	}
	if c.Status != status {
		c.LastTransitionTime = metav1.NewTime(now)
	}
	c.Status, c.Reason, c.Message, c.ObservedGeneration = status, reason, message, next.Generation
	if versions != nil {
		next.Status.StoredVersions = versions
	}
	p.Add(plan.UpdateStatus(plan.Of(Definitions()), next))
	p.LookAgain(now, now)
}

// stored is the version that objects are stored in, alone.
func stored(d *definition) []string {
	for _, v := range d.Spec.Versions {
		if v.Storage {
			return []string{v.Name}
		}
	}
	return nil
}

func migrating(d *definition) *apiextensionsv1.CustomResourceDefinitionCondition {
	for i := range d.Status.Conditions {
		if d.Status.Conditions[i].Type == apiextensionsv1.StorageMigrating {
			return &d.Status.Conditions[i]
		}
	}
	return nil
}

func holds(m *migration, t migrationv1.MigrationConditionType) bool {
	return meta.IsStatusConditionTrue(m.Status.Conditions, string(t))
}

// say sets a condition and tells whether that changed anything.
func say(m *migration, t migrationv1.MigrationConditionType, status metav1.ConditionStatus, reason, message string, now time.Time) bool {
	return meta.SetStatusCondition(&m.Status.Conditions, metav1.Condition{
		Type: string(t), Status: status, Reason: reason, Message: message, ObservedGeneration: m.Generation, LastTransitionTime: metav1.NewTime(now),
	})
}

// name is the resource with its group, "crontabs.stable.example.com", which is its definition's name, too.
func name(m *migration) string {
	r := m.Spec.Resource
	return strings.TrimSuffix(r.Resource+"."+r.Group, ".")
}

// judge tells from the results of a page's writes what no further try will mend, and what one may. An object that is gone or was
// written by somebody else is migrated.
func judge(errs []error) (fatal, passing error) {
	for _, err := range errs {
		switch {
		case err == nil, apierrors.IsConflict(err), apierrors.IsNotFound(err):
		case client.IsUnavailable(err), apierrors.IsServerTimeout(err), apierrors.IsTimeout(err), apierrors.IsTooManyRequests(err),
			apierrors.IsServiceUnavailable(err), apierrors.IsInternalError(err):
			passing = err
		default:
			return err, nil
		}
	}
	return nil, passing
}

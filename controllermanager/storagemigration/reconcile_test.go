package storagemigration

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	migrationv1 "k8s.io/api/storagemigration/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/controllermanager/plan"
	"bareboat.dev/controllermanager/plantest"
)

// story is the world of some migrations of crontabs, whose definition stores v2 now and stored v1 before.
type story struct {
	world *plantest.World
	// progress is what the writing of objects comes to.
	progress Progress
	// wrote lists the migrations that wrote objects, in order.
	wrote []string
}

func newStory(migrations ...string) *story {
	s := &story{world: plantest.New(), progress: Progress{Written: 3, Done: true}}
	plantest.Put(s.world, plan.Of(Definitions()), &definition{
		ObjectMeta: metav1.ObjectMeta{Name: "crontabs.stable.example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{Versions: []apiextensionsv1.CustomResourceDefinitionVersion{
			{Name: "v1", Served: true}, {Name: "v2", Served: true, Storage: true},
		}},
		Status: apiextensionsv1.CustomResourceDefinitionStatus{StoredVersions: []string{"v1", "v2"}},
	})
	for _, name := range migrations {
		s.put(name, "crontabs", "stable.example.com")
	}
	return s
}

func (s *story) put(name, resource, group string) {
	plantest.Put(s.world, plan.StorageVersionMigrations, &migration{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(s.world.Now)},
		Spec:       migrationv1.StorageVersionMigrationSpec{Resource: metav1.GroupResource{Group: group, Resource: resource}},
	})
}

// plans is the controller's shell: it writes objects whenever the core is ready for it.
func (s *story) plans(w *plantest.World) map[string]plan.Plan {
	out := map[string]plan.Plan{}
	all := plantest.List[*migration](w, plan.StorageVersionMigrations)
	for _, m := range all {
		in := Input{Migration: m, All: all, Served: m.Spec.Resource.Resource != "nothings", Revision: "42"}
		if w.Exists(plan.Of(Definitions()), "", name(m)) {
			in.Definition = plantest.Get[*definition](w, plan.Of(Definitions()), "", name(m))
		}
		if in.Ready() {
			if !slices.Contains(s.wrote, m.Name) {
				s.wrote = append(s.wrote, m.Name)
			}
			in.Progress = &s.progress
		}
		out[m.Name] = Reconcile(in, w.Now)
	}
	return out
}

func (s *story) run() plantest.Story {
	return plantest.Story{Start: s.world, Plans: s.plans, Writes: Controller().Writes, Environment: func(w *plantest.World) { w.Advance(time.Second) }}
}

func state(m *migration) string {
	var on []string
	for _, c := range m.Status.Conditions {
		on = append(on, c.Type+"="+string(c.Status))
	}
	slices.Sort(on)
	return strings.Join(on, " ")
}

// A migration runs from the revision it began at to its success, and leaves the definition with the version that is stored now; of
// two of one resource the second waits for the first. So it is after a crash behind any write, and from any stale view.
func TestMigration(t *testing.T) {
	s := newStory("a", "b")
	s.put("builtin", "deployments", "apps")
	end := s.run().Run(t)
	for _, name := range []string{"a", "b", "builtin"} {
		m := plantest.Get[*migration](end, plan.StorageVersionMigrations, "", name)
		if got := state(m); got != "Running=False Succeeded=True" || m.Status.ResourceVersion != "42" {
			t.Errorf("%s: %s from revision %q", name, got, m.Status.ResourceVersion)
		}
	}
	d := plantest.Get[*definition](end, plan.Of(Definitions()), "", "crontabs.stable.example.com")
	if !slices.Equal(d.Status.StoredVersions, []string{"v2"}) || migrating(d).Status != apiextensionsv1.ConditionFalse {
		t.Errorf("definition: stored %v, %+v", d.Status.StoredVersions, migrating(d))
	}
	if slices.Index(s.wrote, "a") > slices.Index(s.wrote, "b") {
		t.Errorf("objects were written by %v", s.wrote)
	}
	s.run().Crash(t)
	s.run().Stale(t, 1, 2)
}

// A definition that is changed under way keeps its stored versions: objects may have been written in another one since.
func TestGenerationMismatch(t *testing.T) {
	s := newStory("a")
	run := s.run()
	run.Environment = func(w *plantest.World) {
		d := plantest.Get[*definition](w, plan.Of(Definitions()), "", "crontabs.stable.example.com")
		if c := migrating(d); c != nil && c.Status == apiextensionsv1.ConditionTrue && d.Spec.Versions[0].Served {
			d = d.DeepCopy()
			d.Spec.Versions[0].Served = false
			plantest.Put(w, plan.Of(Definitions()), d)
		}
	}
	d := plantest.Get[*definition](run.Run(t), plan.Of(Definitions()), "", "crontabs.stable.example.com")
	if len(d.Status.StoredVersions) != 2 || !strings.Contains(migrating(d).Message, "generation mismatch") {
		t.Errorf("stored %v, %q", d.Status.StoredVersions, migrating(d).Message)
	}
}

// A migration whose objects are refused fails and says why, and the definition keeps its stored versions.
func TestRefusedObjects(t *testing.T) {
	s := newStory("a")
	s.progress = Progress{Written: 1, Err: errors.New("ns/x: spec.replicas: Required value")}
	end := s.run().Run(t)
	m := plantest.Get[*migration](end, plan.StorageVersionMigrations, "", "a")
	d := plantest.Get[*definition](end, plan.Of(Definitions()), "", "crontabs.stable.example.com")
	s.run().Crash(t)
	if state(m) != "Failed=True Running=False" || len(d.Status.StoredVersions) != 2 || migrating(d).Reason != "MigrationFailed" {
		t.Errorf("%s, stored %v, %+v", state(m), d.Status.StoredVersions, migrating(d))
	}
	for _, c := range m.Status.Conditions {
		if c.Type == "Failed" && !strings.Contains(c.Message, "spec.replicas") {
			t.Errorf("Failed: %q", c.Message)
		}
	}
}

// A resource that is not served fails a minute after the migration's creation and not before: its definition may be on its way.
func TestNotServed(t *testing.T) {
	s := newStory()
	s.put("a", "nothings", "")
	run := s.run()
	m := plantest.Get[*migration](s.world, plan.StorageVersionMigrations, "", "a")
	if p := s.plans(s.world)["a"]; !p.Empty() || p.After == 0 {
		t.Errorf("at once: %+v", p)
	}
	run.Environment = func(w *plantest.World) {
		if w.Now.Before(m.CreationTimestamp.Add(newcomer)) {
			w.Advance(newcomer)
		}
	}
	s.world.Advance(newcomer)
	m = plantest.Get[*migration](run.Run(t), plan.StorageVersionMigrations, "", "a")
	if state(m) != "Failed=True" {
		t.Errorf("after a minute: %s", state(m))
	}
}

// An error that may pass is told in the message and tried again later; the migration goes on.
func TestPassingError(t *testing.T) {
	s := newStory("a")
	s.progress = Progress{Written: 1, Passing: errors.New("etcd is away")}
	end := s.run().Run(t)
	m := plantest.Get[*migration](end, plan.StorageVersionMigrations, "", "a")
	if state(m) != "Running=True" || !strings.HasSuffix(m.Status.Conditions[0].Message, "transient error: etcd is away") {
		t.Errorf("%s: %q", state(m), m.Status.Conditions[0].Message)
	}
	if p := s.plans(end)["a"]; p.After != pause {
		t.Errorf("looks again after %v", p.After)
	}
}

// Objects that are gone or were written by others are migrated; other refusals are final but for those that pass.
func TestJudge(t *testing.T) {
	r := schema.GroupResource{Resource: "crontabs"}
	conflict, gone := apierrors.NewConflict(r, "a", errors.New("changed")), apierrors.NewNotFound(r, "a")
	busy, refused := apierrors.NewTooManyRequests("later", 1), apierrors.NewForbidden(r, "a", errors.New("policy"))
	if fatal, passing := judge([]error{nil, conflict, gone}); fatal != nil || passing != nil {
		t.Errorf("done: %v, %v", fatal, passing)
	}
	if fatal, passing := judge([]error{conflict, busy}); fatal != nil || passing != busy {
		t.Errorf("busy: %v, %v", fatal, passing)
	}
	if fatal, _ := judge([]error{busy, refused}); fatal != refused {
		t.Errorf("refused: %v", fatal)
	}
}

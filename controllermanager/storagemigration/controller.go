package storagemigration

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	migrationv1 "k8s.io/api/storagemigration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

// pageSize is how many objects are written in one step, as one batch: at 1 ms each, a second.
const pageSize = 500

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	definitions := plan.Of(Definitions())
	return engine.Controller{
		Name:     "storage-version-migrator-controller",
		Reads:    []plan.Kind{plan.StorageVersionMigrations},
		Optional: []plan.Kind{definitions},
		Writes: []engine.Claim{
			{Kind: plan.StorageVersionMigrations, Field: "status"},
			{Kind: definitions, Field: "status.conditions[StorageMigrating]"},
			{Kind: definitions, Field: "status.storedVersions"},
		},
		Setup: func(s *engine.Setup) error {
			c := &controller{setup: s, sweeps: map[types.UID]*sweep{}}
			c.migrations = engine.Mirror(s, client.StorageVersionMigrations())
			loop := s.Loop(engine.LoopConfig{Name: "storage_version_migrator", Step: c.step})
			c.migrations.OnChange(func(old, new *migrationv1.StorageVersionMigration) {
				if new == nil {
					c.forget(old.UID)
				}
				// The end of one is the beginning of the next of its resource; migrations are few.
				for _, m := range c.migrations.List() {
					if !Over(m) {
						loop.Add(m.Name)
					}
				}
			})
			return nil
		},
	}
}

type controller struct {
	setup      *engine.Setup
	migrations *engine.View[*migrationv1.StorageVersionMigration]

	mu     sync.Mutex
	sweeps map[types.UID]*sweep
}

// sweep is where a migration stands in its resource's list.
type sweep struct {
	Progress
	token string
}

func (c *controller) forget(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sweeps, uid)
}

func (c *controller) sweepOf(uid types.UID) *sweep {
	c.mu.Lock()
	defer c.mu.Unlock()
	sw := c.sweeps[uid]
	if sw == nil {
		sw = new(sweep)
		c.sweeps[uid] = sw
	}
	return sw
}

func (c *controller) step(ctx context.Context, s engine.Step) (plan.Plan, error) {
	m, ok := c.migrations.Get("", s.Key)
	if !ok {
		return plan.Plan{}, nil
	}
	if Over(m) {
		c.forget(m.UID)
		return plan.Plan{}, nil
	}
	in := Input{Migration: m, All: c.migrations.List()}
	kind, err := c.look(ctx, &in)
	if err != nil {
		return plan.Plan{}, err
	}
	if in.Ready() {
		sw := c.sweepOf(m.UID)
		c.write(ctx, kind, m, sw)
		in.Progress = &sw.Progress
	}
	return Reconcile(in, s.Now), nil
}

// look finds out what the migration's resource is, and which definition it has.
func (c *controller) look(ctx context.Context, in *Input) (plan.Kind, error) {
	resources, err := c.setup.Discover(ctx)
	if err != nil {
		return plan.Kind{}, err
	}
	want := in.Migration.Spec.Resource
	kinds := engine.Kinds(resources, func(r engine.Resource) bool {
		return r.Group == want.Group && r.Resource == want.Resource && r.Can("list", "update", "patch")
	})
	if in.Served = len(kinds) == 1; !in.Served {
		return plan.Kind{}, nil
	}
	if !holds(in.Migration, migrationv1.MigrationRunning) { // its beginning is noted once
		first, err := engine.ListMetaPage(ctx, c.setup.Client(), kinds[0], "", 1, "")
		if err != nil {
			return plan.Kind{}, err
		}
		in.Revision = fmt.Sprint(first.Revision)
	}
	if !c.setup.Serves(plan.Of(Definitions())) {
		return kinds[0], nil
	}
	in.Definition, err = client.Of(c.setup.Client(), Definitions()).Get(ctx, "", name(in.Migration))
	if apierrors.IsNotFound(err) {
		in.Definition, err = nil, nil
	}
	return kinds[0], err
}

// write writes the next page of objects anew.
func (c *controller) write(ctx context.Context, k plan.Kind, m *migrationv1.StorageVersionMigration, sw *sweep) {
	if sw.Done || sw.Err != nil {
		return
	}
	sw.Passing = nil
	page, err := engine.ListMetaPage(ctx, c.setup.Client(), k, "", pageSize, sw.token)
	if client.IsExpired(err) {
		*sw = sweep{}
		return
	}
	if err != nil {
		sw.Passing = err
		return
	}
	errs, err := c.patch(ctx, k, page.Objects)
	if err != nil {
		sw.Passing = err
		return
	}
	if sw.Err, sw.Passing = judge(errs); sw.Err != nil || sw.Passing != nil {
		return
	}
	sw.Written += len(page.Objects)
	sw.token, sw.Done = page.Continue, page.Continue == ""
	c.setup.Log.Debug("wrote objects anew", "migration", m.Name, "resource", k.String(), "objects", sw.Written, "last", sw.Done)
}

// patch writes the objects as they are, on condition that they are still as they were listed.
func (c *controller) patch(ctx context.Context, k plan.Kind, objects []*engine.Meta) ([]error, error) {
	ops := make([]client.Op, 0, len(objects))
	for _, o := range objects {
		body, err := json.Marshal(map[string]any{"metadata": map[string]string{"uid": string(o.UID), "resourceVersion": o.ResourceVersion}})
		if err != nil {
			return nil, err
		}
		ops = append(ops, client.PatchOp(k.Untyped(), o.Namespace, o.Name, client.MergePatch, body, client.PatchOptions{}))
	}
	results, err := c.setup.Client().BatchOmit(ctx, ops...)
	if err != nil {
		return nil, err
	}
	errs := make([]error, len(results))
	for i, r := range results {
		if r.Err != nil {
			errs[i] = fmt.Errorf("%s/%s: %w", objects[i].Namespace, objects[i].Name, r.Err)
		}
	}
	return errs, nil
}

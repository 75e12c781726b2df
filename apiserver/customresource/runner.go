package customresource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/watchcache"
)

// retryAfter is how long the runner waits after a failure of the store before it goes on.
const retryAfter = time.Second

// Config is what a Runner is made of.
type Config struct {
	Pipeline *pipeline.Pipeline
	// Call sends conversion reviews to webhooks.
	Call Call
	Now  func() time.Time
	Log  *slog.Logger
}

// Runner follows the CustomResourceDefinitions and has the pipeline serve what they define.
type Runner struct {
	cfg Config
	// synced is closed when the definitions that there were have been read and are served.
	synced chan struct{}
	once   sync.Once

	mu sync.Mutex
	// applied is the revision up to which what the definitions say is served, and moved is closed and replaced when that changes.
	applied storage.Revision
	moved   chan struct{}

	// What follows is Run's alone. The definitions that are known lack their schemas once something has been made of them, but for
	// those whose schemas their status speaks of.
	known map[string]*v1.CustomResourceDefinition
	made  map[types.UID]*madeDefinition
	// serving is what the pipeline was last told.
	serving []*registry.Resource
	cleanup map[types.UID]context.CancelFunc
	workers sync.WaitGroup
	// wrote are the versions of the statuses that this server has decided from, not to decide from them again.
	wrote map[types.UID]string
}

// madeDefinition is a definition with what it was made of, and its resources in the two states that it can be served in.
type madeDefinition struct {
	// generation of the spec.
	generation   int64
	names        v1.CustomResourceDefinitionNames
	open, closed []*registry.Resource
}

// New returns a runner. Nothing runs yet.
func New(cfg Config) *Runner {
	return &Runner{
		cfg: cfg, synced: make(chan struct{}), moved: make(chan struct{}), known: map[string]*v1.CustomResourceDefinition{}, made: map[types.UID]*madeDefinition{},
		cleanup: map[types.UID]context.CancelFunc{}, wrote: map[types.UID]string{},
	}
}

// Sync waits until Run has read the definitions that there were and they are served.
func (r *Runner) Sync(ctx context.Context) error {
	select {
	case <-r.synced:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run follows the definitions until ctx ends.
func (r *Runner) Run(ctx context.Context) error {
	defer r.workers.Wait()
	for ctx.Err() == nil {
		err := r.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if apierrors.IsResourceExpired(err) || errors.Is(err, watchcache.ErrExpired) {
			continue
		}
		r.cfg.Log.Warn("following the custom resource definitions failed", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
		}
	}
	return nil
}

// ref names a definition; an empty name all of them.
func ref(name string) pipeline.Ref {
	return pipeline.Ref{Group: v1.GroupName, Version: "v1", Resource: "customresourcedefinitions", Name: name}
}

func (r *Runner) follow(ctx context.Context) error {
	s, err := r.cfg.Pipeline.Watch(ctx, &pipeline.Request{Verb: pipeline.Watch, Caller: pipeline.System(), SendInitialEvents: true, Ref: ref("")})
	if err != nil {
		return err
	}
	defer s.Cursor.Close()
	fresh := map[string]*v1.CustomResourceDefinition{}
	initial, newest := true, storage.Revision(0)
	unsettled := false
	for {
		batch, err := r.next(ctx, s, unsettled)
		if err != nil {
			return err
		}
		for _, e := range batch.Events {
			decoded, err := s.Object(e).Decoded()
			if err != nil {
				return err
			}
			d := decoded.(*v1.CustomResourceDefinition)
			if fresh[d.Name] = d; e.Type == watchcache.Deleted {
				delete(fresh, d.Name)
			}
		}
		if batch.InitialEventsEnd {
			initial = false
		}
		if initial {
			continue
		}
		newest = max(newest, batch.Revision)
		r.known = fresh
		if err := r.serve(); err != nil {
			return err
		}
		r.advance(newest)
		r.once.Do(func() { close(r.synced) })
		err = r.settle(ctx)
		if unsettled = err != nil; unsettled && ctx.Err() == nil {
			r.cfg.Log.Warn("writing the statuses of the custom resource definitions failed", "error", err)
		}
	}
}

// next waits for changes; while there are statuses yet to be written it waits no longer than until they are to be tried again.
func (r *Runner) next(ctx context.Context, s *pipeline.Stream, unsettled bool) (watchcache.Batch, error) {
	if !unsettled {
		return s.Cursor.Next(ctx)
	}
	soon, cancel := context.WithTimeout(ctx, retryAfter)
	defer cancel()
	batch, err := s.Cursor.Next(soon)
	if err != nil && soon.Err() != nil && ctx.Err() == nil {
		return watchcache.Batch{}, nil
	}
	return batch, err
}

// advance lets CatchUp know that the definitions up to a revision are served.
func (r *Runner) advance(to storage.Revision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.applied = max(r.applied, to)
	close(r.moved)
	r.moved = make(chan struct{})
}

// catchUpFor is how long CatchUp waits: what is served then is what there is to be served here.
const catchUpFor = 2 * time.Second

// CatchUp waits until everything is served that the store's present definitions define, or a moment if that does not come about.
func (r *Runner) CatchUp(ctx context.Context) error {
	newest, err := r.cfg.Pipeline.ChangedAt(ctx, v1.GroupName, "customresourcedefinitions")
	if err != nil {
		return err
	}
	timeout := time.After(catchUpFor)
	for {
		r.mu.Lock()
		done, moved := r.applied >= newest, r.moved
		r.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-timeout:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settle brings the statuses of the definitions up to date, and begins to delete the objects of those that go.
func (r *Runner) settle(ctx context.Context) error {
	now := metav1.NewTime(r.cfg.Now().Truncate(time.Second))
	all := slices.Collect(maps.Values(r.known))
	var failed []error
	slices.SortFunc(all, func(a, b *v1.CustomResourceDefinition) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})
	for _, d := range all {
		if terminating(d) {
			r.begin(ctx, d)
			continue
		}
		next := nextStatus(d, all, now)
		if next == nil || r.wrote[d.UID] == d.ResourceVersion {
			continue
		}
		if err := r.write(ctx, next, "status"); err != nil && !apierrors.IsConflict(err) {
			// The others need not wait for whatever keeps this one from being written.
			failed = append(failed, err)
			continue
		}
		// What has just been decided is not decided again from the state before it has come back through the watch.
		r.wrote[d.UID] = d.ResourceVersion
	}
	r.forget()
	return errors.Join(failed...)
}

// forget drops what is kept of definitions that are gone.
func (r *Runner) forget() {
	there := map[types.UID]bool{}
	for _, d := range r.known {
		there[d.UID] = true
	}
	for uid := range r.wrote {
		if !there[uid] {
			delete(r.wrote, uid)
		}
	}
	for uid, cancel := range r.cleanup {
		if !there[uid] {
			cancel()
			delete(r.cleanup, uid)
		}
	}
}

// write updates a definition, or its status. That it has gone meanwhile is no failure.
func (r *Runner) write(ctx context.Context, d *v1.CustomResourceDefinition, subresource string) error {
	raw, err := d.Marshal()
	if err != nil {
		return err
	}
	to := ref(d.Name)
	to.Subresource = subresource
	_, err = r.cfg.Pipeline.Do(ctx, &pipeline.Request{
		Verb: pipeline.Update, Caller: pipeline.System(), Ref: to,
		Body: pipeline.Body{ContentType: pipeline.Raw, Data: raw, Kind: v1.SchemeGroupVersion.WithKind("CustomResourceDefinition")},
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("updating %s: %w", d.Name, err)
	}
	return nil
}

// serve tells the pipeline what there is, if that has changed.
func (r *Runner) serve() error {
	made := map[types.UID]*madeDefinition{}
	var resources []*registry.Resource
	for _, name := range slices.Sorted(maps.Keys(r.known)) {
		d := r.known[name]
		if !served(d) {
			continue
		}
		m, err := r.make(d)
		if err != nil {
			r.cfg.Log.Error("custom resource definition cannot be served", "name", d.Name, "error", err)
			continue
		}
		made[d.UID] = m
		if !d.Spec.PreserveUnknownFields {
			r.known[name] = withoutSchemas(d)
		}
		if terminating(d) {
			resources = append(resources, m.closed...)
		} else {
			resources = append(resources, m.open...)
		}
	}
	r.made = made
	resources = r.consistent(resources)
	if slices.Equal(resources, r.serving) && r.isSynced() {
		return nil
	}
	if err := r.cfg.Pipeline.Serve(resources); err != nil {
		return err
	}
	r.serving = resources
	return nil
}

func (r *Runner) isSynced() bool {
	select {
	case <-r.synced:
		return true
	default:
		return false
	}
}

// make makes a definition ready, or returns what was made of it before.
func (r *Runner) make(d *v1.CustomResourceDefinition) (*madeDefinition, error) {
	if m, ok := r.made[d.UID]; ok && m.generation == d.Generation && equality.Semantic.DeepEqual(m.names, d.Status.AcceptedNames) {
		return m, nil
	}
	def, err := newDefinition(d, r.cfg.Call)
	if err != nil {
		return nil, err
	}
	return &madeDefinition{generation: d.Generation, names: d.Status.AcceptedNames, open: def.resources(false), closed: def.resources(true)}, nil
}

var errKindTaken = errors.New("another definition has the kind")

// consistent leaves out what cannot be served beside the built-in resources, or beside another: its keys or names are theirs.
func (r *Runner) consistent(resources []*registry.Resource) []*registry.Resource {
	built := r.cfg.Pipeline.Fixed()
	out := resources[:0:0]
	kinds := map[schema.GroupVersionKind]bool{}
	for _, res := range resources {
		err := built.Admits(res)
		if err == nil && kinds[res.Kind] {
			err = errKindTaken
		}
		kinds[res.Kind] = true
		if err != nil {
			r.cfg.Log.Error("custom resource cannot be served", "kind", res.Kind.String(), "error", err)
			continue
		}
		out = append(out, res)
	}
	return out
}

package garbagecollector

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

const (
	// workers is how many objects are judged at a time; each may take a quorum read of an owner.
	workers = 20
	// rediscover is how often to ask for new kinds even if no definition of one has changed, which aggregated servers do not tell.
	rediscover = 30 * time.Second
	// maxAbsent is how many owners known to be gone are remembered, so that the thousand pods of one deleted owner cost one
	// quorum read and not a thousand; 4,096 of about 150 bytes are 0.6 MB.
	maxAbsent = 4096
	// recheck is when to judge an object again whose owner exists, or may, but is not in the graph, which therefore will not
	// tell of its end: an owner of a kind that cannot be watched, or is not served.
	recheck = time.Minute
	// patience is how long every kind's first snapshot is waited for. A kind that cannot be listed, as one whose conversion webhook is
	// down, then holds back only what needs the whole graph: the end of owners that wait for their dependents.
	patience = 30 * time.Second
	// incomplete is when to judge such an owner again.
	incomplete = 5 * time.Second
	// catchUp is when to judge an owner again whose dependents the API has and the graph has not yet.
	catchUp = 200 * time.Millisecond
)

// Controller returns the controller's declaration.
func Controller() engine.Controller {
	return engine.Controller{
		Name: "garbage-collector-controller",
		Writes: []engine.Claim{
			{Kind: anything, Field: "metadata.finalizers[foregroundDeletion]"},
			{Kind: anything, Field: "metadata.finalizers[orphan]"},
			{Kind: anything, Field: "metadata.ownerReferences[absent]"},
		},
		AnyKind: true,
		Setup:   setup,
	}
}

// anything stands for every kind in the declaration.
var anything = plan.Kind{Resource: "*", Kind: "*"}

type collector struct {
	setup *engine.Setup
	loop  *engine.Loop
	// redefined tells that custom kinds may have come or gone.
	redefined chan struct{}

	mu    sync.Mutex
	graph *Graph
	// kinds are those being followed; synced becomes true with the first snapshot.
	kinds map[plan.Kind]*following
	// served finds a kind by what an owner reference says.
	served map[metav1.GroupKind]plan.Kind
	// held are changes of fate that wait until every kind has its first snapshot, or for patience.
	held  map[types.UID]bool
	ready bool
	// absent are owners that a quorum read did not find. A uid never comes back, so this never needs to be forgotten, except
	// for its size.
	absent map[ownerID]bool
}

// ownerID is an owner as a reference names it from a namespace.
type ownerID struct {
	uid              types.UID
	apiVersion, kind string
	namespace, name  string
}

type following struct {
	cancel context.CancelFunc
	synced bool
}

func setup(s *engine.Setup) error {
	c := &collector{
		setup: s, redefined: make(chan struct{}, 1), graph: NewGraph(), kinds: map[plan.Kind]*following{}, served: map[metav1.GroupKind]plan.Kind{}, held: map[types.UID]bool{}, absent: map[ownerID]bool{},
	}
	c.loop = s.Loop(engine.LoopConfig{Name: "garbage_collector_attempt_to_delete", Workers: workers, Step: c.step})
	s.Go(c.follow)
	s.Go(func(ctx context.Context) error {
		s.OnDefinitions(ctx, func() {
			select {
			case c.redefined <- struct{}{}:
			default:
			}
		})
		return nil
	})
	return nil
}

// follow keeps a metadata watch running for every kind there is.
func (c *collector) follow(ctx context.Context) error {
	var watches sync.WaitGroup
	defer watches.Wait()
	ticker := time.NewTicker(rediscover)
	defer ticker.Stop()
	late := time.After(patience)
	for {
		if resources, err := c.setup.Discover(ctx); err == nil {
			c.update(ctx, &watches, resources)
		} else if ctx.Err() == nil {
			c.setup.Log.Warn("cannot discover kinds to collect", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.redefined:
		case <-ticker.C:
		case <-late:
			c.goOn()
		}
	}
}

// update starts watches for new kinds and ends those of kinds that are gone.
func (c *collector) update(ctx context.Context, watches *sync.WaitGroup, resources []engine.Resource) {
	wanted := Collectable(resources)
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.served)
	for _, r := range resources {
		if id := (metav1.GroupKind{Group: r.Group, Kind: r.Kind.Kind}); r.Preferred || c.served[id] == (plan.Kind{}) {
			c.served[id] = r.Kind
		}
	}
	for k, f := range c.kinds {
		if !slices.Contains(wanted, k) {
			f.cancel()
			delete(c.kinds, k)
			c.dirty(c.graph.Replace(k, nil))
		}
	}
	for _, k := range wanted {
		if c.kinds[k] != nil {
			continue
		}
		watchCtx, cancel := context.WithCancel(ctx)
		f := &following{cancel: cancel}
		c.kinds[k] = f
		watches.Go(func() { engine.FollowMeta(watchCtx, c.setup.Client(), k, c.handler(k, f)) })
	}
	c.release()
}

// Collectable returns the kinds to follow, one version each. Events are left out: they are many, short-lived, and own and
// are owned by nothing.
func Collectable(resources []engine.Resource) []plan.Kind {
	return engine.Kinds(resources, func(r engine.Resource) bool {
		return r.Can("list", "watch", "delete") && r.Resource != "events"
	})
}

func (c *collector) handler(k plan.Kind, f *following) engine.MetaHandler {
	locked := func(change func() []types.UID) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.kinds[k] == f {
			c.dirty(change())
		}
	}
	return engine.MetaHandler{
		Snapshot: func(objects []*engine.Meta) {
			locked(func() []types.UID {
				items := make([]*Item, len(objects))
				for i, m := range objects {
					items[i] = newItem(k, m)
				}
				dirty := c.graph.Replace(k, items)
				f.synced = true
				return dirty
			})
			c.mu.Lock()
			defer c.mu.Unlock()
			c.release()
		},
		Changed: func(m *engine.Meta) { locked(func() []types.UID { return c.graph.Put(newItem(k, m)) }) },
		Deleted: func(m *engine.Meta) { locked(func() []types.UID { return c.graph.Remove(m.UID) }) },
	}
}

// dirty queues objects, or holds them until the graph is whole. Call with mu held.
func (c *collector) dirty(uids []types.UID) {
	for _, uid := range uids {
		if c.ready {
			c.loop.Add(string(uid))
		} else {
			c.held[uid] = true
		}
	}
}

// goOn does without the kinds that have no first snapshot by now.
func (c *collector) goOn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ready {
		return
	}
	for k, f := range c.kinds {
		if !f.synced {
			c.setup.Log.Warn("collecting without a kind that cannot be listed", "group", k.Group, "resource", k.Resource)
		}
	}
	c.queue()
}

// release queues what was held, once every kind has its first snapshot. Call with mu held.
func (c *collector) release() {
	if !c.ready && c.whole() {
		c.queue()
	}
}

// queue queues what was held, and from now on at once what changes. Call with mu held.
func (c *collector) queue() {
	c.ready = true
	for uid := range c.held {
		c.loop.Add(string(uid))
	}
	c.held = nil
}

// whole reports whether the graph holds every object of every kind. Call with mu held.
func (c *collector) whole() bool {
	if len(c.kinds) == 0 {
		return false
	}
	for _, f := range c.kinds {
		if !f.synced {
			return false
		}
	}
	return true
}

func (c *collector) step(ctx context.Context, s engine.Step) (plan.Plan, error) {
	in, lookups, ok := c.snapshot(types.UID(s.Key))
	if !ok {
		return plan.Plan{}, nil
	}
	var p plan.Plan
	again := false
	for i, l := range lookups {
		if l.settled {
			continue
		}
		state, known, err := c.lookUp(ctx, in.Item, in.Item.Owners[i])
		if err != nil {
			return plan.Plan{}, err
		}
		if l.misplaced || !known && state == Present {
			p.Event(in.Item.Object(), corev1.EventTypeWarning, "OwnerRefInvalidNamespace", "ownerRef [%s/%s, namespace: %s, name: %s, uid: %s] does not exist in namespace %q",
				in.Item.Owners[i].APIVersion, in.Item.Owners[i].Kind, in.Item.Namespace, in.Item.Owners[i].Name, in.Item.Owners[i].UID, in.Item.Namespace)
		}
		again = again || state == Present
		in.Owners[i] = state
	}
	behind := false
	if lonely(in) {
		held, err := c.hasDependents(ctx, in.Item)
		if err != nil {
			return plan.Plan{}, err
		}
		if behind = held; behind {
			in.Complete = false
		}
	}
	decided := Decide(in)
	switch {
	case behind:
		decided.LookAgain(s.Now, s.Now.Add(catchUp))
	case !in.Complete && (in.Item.orphans() || in.Item.waitsForDependents()):
		decided.LookAgain(s.Now, s.Now.Add(incomplete))
	}
	decided.Events = append(decided.Events, p.Events...)
	if again {
		decided.LookAgain(s.Now, s.Now.Add(recheck))
	}
	return decided, nil
}

// hasDependents asks the API whether anything is left that a deleted owner waits for. It costs a list of each kind, which the
// few owners that are deleted in the foreground or orphan are worth.
func (c *collector) hasDependents(ctx context.Context, it *Item) (bool, error) {
	for _, k := range c.dependentKinds(it) {
		objects, _, err := engine.ListMeta(ctx, c.setup.Client(), k, it.Namespace, 0)
		if apierrors.IsNotFound(err) {
			continue // not served any more
		}
		if err != nil {
			return false, err
		}
		for _, m := range objects {
			d := newItem(k, m)
			if ref := d.owner(it.UID); ref != nil && (it.orphans() || blocked(Input{Item: it, Dependents: []*Item{d}})) {
				return true, nil
			}
		}
	}
	return false, nil
}

// dependentKinds are the kinds that may have it as an owner: a namespaced object owns only what is in its namespace.
func (c *collector) dependentKinds(it *Item) []plan.Kind {
	c.mu.Lock()
	defer c.mu.Unlock()
	var kinds []plan.Kind
	for k := range c.kinds {
		if k.Namespaced || it.Namespace == "" {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// lookup is what the graph says of one owner.
type lookup struct {
	// settled: the graph holds the owner, and it is the one the reference means.
	settled bool
	// misplaced: the graph holds an object of that uid, but of another namespace, kind or name.
	misplaced bool
}

// snapshot copies what a decision needs from the graph.
func (c *collector) snapshot(uid types.UID) (Input, []lookup, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	it := c.graph.Get(uid)
	if it == nil {
		return Input{}, nil, false
	}
	in := Input{Item: it, Dependents: c.graph.Dependents(uid), Complete: c.whole(), Owners: make([]State, len(it.Owners))}
	lookups := make([]lookup, len(it.Owners))
	if it.Deleting {
		return in, make([]lookup, 0), true // Its owners do not matter any more.
	}
	for i, ref := range it.Owners {
		o := c.graph.Get(ref.UID)
		switch {
		case o == nil:
		case !refersTo(ref, it, o):
			lookups[i].misplaced = true
		default:
			lookups[i].settled = true
			if o.waitsForDependents() {
				in.Owners[i] = Waiting
			}
		}
	}
	return in, lookups, true
}

// refersTo reports whether a reference of dependent can mean o: same name and kind, and o cluster-scoped or in the same
// namespace.
func refersTo(ref metav1.OwnerReference, dependent, o *Item) bool {
	return ref.Name == o.Name && ref.Kind == o.Kind.Kind && groupOf(ref) == o.Kind.Group && (o.Namespace == "" || o.Namespace == dependent.Namespace)
}

// lookUp asks the API for an owner that the graph does not hold. known is false if the question makes no sense: the kind
// is not served, or a cluster-scoped object names a namespaced owner. Such an owner counts as present, since nothing
// proves that it is gone.
func (c *collector) lookUp(ctx context.Context, it *Item, ref metav1.OwnerReference) (state State, known bool, err error) {
	k, ok := c.kindOf(ref)
	if !ok {
		return Present, false, nil
	}
	if k.Namespaced && it.Namespace == "" {
		return Present, false, nil
	}
	id := ownerID{ref.UID, ref.APIVersion, ref.Kind, it.Namespace, ref.Name}
	if c.knownAbsent(id) {
		return Absent, true, nil
	}
	meta, err := engine.GetMeta(ctx, c.setup.Client(), k, it.Namespace, ref.Name)
	switch {
	case err != nil && !apierrors.IsNotFound(err):
		return Present, true, err
	case err != nil || meta.UID != ref.UID:
		c.noteAbsent(id)
		return Absent, true, nil
	case newItem(k, meta).waitsForDependents():
		return Waiting, true, nil
	}
	return Present, true, nil
}

func (c *collector) knownAbsent(id ownerID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.absent[id]
}

func (c *collector) noteAbsent(id ownerID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.absent) >= maxAbsent {
		clear(c.absent)
	}
	c.absent[id] = true
}

func (c *collector) kindOf(ref metav1.OwnerReference) (plan.Kind, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.served[metav1.GroupKind{Group: groupOf(ref), Kind: ref.Kind}]
	return k, ok
}

func groupOf(ref metav1.OwnerReference) string {
	group, _, ok := strings.Cut(ref.APIVersion, "/")
	if !ok {
		return ""
	}
	return group
}

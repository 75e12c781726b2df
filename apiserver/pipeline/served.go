package pipeline

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/watchcache"
)

// served is what the pipeline serves at one moment. It never changes; another one takes its place.
type served struct {
	set     *registry.Set
	handles map[schema.GroupVersionResource]*handle
}

func (s *served) lookup(group, version, plural string) (*handle, bool) {
	res, ok := s.set.Lookup(group, version, plural)
	if !ok {
		return nil, false
	}
	return s.handles[res.GVR()], true
}

// serving holds the present served, and what it is made of: the fixed kinds, and the custom ones of the last Serve.
type serving struct {
	current atomic.Pointer[served]
	fixed   *served
	// told is closed when custom resources have been told for the first time; closed from the start if there are none.
	told chan struct{}
	// catchUp waits until the custom resources are those of the store's present definitions; nil if there are none.
	catchUp func(context.Context) error

	// mu is held while the custom resources are replaced: a request whose cache has gone waits for it and looks again.
	mu     sync.RWMutex
	caches map[string]*customCache // by key prefix
}

// customCache is the cache of one CustomResourceDefinition's objects.
type customCache struct {
	form  any
	cache *watchcache.Cache
}

func (s *serving) init(set *registry.Set, handles map[schema.GroupVersionResource]*handle, dynamic bool) {
	s.fixed, s.told, s.caches = &served{set, handles}, make(chan struct{}), map[string]*customCache{}
	s.current.Store(s.fixed)
	if !dynamic {
		close(s.told)
	}
}

func (s *serving) now() *served { return s.current.Load() }

// lookup finds a resource. One that is not there may be a custom one that a server that has just begun has not read yet.
func (s *serving) lookup(ctx context.Context, group, version, plural string) (*handle, error) {
	if h, ok := s.now().lookup(group, version, plural); ok {
		return h, nil
	}
	select {
	case <-s.told:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if h, ok := s.now().lookup(group, version, plural); ok {
		return h, nil
	}
	// Another server may have said that it is there.
	if s.catchUp != nil && strings.Contains(group, ".") {
		if err := s.catchUp(ctx); err != nil {
			return nil, err
		}
		if h, ok := s.now().lookup(group, version, plural); ok {
			return h, nil
		}
	}
	return nil, notServed()
}

// fixedHandles adds a cache to the feed for each resource of a set.
func fixedHandles(set *registry.Set, feed *watchcache.Feed) (map[schema.GroupVersionResource]*handle, error) {
	handles := map[schema.GroupVersionResource]*handle{}
	for _, res := range set.All() {
		if res.KeyPrefix == "" {
			handles[res.GVR()] = &handle{res: res} // never stored
			continue
		}
		if res.Stored != nil {
			continue
		}
		c, err := feed.Add(cacheConfig(res))
		if err != nil {
			return nil, err
		}
		handles[res.GVR()] = &handle{res: res, cache: c}
	}
	for _, res := range set.All() {
		if res.Stored == nil {
			continue
		}
		if err := shareCache(set, handles, res); err != nil {
			return nil, err
		}
	}
	return handles, nil
}

// WaitSet waits until the set holds the custom resources that are defined at present, by whatever server, and returns it.
func (p *Pipeline) WaitSet(ctx context.Context) (*registry.Set, error) {
	select {
	case <-p.served.told:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if p.served.catchUp != nil {
		if err := p.served.catchUp(ctx); err != nil {
			return nil, err
		}
	}
	return p.Set(), nil
}

// SetCatchUp sets what waits until Serve has been called with all that the store's present definitions define, before the pipeline
// serves its first request.
func (p *Pipeline) SetCatchUp(wait func(context.Context) error) { p.served.catchUp = wait }

// ChangedAt returns a revision at which the last change of a resource's objects has been seen by every watch that has got so far,
// quorum-fresh.
func (p *Pipeline) ChangedAt(ctx context.Context, group, plural string) (storage.Revision, error) {
	h, err := p.handleFor(group, plural)
	if err != nil {
		return 0, err
	}
	if _, err := h.cache.Snapshot(ctx, readFresh); err != nil {
		return 0, storeError(h.gr(), "", err)
	}
	return storage.Revision(h.cache.Changed()), nil
}

// Serve replaces the custom resources that are served beside the fixed ones. Resources with one key prefix are the versions
// of one definition and share a cache; it is kept if their Form is still the same, and otherwise begins anew: its watches end
// with Expired. It returns when every request that begins from now on sees the change.
func (p *Pipeline) Serve(custom []*registry.Resource) error {
	s := &p.served
	set, err := s.fixed.set.With(custom...)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := map[string]*registry.Resource{}
	for _, res := range custom {
		wanted[res.KeyPrefix] = res
	}
	for prefix, have := range s.caches {
		if res, ok := wanted[prefix]; !ok || res.Custom.Form != have.form {
			p.cfg.Feed.Remove(have.cache)
			delete(s.caches, prefix)
		}
	}
	for prefix, res := range wanted {
		if s.caches[prefix] != nil {
			continue
		}
		c, err := p.cfg.Feed.Add(cacheConfig(res))
		if err != nil {
			return fmt.Errorf("pipeline: serving %s: %w", res.Kind, err)
		}
		s.caches[prefix] = &customCache{form: res.Custom.Form, cache: c}
	}
	next := &served{set: set, handles: make(map[schema.GroupVersionResource]*handle, len(s.fixed.handles)+len(custom))}
	for gvr, h := range s.fixed.handles {
		next.handles[gvr] = h
	}
	for _, res := range custom {
		next.handles[res.GVR()] = &handle{res: res, cache: s.caches[res.KeyPrefix].cache}
	}
	s.current.Store(next)
	select {
	case <-s.told:
	default:
		close(s.told)
	}
	return nil
}

// serve answers a request with its resource's handle, and begins again with another one if that has been replaced meanwhile.
func serve[T any](ctx context.Context, p *Pipeline, r *Request, answer func(*handle) (T, error)) (T, error) {
	for {
		h, err := p.lookup(ctx, r)
		if err != nil {
			var none T
			return none, err
		}
		res, err := answer(h)
		if err == nil || !apierrors.IsServiceUnavailable(err) || !p.replaced(h) {
			return res, err
		}
	}
}

// replaced reports whether a handle's cache has gone because its definition changed while a request used it, in which case
// the request begins again. It waits for a replacement that is under way.
func (p *Pipeline) replaced(h *handle) bool {
	if h == nil || h.res.Custom == nil {
		return false
	}
	p.served.mu.RLock()
	defer p.served.mu.RUnlock()
	now, ok := p.served.now().handles[h.res.GVR()]
	return !ok || now.cache != h.cache
}

// Fixed is what is served whatever custom resources there are.
func (p *Pipeline) Fixed() *registry.Set { return p.served.fixed.set }

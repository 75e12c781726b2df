package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/patch"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/codec"
	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/watchcache"
	"bareboat.dev/apiserver/watchcache/frame"
)

// Config is what a Pipeline is made of.
type Config struct {
	Set    *registry.Set
	Engine storage.Engine
	Feed   *watchcache.Feed
	// Dynamic: custom resources will be told with Serve, and what the set does not have may still come until then.
	Dynamic bool
	// Authorizer decides who may do what.
	Authorizer authz.Authorizer
	// Plugins run in this order. They may be set later with SetPlugins, as some read through the pipeline.
	Plugins []admission.Plugin
	// Connectors serve the subresources that have code of their own ("token"), by "group/resource/subresource", and, with
	// an empty subresource, the resources that are never stored.
	Connectors map[string]Connector
	// Computed make the objects of the resources that are read and never stored, by "group/resource".
	Computed map[string]Computed
	// Elsewhere reports whether another API server serves a group and version (any version if it is empty); nil: none does.
	Elsewhere func(group, version string) bool
	// Observers see every request when it has ended (audit, metrics).
	Observers []Observer
	// Picker's randomness and the clock, so that tests can be deterministic.
	Now  func() time.Time
	Rand func(n int) int
	Log  *slog.Logger
}

// Connector serves a subresource that is more than a change of its object, or a resource that is never stored. Stored is the
// shared, current object; nil for the latter.
type Connector func(ctx context.Context, p *Pipeline, r *Request, stored registry.Object) (*Result, error)

// Observer sees requests end.
type Observer interface {
	// Observe is called once for each request, also when it failed. It must not block.
	Observe(ctx context.Context, e *Observation)
}

// Observation is a request that has ended.
type Observation struct {
	Request *Request
	Start   time.Time
	End     time.Time
	// Err is nil if the request succeeded.
	Err error
	// Created is true if the request made an object.
	Created bool
}

// Pipeline serves requests. It is safe for concurrent use.
type Pipeline struct {
	cfg    Config
	codec  *codec.Codec
	served serving
	// definitions is the resource whose objects define custom ones; nil if there is none.
	definitions *handle
	fields      *patch.Fields
	shapes      shapeCache
	// obeyed are the resources that admission goes by.
	obeyed map[schema.GroupResource]bool
	now    func() time.Time
}

// handle is one resource with its cache, which a resource that is never stored has not.
type handle struct {
	res   *registry.Resource
	cache *watchcache.Cache
	// open is the newest revision at which the definition of a custom resource was seen not to be deleted.
	open atomic.Int64
}

func (h *handle) gr() schema.GroupResource {
	return schema.GroupResource{Group: h.res.Kind.Group, Resource: h.res.Plural}
}

// New makes a pipeline and adds a cache to the feed for each resource of the set.
func New(cfg Config) (*Pipeline, error) {
	p := &Pipeline{cfg: cfg, codec: codec.New(cfg.Set), fields: patch.NewFields(cfg.Set), now: cfg.Now}
	handles, err := fixedHandles(cfg.Set, cfg.Feed)
	if err != nil {
		return nil, err
	}
	p.definitions = definitions(slices.Collect(maps.Values(handles)))
	p.served.init(cfg.Set, handles, cfg.Dynamic)
	return p, nil
}

// cacheConfig describes a resource to the watch cache.
func cacheConfig(res *registry.Resource) watchcache.Config {
	var fields func(watchcache.Object) map[string]string
	selectable := res.Fields
	if res.Custom != nil {
		selectable = res.Custom.Selectable
	}
	if len(selectable) > 0 {
		fields = func(obj watchcache.Object) map[string]string {
			m := make(map[string]string, len(selectable))
			for path, get := range selectable {
				m[path] = get(obj.(registry.Object))
			}
			return m
		}
	}
	var view func([]byte) ([]byte, error)
	if res.Custom != nil {
		view = res.Custom.View
	}
	return watchcache.Config{
		View:       view,
		Name:       schema.GroupResource{Group: res.Kind.Group, Resource: res.Plural}.String(),
		Prefix:     res.KeyPrefix,
		Namespaced: res.Namespaced,
		Decode:     func(f frame.Frame) (watchcache.Object, error) { return decodeFrame(res, f) },
		Fields:     fields,
		Indexes:    slices.DeleteFunc(slices.Clone(res.IndexedFields), func(f string) bool { return f == "metadata.name" || f == "metadata.namespace" }),
	}
}

func decodeFrame(res *registry.Resource, f frame.Frame) (registry.Object, error) {
	obj := res.New()
	if err := obj.Unmarshal(f.Object()); err != nil {
		return nil, err
	}
	if res.Custom != nil {
		return obj, nil // it says itself in which version it is
	}
	obj.GetObjectKind().SetGroupVersionKind(res.Kind)
	return obj, nil
}

// SetPlugins sets the admission plugins before the pipeline serves its first request.
func (p *Pipeline) SetPlugins(plugins []admission.Plugin) {
	p.cfg.Plugins = plugins
	p.obeyed = map[schema.GroupResource]bool{}
	for i := range plugins {
		for _, gr := range plugins[i].Obeys {
			p.obeyed[gr] = true
		}
	}
}

// Set is what the pipeline serves at the moment. It is read per request and not kept: custom resources come and go.
func (p *Pipeline) Set() *registry.Set { return p.served.now().set }

// Codec is the codec of the set.
func (p *Pipeline) Codec() *codec.Codec { return p.codec }

// lookup finds a request's resource and completes its version.
func (p *Pipeline) lookup(ctx context.Context, r *Request) (*handle, error) {
	h, err := p.served.lookup(ctx, r.Group, r.Version, r.Resource)
	if err != nil {
		if p.cfg.Elsewhere != nil && p.cfg.Elsewhere(r.Group, r.Version) {
			return nil, servedElsewhere(r)
		}
		return nil, err
	}
	res := h.res
	sub, known := res.Subresources[r.Subresource]
	// What a client makes up is no label of a metric.
	r.Version, r.Served = res.Kind.Version, known || r.Subresource == ""
	if !res.Namespaced && r.Namespace != "" && !(res.Plural == "namespaces" && res.Kind.Group == "") {
		return nil, apierrors.NewBadRequest("namespace is not allowed for a cluster-scoped resource")
	}
	if !res.Namespaced {
		r.Namespace = ""
	}
	if r.Subresource == "" {
		if len(res.Verbs) > 0 && !slices.Contains(res.Verbs, string(r.Verb)) {
			return nil, methodNotAllowed(h, r)
		}
		return h, nil
	}
	if !known {
		return nil, notServed()
	}
	if !slices.Contains(sub.Verbs, string(r.Verb)) {
		return nil, methodNotAllowed(h, r)
	}
	return h, nil
}

func methodNotAllowed(*handle, *Request) error {
	return MethodNotAllowed()
}

// Authorize decides whether the caller may do what the request says, and returns Forbidden if not. It is the one function
// that both doors and all verbs pass.
func (p *Pipeline) Authorize(ctx context.Context, r *Request) error {
	return p.authorize(ctx, r, string(r.Verb))
}

func (p *Pipeline) authorize(ctx context.Context, r *Request, verb string) error {
	name := r.Name
	if verb == string(Create) && r.Subresource == "" {
		name = ""
	}
	a := &authz.Attributes{
		User: r.User, Verb: verb, Group: r.Group, Version: r.Version, Resource: r.Resource, Subresource: r.Subresource,
		Namespace: r.Namespace, Name: name, Fields: equalities(r.FieldSelector), Labels: labelEqualities(r.LabelSelector),
	}
	if a.Name == "" && (r.Verb == List || r.Verb == Watch || r.Verb == DeleteCollection) {
		// As in Kubernetes, a selection of one name is a request for that object, which a rule may name.
		a.Name = a.Fields["metadata.name"]
	}
	if r.Group == "" && r.Resource == "namespaces" && name != "" {
		a.Namespace = name // as in Kubernetes, a namespace is in itself, so that a Role in it can cover it
	}
	return p.AuthorizeAttributes(ctx, a)
}

// AuthorizeAttributes decides on anything, also on non-resource paths and node streams.
func (p *Pipeline) AuthorizeAttributes(ctx context.Context, a *authz.Attributes) error {
	d, reason, err := p.cfg.Authorizer.Authorize(ctx, a)
	switch {
	case err != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
		return err
	case err != nil:
		return apierrors.NewInternalError(err)
	case d != authz.Allow:
		return forbidden(a, reason)
	}
	return nil
}

// Do serves every verb but List and Watch.
func (p *Pipeline) Do(ctx context.Context, r *Request) (*Result, error) {
	start := p.now()
	if r.Verb != Get {
		r.Notes = &admission.Notes{}
	}
	res, err := p.do(ctx, r)
	if err == nil && p.obeyed[schema.GroupResource{Group: r.Group, Resource: r.Resource}] {
		err = p.obey(ctx, r, res)
	}
	p.observe(ctx, r, start, err, res != nil && res.Created)
	if more := r.Notes.Warnings(); err == nil && len(more) > 0 {
		res.Warnings = dedupe(append(res.Warnings, more...))
	}
	return res, warned(r, err)
}

func (p *Pipeline) do(ctx context.Context, r *Request) (*Result, error) {
	return serve(ctx, p, r, func(h *handle) (*Result, error) {
		res, err := p.doWith(ctx, h, r)
		if err == nil {
			p.finish(ctx, h, r, res)
		}
		return res, err
	})
}

// finish does what custom resources and their definitions ask for after a request has succeeded.
func (p *Pipeline) finish(ctx context.Context, h *handle, r *Request, res *Result) {
	if h.res.Custom != nil {
		res.Warnings = append(res.Warnings, h.res.Custom.Warnings...)
	}
	// What follows the definitions writes them as well, and does not wait for itself.
	if !h.res.Defines || r.Verb == Get || r.Door == selfDoor || p.served.catchUp == nil {
		return
	}
	if err := p.served.catchUp(ctx); err != nil && ctx.Err() == nil {
		p.cfg.Log.Warn("waiting for a definition to be served failed", "name", r.Name, "error", err)
	}
}

func (p *Pipeline) doWith(ctx context.Context, h *handle, r *Request) (*Result, error) {
	if err := p.Authorize(ctx, r); err != nil {
		return nil, err
	}
	if r.Name == "" && r.Verb != Create && r.Verb != DeleteCollection {
		return nil, apierrors.NewBadRequest("name is required")
	}
	if h.cache == nil {
		return p.answer(ctx, r)
	}
	if h.res.Namespaced && r.Namespace == "" && r.Verb != DeleteCollection {
		return nil, apierrors.NewBadRequest("an empty namespace may not be set when a resource name is provided")
	}
	if r.Subresource != "" && h.res.Subresources[r.Subresource].Connect {
		return p.connect(ctx, h, r)
	}
	switch r.Verb {
	case Get:
		return p.get(ctx, h, r)
	case Create:
		if r.Subresource != "" {
			return p.createSubresource(ctx, h, r)
		}
		return p.create(ctx, h, r)
	case Update:
		return p.update(ctx, h, r)
	case Patch:
		return p.patch(ctx, h, r)
	case Delete:
		return p.delete(ctx, h, r)
	case DeleteCollection:
		return p.deleteCollection(ctx, h, r)
	}
	return nil, methodNotAllowed(h, r)
}

func (p *Pipeline) connect(ctx context.Context, h *handle, r *Request) (*Result, error) {
	c, ok := p.cfg.Connectors[r.Group+"/"+r.Resource+"/"+r.Subresource]
	if !ok {
		return nil, notServed()
	}
	cur, err := p.current(ctx, h, r.Namespace, r.Name, true)
	if err != nil {
		return nil, storeError(h.gr(), r.Name, err)
	}
	return c(ctx, p, r, cur.obj)
}

// answer serves a resource that is never stored.
func (p *Pipeline) answer(ctx context.Context, r *Request) (*Result, error) {
	if c, ok := p.computed(r); ok {
		return p.getComputed(ctx, r, c)
	}
	c, ok := p.cfg.Connectors[r.Group+"/"+r.Resource+"/"]
	if !ok {
		return nil, notServed()
	}
	return c(ctx, p, r, nil)
}

// observe tells the observers.
func (p *Pipeline) observe(ctx context.Context, r *Request, start time.Time, err error, created bool) {
	if len(p.cfg.Observers) == 0 {
		return
	}
	e := Observation{Request: r, Start: start, End: p.now(), Err: err, Created: created}
	for _, o := range p.cfg.Observers {
		o.Observe(ctx, &e)
	}
}

// Observed reports a request that a door served by itself, such as a stream to a node.
func (p *Pipeline) Observed(ctx context.Context, r *Request, start time.Time, err error) {
	p.observe(ctx, r, start, err, false)
}

// Code is the HTTP status of an error, 200 for nil.
func Code(err error) int {
	if err == nil {
		return 200
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return int(status.Status().Code)
	}
	if errors.Is(err, context.Canceled) {
		return 499
	}
	return 504
}

// microTime is the clock as metav1 keeps it in objects: whole seconds.
func (p *Pipeline) timestamp() metav1.Time { return metav1.NewTime(p.now().Truncate(time.Second)) }

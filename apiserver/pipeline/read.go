package pipeline

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/storage"
	"bareboat.dev/apiserver/watchcache"
)

// readOptions understands a read's resource version.
func readOptions(r *Request) (watchcache.ReadOptions, error) {
	rev, err := parseVersion(r.ResourceVersion)
	if err != nil {
		return watchcache.ReadOptions{}, apierrors.NewBadRequest("invalid resource version: " + err.Error())
	}
	o := watchcache.ReadOptions{Revision: rev}
	switch r.Match {
	case MatchUnset, MatchNotOlderThan:
	case MatchExact:
		o.Match = watchcache.Exact
		if rev == 0 {
			return o, invalidListOptions("resourceVersionMatch", `resourceVersionMatch "Exact" is forbidden for resourceVersion "0"`)
		}
	default:
		return o, invalidListOptions("resourceVersionMatch", fmt.Sprintf("Unsupported value: %q: supported values: \"Exact\", \"NotOlderThan\"", r.Match))
	}
	if r.Match != MatchUnset && r.ResourceVersion == "" {
		return o, invalidListOptions("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided")
	}
	o.AnyRevision = r.ResourceVersion == "0"
	return o, nil
}

// invalidListOptions is Kubernetes' answer to list parameters that contradict each other.
func invalidListOptions(field, detail string) error {
	return apierrors.NewInvalid(metav1.SchemeGroupVersion.WithKind("ListOptions").GroupKind(), "", forbiddenField(field, detail))
}

func (p *Pipeline) get(ctx context.Context, h *handle, r *Request) (*Result, error) {
	o, err := readOptions(r)
	if err != nil {
		return nil, err
	}
	it, _, err := h.cache.Get(ctx, r.Namespace, r.Name, o)
	if err != nil {
		return nil, storeError(h.gr(), r.Name, err)
	}
	if r.Subresource == "" {
		return &Result{Object: h.itemObject(it)}, nil
	}
	sub := h.res.Subresources[r.Subresource]
	if sub.Get == nil {
		return &Result{Object: h.itemObject(it)}, nil
	}
	obj, err := h.object(it)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	body, err := sub.Get(obj)
	if err != nil {
		return nil, subresourceError(h, r.Name, err)
	}
	return &Result{Object: foreignObject(sub.Kind, body)}, nil
}

// Listing is the answer to a List: one consistent state, streamed.
type Listing struct {
	Resource *registry.Resource
	Revision storage.Revision
	// Continue is the token of a limited list that has more; Remaining how many are left, or -1.
	Continue  string
	Remaining int64
	// Objects yields the selected objects in key order. An error ends it.
	Objects iter.Seq2[*Object, error]
	// Size is how many objects there are, or -1 if that is not known before they have been read.
	Size int
}

// List answers a List request.
func (p *Pipeline) List(ctx context.Context, r *Request) (*Listing, error) {
	start := p.now()
	l, err := serve(ctx, p, r, func(h *handle) (*Listing, error) { return p.list(ctx, h, r) })
	p.observe(ctx, r, start, err, false)
	return l, err
}

func (p *Pipeline) list(ctx context.Context, h *handle, r *Request) (*Listing, error) {
	if err := p.Authorize(ctx, r); err != nil {
		return nil, err
	}
	if c, ok := p.computed(r); ok {
		return p.listComputed(ctx, h, r, c)
	}
	q, err := h.query(r)
	if err != nil {
		return nil, err
	}
	if r.Limit < 0 {
		return nil, invalidListOptions("limit", "must be greater than or equal to 0")
	}
	if r.Continue != "" {
		return p.listOn(ctx, h, q, r)
	}
	o, err := readOptions(r)
	if err != nil {
		return nil, err
	}
	if r.Limit == 0 {
		return h.listAll(ctx, q, o)
	}
	// As in Kubernetes, a limited list "at 0" may be answered fresh.
	page, err := h.cache.List(ctx, q, watchcache.ListOptions{ReadOptions: o, Limit: int(r.Limit)})
	if err != nil {
		return nil, storeError(h.gr(), "", err)
	}
	return h.listPage(page)
}

// listAll streams a whole snapshot.
func (h *handle) listAll(ctx context.Context, q watchcache.Query, o watchcache.ReadOptions) (*Listing, error) {
	snap, err := h.cache.Snapshot(ctx, o)
	if err != nil {
		return nil, storeError(h.gr(), "", err)
	}
	objects := func(yield func(*Object, error) bool) {
		for it, err := range h.prepared(snap.Items(ctx, q, "")) {
			if err != nil {
				yield(nil, storeError(h.gr(), "", err))
				return
			}
			if !yield(h.itemObject(it), nil) {
				return
			}
		}
	}
	return &Listing{Resource: h.res, Revision: snap.Revision(), Objects: objects, Size: -1, Remaining: -1}, nil
}

// listOn goes on with a limited list.
func (p *Pipeline) listOn(ctx context.Context, h *handle, q watchcache.Query, r *Request) (*Listing, error) {
	if r.ResourceVersion != "" && r.ResourceVersion != "0" {
		return nil, apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
	}
	after, rev, err := decodeContinue(h.res.KeyPrefix, r.Continue)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	o := watchcache.ListOptions{After: after, Limit: int(r.Limit)}
	if rev > 0 {
		o.Revision, o.Match = rev, watchcache.Exact
	}
	page, err := h.cache.List(ctx, q, o)
	if errors.Is(err, watchcache.ErrExpired) || errors.Is(err, storage.ErrCompacted) {
		return nil, expiredContinue(h.res.KeyPrefix, after)
	}
	if err != nil {
		return nil, storeError(h.gr(), "", err)
	}
	return h.listPage(page)
}

// expiredContinue is 410 with a token that goes on, inconsistently, at the newest state.
func expiredContinue(prefix, after string) error {
	token, err := encodeContinue(prefix, after, -1)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	e := apierrors.NewResourceExpired("The provided continue parameter is too old " +
		"to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this " +
		"response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects " +
		"that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.")
	e.ErrStatus.Continue = token
	return e
}

func (h *handle) listPage(page watchcache.Page) (*Listing, error) {
	l := &Listing{Resource: h.res, Revision: page.Revision, Remaining: page.Remaining, Size: len(page.Items)}
	if page.Next != "" {
		var err error
		if l.Continue, err = encodeContinue(h.res.KeyPrefix, page.Next, page.Revision); err != nil {
			return nil, apierrors.NewInternalError(err)
		}
	}
	l.Objects = func(yield func(*Object, error) bool) {
		for it, err := range h.prepared(all(page.Items)) {
			if err != nil {
				yield(nil, storeError(h.gr(), "", err))
				return
			}
			if !yield(h.itemObject(it), nil) {
				return
			}
		}
	}
	return l, nil
}

// Stream is the answer to a Watch.
type Stream struct {
	Resource *registry.Resource
	Cursor   *watchcache.Cursor
	h        *handle
}

// Object wraps an event's item.
func (s *Stream) Object(e *watchcache.Event) *Object { return s.h.itemObject(e.Item) }

// Encoded is the event's Encoded for this stream: a form is shared by the streams that see the object in the same version.
func (s *Stream) Encoded(e *watchcache.Event, form string, build func(*watchcache.Event) ([]byte, error)) ([]byte, error) {
	return e.Encoded(s.form(form), build)
}

// Shared is the event's Shared for this stream.
func (s *Stream) Shared(e *watchcache.Event, form string, build func(*watchcache.Event) (any, error)) (any, error) {
	return e.Shared(s.form(form), build)
}

func (s *Stream) form(form string) string {
	if s.Resource.Stored != nil {
		form += "/" + s.Resource.Kind.GroupVersion().String()
	}
	return form
}

// Error translates an error of the cursor.
func (s *Stream) Error(err error) error { return storeError(s.h.gr(), "", err) }

// bookmarkEvery is how long a watch may stay silent: Kubernetes' interval, of which a client loses at most as much history.
const bookmarkEvery = minute

// Watch answers a Watch request. The caller closes the stream's cursor.
func (p *Pipeline) Watch(ctx context.Context, r *Request) (*Stream, error) {
	return serve(ctx, p, r, func(h *handle) (*Stream, error) { return p.watch(ctx, h, r) })
}

func (p *Pipeline) watch(ctx context.Context, h *handle, r *Request) (*Stream, error) {
	if err := p.Authorize(ctx, r); err != nil {
		return nil, err
	}
	q, err := h.query(r)
	if err != nil {
		return nil, err
	}
	rev, err := parseVersion(r.ResourceVersion)
	if err != nil {
		return nil, apierrors.NewBadRequest("invalid resource version: " + err.Error())
	}
	o := watchcache.WatchOptions{From: rev, InitialEvents: r.SendInitialEvents || rev == 0, AnyRevision: r.ResourceVersion == "0"}
	if r.Bookmarks {
		o.Bookmarks = bookmarkEvery
	}
	c, err := h.cache.Watch(ctx, q, o)
	if err != nil {
		if errors.Is(err, watchcache.ErrExpired) {
			return nil, apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d", rev))
		}
		return nil, storeError(h.gr(), "", err)
	}
	return &Stream{Resource: h.res, Cursor: c, h: h}, nil
}

// Object implements admission.Reader.
func (p *Pipeline) Object(ctx context.Context, group, plural, namespace, name string, fresh bool) (registry.Object, bool, error) {
	h, err := p.handleFor(group, plural)
	if err != nil {
		return nil, false, err
	}
	it, _, err := h.cache.Get(ctx, namespace, name, watchcache.ReadOptions{AnyRevision: !fresh})
	if errors.Is(err, watchcache.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	obj, err := h.object(it)
	if err != nil {
		return nil, false, err
	}
	return obj, true, nil
}

// Objects implements admission.Reader.
func (p *Pipeline) Objects(ctx context.Context, group, plural, namespace string) ([]registry.Object, error) {
	return p.Select(ctx, group, plural, watchcache.Query{Namespace: namespace}, false)
}

// Select returns the decoded objects that a query selects, for the server's own use.
func (p *Pipeline) Select(ctx context.Context, group, plural string, q watchcache.Query, fresh bool) ([]registry.Object, error) {
	h, err := p.handleFor(group, plural)
	if err != nil {
		return nil, err
	}
	page, err := h.cache.List(ctx, q, watchcache.ListOptions{ReadOptions: watchcache.ReadOptions{AnyRevision: !fresh}})
	if err != nil {
		return nil, err
	}
	out := make([]registry.Object, 0, len(page.Items))
	for _, it := range page.Items {
		obj, err := h.object(it)
		if err != nil {
			return nil, err
		}
		out = append(out, obj)
	}
	return out, nil
}

func (p *Pipeline) handleFor(group, plural string) (*handle, error) {
	h, ok := p.served.now().lookup(group, "", plural)
	if !ok {
		return nil, notServed()
	}
	return h, nil
}

// readFresh is a quorum-fresh read.
var readFresh = watchcache.ReadOptions{}

// Fresh returns every object of a resource in a namespace, quorum-fresh.
func (p *Pipeline) Fresh(ctx context.Context, group, plural, namespace string) ([]registry.Object, error) {
	return p.Select(ctx, group, plural, watchcache.Query{Namespace: namespace}, true)
}

// Now is the server's clock.
func (p *Pipeline) Now() time.Time { return p.now() }

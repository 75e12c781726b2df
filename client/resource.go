package client

import (
	"context"
	"errors"
	"io"
	"strconv"

	"google.golang.org/protobuf/types/known/anypb"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// Resource reads and writes the objects of one kind.
type Resource[T Object] struct {
	c    *Client
	kind Kind[T]
}

// Of returns the client of one kind.
func Of[T Object](c *Client, k Kind[T]) *Resource[T] {
	return &Resource[T]{c: c, kind: k}
}

// Kind returns the descriptor.
func (r *Resource[T]) Kind() Kind[T] { return r.kind }

// Get returns one object; apierrors.IsNotFound if it does not exist.
func (r *Resource[T]) Get(ctx context.Context, namespace, name string, opts ...ReadOption) (T, error) {
	req := &apiv1.GetRequest{Ref: r.kind.Ref(namespace, name)}
	for _, o := range opts {
		o(req)
	}
	resp, err := r.c.resources.Get(ctx, req)
	return r.one(ctx, resp.GetObject(), err)
}

// List returns one consistent snapshot of the selected objects of a namespace ("" for all namespaces), in key order, and
// its revision. With opts.Limit it returns the first page only; use ListPage to go on.
func (r *Resource[T]) List(ctx context.Context, namespace string, opts ListOptions) ([]T, Revision, error) {
	page, err := r.ListPage(ctx, namespace, opts)
	return page.Items, page.Revision, err
}

// Page is one part of a limited list.
type Page[T Object] struct {
	Items []T
	// Revision of the snapshot, the same for all its pages.
	Revision Revision
	// Continue is the token of the next page, empty on the last.
	Continue string
	// Remaining is how many objects are left, -1 if the server did not say.
	Remaining int64
}

// ListPage returns at most opts.Limit objects and the token to go on with.
func (r *Resource[T]) ListPage(ctx context.Context, namespace string, opts ListOptions) (Page[T], error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	page := Page[T]{Remaining: -1}
	stream, err := r.c.resources.List(ctx, opts.request(r.kind.Ref(namespace, "")))
	if err != nil {
		return page, FromGRPC(ctx, err)
	}
	decode := r.kind.decoder()
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return page, nil
		}
		if err != nil {
			return Page[T]{}, FromGRPC(ctx, err)
		}
		for _, item := range msg.GetItems() {
			obj, err := decode(item)
			if err != nil {
				return Page[T]{}, err
			}
			page.Items = append(page.Items, obj)
		}
		page.Revision, page.Continue = msg.GetRevision(), msg.GetContinue()
		if n := msg.GetRemainingItemCount(); n != nil {
			page.Remaining = n.GetValue()
		}
	}
}

// Create stores a new object in the namespace that its metadata names and returns it as stored.
func (r *Resource[T]) Create(ctx context.Context, obj T, opts ...WriteOption) (T, error) {
	return r.CreateSubresource(ctx, obj, "", opts...)
}

// CreateSubresource posts obj to a subresource of the object that its metadata names, e.g. "binding".
func (r *Resource[T]) CreateSubresource(ctx context.Context, obj T, subresource string, opts ...WriteOption) (T, error) {
	var zero T
	req, err := createRequest(r.kind, obj, subresource, opts)
	if err != nil {
		return zero, err
	}
	resp, err := r.c.resources.Create(ctx, req)
	return r.one(ctx, resp.GetObject(), err)
}

// Update replaces an object. If obj carries a resource version the write is conditional on it: apierrors.IsConflict if the
// stored object has moved on.
func (r *Resource[T]) Update(ctx context.Context, obj T, opts ...WriteOption) (T, error) {
	return r.UpdateSubresource(ctx, obj, "", opts...)
}

// UpdateStatus writes only the object's status.
func (r *Resource[T]) UpdateStatus(ctx context.Context, obj T, opts ...WriteOption) (T, error) {
	return r.UpdateSubresource(ctx, obj, "status", opts...)
}

// UpdateSubresource replaces a subresource whose body is of this kind, e.g. "status", "finalize", "approval".
func (r *Resource[T]) UpdateSubresource(ctx context.Context, obj T, subresource string, opts ...WriteOption) (T, error) {
	var zero T
	req, err := updateRequest(r.kind, obj, subresource, opts)
	if err != nil {
		return zero, err
	}
	resp, err := r.c.resources.Update(ctx, req)
	return r.one(ctx, resp.GetObject(), err)
}

// Patch changes an object in place and returns it as stored.
func (r *Resource[T]) Patch(ctx context.Context, namespace, name string, t PatchType, data []byte, opts PatchOptions) (T, error) {
	resp, err := r.c.resources.Patch(ctx, patchRequest(r.kind, namespace, name, t, data, opts))
	return r.one(ctx, resp.GetObject(), err)
}

// Delete deletes an object, or marks it for deletion if it has finalizers or a grace period.
func (r *Resource[T]) Delete(ctx context.Context, namespace, name string, opts DeleteOptions) error {
	_, err := r.c.resources.Delete(ctx, &apiv1.DeleteRequest{Ref: r.kind.Ref(namespace, name), Options: opts.wire()})
	return FromGRPC(ctx, err)
}

// DeleteCollection deletes every selected object and returns how many were deleted or marked for deletion.
func (r *Resource[T]) DeleteCollection(ctx context.Context, namespace string, list ListOptions, opts DeleteOptions) (int64, error) {
	resp, err := r.c.resources.DeleteCollection(ctx, &apiv1.DeleteCollectionRequest{
		Ref: r.kind.Ref(namespace, ""), LabelSelector: list.LabelSelector, FieldSelector: list.FieldSelector, Options: opts.wire(),
	})
	return resp.GetCount(), FromGRPC(ctx, err)
}

// one finishes a unary call that returns an object.
func (r *Resource[T]) one(ctx context.Context, a *anypb.Any, err error) (T, error) {
	if err != nil {
		var zero T
		return zero, FromGRPC(ctx, err)
	}
	return r.kind.Decode(a)
}

func createRequest[T Object](k Kind[T], obj T, subresource string, opts []WriteOption) (*apiv1.CreateRequest, error) {
	body, err := k.Encode(obj)
	if err != nil {
		return nil, err
	}
	ref := k.Ref(obj.GetNamespace(), "")
	if subresource != "" {
		ref.Name, ref.Subresource = obj.GetName(), subresource
	}
	return &apiv1.CreateRequest{Ref: ref, Object: body, Options: writeOptions(opts)}, nil
}

func updateRequest[T Object](k Kind[T], obj T, subresource string, opts []WriteOption) (*apiv1.UpdateRequest, error) {
	body, err := k.Encode(obj)
	if err != nil {
		return nil, err
	}
	ref := k.Ref(obj.GetNamespace(), obj.GetName())
	ref.Subresource = subresource
	return &apiv1.UpdateRequest{Ref: ref, Object: body, Options: writeOptions(opts)}, nil
}

func patchRequest[T Object](k Kind[T], namespace, name string, t PatchType, data []byte, opts PatchOptions) *apiv1.PatchRequest {
	ref := k.Ref(namespace, name)
	ref.Subresource = opts.Subresource
	return &apiv1.PatchRequest{
		Ref: ref, Type: t, Patch: data, Force: opts.Force,
		Options: &apiv1.WriteOptions{DryRun: opts.DryRun, FieldManager: opts.FieldManager},
	}
}

func formatRevision(rev Revision) string { return strconv.FormatInt(rev, 10) }

// RevisionOf returns an object's resource version as a number, 0 if it has none.
func RevisionOf(obj Object) Revision {
	rev, err := strconv.ParseInt(obj.GetResourceVersion(), 10, 64)
	if err != nil {
		return 0
	}
	return rev
}

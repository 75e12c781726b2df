package engine

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bareboat.dev/client"
	"bareboat.dev/controllermanager/plan"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// Resource is a kind that the server serves.
type Resource struct {
	plan.Kind
	// Verbs the server allows on it.
	Verbs []string
	// Preferred is set on one version of each kind, the one to use where any will do.
	Preferred bool
}

// Can reports whether the server allows all the verbs.
func (r Resource) Can(verbs ...string) bool {
	for _, v := range verbs {
		if !slices.Contains(r.Verbs, v) {
			return false
		}
	}
	return true
}

// Kinds returns the kinds of the resources that are wanted, one version of each, in the order of their names.
func Kinds(resources []Resource, wanted func(Resource) bool) []plan.Kind {
	best := map[[2]string]Resource{}
	for _, r := range resources {
		if !wanted(r) {
			continue
		}
		id := [2]string{r.Group, r.Resource}
		if have, ok := best[id]; !ok || r.Preferred && !have.Preferred {
			best[id] = r
		}
	}
	out := make([]plan.Kind, 0, len(best))
	for _, r := range best {
		out = append(out, r.Kind)
	}
	slices.SortFunc(out, func(a, b plan.Kind) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// Discover asks the server what it serves, built in and custom.
func Discover(ctx context.Context, c *client.Client) ([]Resource, error) {
	resp, err := apiv1.NewDiscoveryServiceClient(c.Conn()).ListResources(ctx, &apiv1.ListResourcesRequest{})
	if err != nil {
		return nil, client.FromGRPC(ctx, err)
	}
	var out []Resource
	for _, r := range resp.GetResources() {
		out = append(out, Resource{
			Kind:  plan.Kind{Group: r.GetGroup(), Version: r.GetVersion(), Resource: r.GetResource(), Kind: r.GetKind(), Namespaced: r.GetNamespaced()},
			Verbs: r.GetVerbs(), Preferred: r.GetPreferred(),
		})
	}
	return out, nil
}

func ref(k plan.Kind, namespace, name string) *apiv1.ResourceRef {
	if !k.Namespaced {
		namespace = ""
	}
	return &apiv1.ResourceRef{Group: k.Group, Version: k.Version, Resource: k.Resource, Namespace: namespace, Name: name}
}

// GetMeta reads the metadata of one object of any kind, quorum-fresh.
func (e *Engine) GetMeta(ctx context.Context, k plan.Kind, namespace, name string) (*metav1.PartialObjectMetadata, error) {
	return GetMeta(ctx, e.opts.Client, k, namespace, name)
}

// GetMeta reads the metadata of one object of any kind, quorum-fresh.
func GetMeta(ctx context.Context, c *client.Client, k plan.Kind, namespace, name string) (*metav1.PartialObjectMetadata, error) {
	resp, err := apiv1.NewResourceServiceClient(c.Conn()).Get(ctx, &apiv1.GetRequest{Ref: ref(k, namespace, name), View: apiv1.View_VIEW_METADATA})
	if err != nil {
		return nil, client.FromGRPC(ctx, err)
	}
	return decodeMeta(resp.GetObject())
}

// ListMeta reads the metadata of up to limit objects of any kind in a namespace, quorum-fresh; 0 means all of them. more is set
// if there are others.
func ListMeta(ctx context.Context, c *client.Client, k plan.Kind, namespace string, limit int64) (objects []*Meta, more bool, err error) {
	page, err := ListMetaPage(ctx, c, k, namespace, limit, "")
	return page.Objects, page.Continue != "", err
}

// MetaPage is a part of a list.
type MetaPage struct {
	Objects []*Meta
	// Continue is the token of the next page, empty after the last.
	Continue string
	// Revision of the snapshot that all pages are of.
	Revision client.Revision
}

// ListMetaPage reads the metadata of up to limit objects, from the beginning if token is empty. A token that the server does not
// know any more is client.IsExpired.
func ListMetaPage(ctx context.Context, c *client.Client, k plan.Kind, namespace string, limit int64, token string) (MetaPage, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var page MetaPage
	stream, err := apiv1.NewResourceServiceClient(c.Conn()).List(ctx, &apiv1.ListRequest{
		Ref: ref(k, namespace, ""), Limit: limit, Continue: token, View: apiv1.View_VIEW_METADATA,
	})
	if err != nil {
		return MetaPage{}, client.FromGRPC(ctx, err)
	}
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return page, nil
		}
		if err != nil {
			return MetaPage{}, client.FromGRPC(ctx, err)
		}
		for _, item := range msg.GetItems() {
			m, err := decodeMeta(item)
			if err != nil {
				return MetaPage{}, err
			}
			page.Objects = append(page.Objects, m)
		}
		page.Continue, page.Revision = msg.GetContinue(), msg.GetRevision()
	}
}

// GetSubresource reads a subresource, such as an object's scale, into out.
func GetSubresource(ctx context.Context, c *client.Client, k plan.Kind, namespace, name, subresource string, out client.Object) error {
	r := ref(k, namespace, name)
	r.Subresource = subresource
	resp, err := apiv1.NewResourceServiceClient(c.Conn()).Get(ctx, &apiv1.GetRequest{Ref: r})
	if err != nil {
		return client.FromGRPC(ctx, err)
	}
	return out.Unmarshal(resp.GetObject().GetValue())
}

// Package api is kctl's untyped view of the server: any resource that discovery lists can be read and written, without code for
// its kind. Objects are unstructured; built-in kinds are decoded from their protobuf encoding by k8s.io/api's own types.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"sigs.k8s.io/yaml"

	"bareboat.dev/client"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// unknownURL is the type of an object that travels as JSON.
const unknownURL = "type.googleapis.com/k8s.io.apimachinery.pkg.runtime.Unknown"

// Server is a connection with what discovery said about it.
type Server struct {
	*client.Client
	resources apiv1.ResourceServiceClient
	infos     []*apiv1.ResourceInfo
	warn      func(string)
}

// New wraps a connection. Each of the server's warnings about a write, refused or not, goes to warn.
func New(c *client.Client, warn func(string)) *Server {
	return &Server{Client: c, resources: apiv1.NewResourceServiceClient(c.Conn()), warn: warn}
}

// Infos returns what the server serves; it asks once.
func (s *Server) Infos(ctx context.Context) ([]*apiv1.ResourceInfo, error) {
	if s.infos == nil {
		resp, err := apiv1.NewDiscoveryServiceClient(s.Conn()).ListResources(ctx, &apiv1.ListResourcesRequest{})
		if err != nil {
			return nil, client.FromGRPC(ctx, err)
		}
		s.infos = resp.Resources
	}
	return s.infos, nil
}

// NoSuchResourceError says that a word names no resource type.
type NoSuchResourceError struct{ Word string }

// Error implements error.
func (e *NoSuchResourceError) Error() string {
	return fmt.Sprintf("the server doesn't have a resource type %q", e.Word)
}

// Resolve finds the resources that a word means: a plural, singular, short name or kind, each perhaps with ".version" and
// ".group" behind it, or a category such as "all".
func (s *Server) Resolve(ctx context.Context, word string) ([]*apiv1.ResourceInfo, error) {
	infos, err := s.Infos(ctx)
	if err != nil {
		return nil, err
	}
	name, group, qualified := strings.Cut(strings.ToLower(word), ".")
	var found, category []*apiv1.ResourceInfo
	for _, i := range infos {
		full := i.Version + "." + i.Group
		if qualified && group != i.Group && group != strings.TrimSuffix(full, ".") {
			continue
		}
		if !qualified && !i.Preferred {
			continue
		}
		if name == i.Resource || name == i.Singular || name == strings.ToLower(i.Kind) || contains(i.ShortNames, name) {
			found = append(found, i)
		}
		if contains(i.Categories, name) {
			category = append(category, i)
		}
	}
	switch {
	case len(found) > 0:
		// Several groups may have a resource of one name: the first in discovery's order is meant, as in kubectl.
		return found[:1], nil
	case len(category) > 0:
		return category, nil
	}
	return nil, &NoSuchResourceError{word}
}

// ForKind finds the resource of an object's group, version and kind.
func (s *Server) ForKind(ctx context.Context, gvk schema.GroupVersionKind) (*apiv1.ResourceInfo, error) {
	infos, err := s.Infos(ctx)
	if err != nil {
		return nil, err
	}
	for _, i := range infos {
		if i.Group == gvk.Group && i.Version == gvk.Version && i.Kind == gvk.Kind {
			return i, nil
		}
	}
	return nil, fmt.Errorf("no matches for kind %q in version %q; see `kctl api-resources` for what the server has", gvk.Kind, gvk.GroupVersion())
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// Ref names an object or collection; the namespace is dropped for cluster-scoped resources.
func Ref(i *apiv1.ResourceInfo, namespace, name string) *apiv1.ResourceRef {
	if !i.Namespaced {
		namespace = ""
	}
	return &apiv1.ResourceRef{Group: i.Group, Version: i.Version, Resource: i.Resource, Namespace: namespace, Name: name}
}

// FullName is how kubectl names an object in its messages: "deployment.apps/web".
func FullName(i *apiv1.ResourceInfo, name string) string {
	if i.Group == "" {
		return i.Singular + "/" + name
	}
	return i.Singular + "." + i.Group + "/" + name
}

// GVK of a resource's objects.
func GVK(i *apiv1.ResourceInfo) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: i.Group, Version: i.Version, Kind: i.Kind}
}

// Decode turns an object off the wire into an unstructured one.
func Decode(i *apiv1.ResourceInfo, a *anypb.Any) (*unstructured.Unstructured, error) {
	if a.GetTypeUrl() == unknownURL {
		return decodeJSON(a)
	}
	obj, err := NewObject(GVK(i))
	if err != nil {
		return nil, fmt.Errorf("decode %s: this kctl does not know the kind: %w", i.Kind, err)
	}
	typed, ok := obj.(interface{ Unmarshal([]byte) error })
	if !ok {
		return nil, fmt.Errorf("decode %s: the kind has no protobuf encoding", i.Kind)
	}
	if err := typed.Unmarshal(a.GetValue()); err != nil {
		return nil, fmt.Errorf("decode %s: %w", i.Kind, err)
	}
	obj.GetObjectKind().SetGroupVersionKind(GVK(i))
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, err
	}
	return &unstructured.Unstructured{Object: content}, nil
}

// NewObject returns an empty object of a kind of k8s.io/api, or of one of the two whose types are published apart.
func NewObject(kind schema.GroupVersionKind) (runtime.Object, error) {
	switch kind {
	case apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"):
		return &apiextensionsv1.CustomResourceDefinition{}, nil
	case apiregistrationv1.SchemeGroupVersion.WithKind("APIService"):
		return &apiregistrationv1.APIService{}, nil
	}
	return scheme.Scheme.New(kind)
}

func decodeJSON(a *anypb.Any) (*unstructured.Unstructured, error) {
	var unknown runtime.Unknown
	if err := unknown.Unmarshal(a.GetValue()); err != nil {
		return nil, fmt.Errorf("decode a custom resource: %w", err)
	}
	data, err := yaml.YAMLToJSON(unknown.Raw) // JSON as it is; a file's object may be YAML
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	return u, u.UnmarshalJSON(data)
}

// Body packs JSON or YAML for a request; the server decodes it, strictly if asked.
func Body(contentType string, data []byte) (*anypb.Any, error) {
	value, err := (&runtime.Unknown{Raw: data, ContentType: contentType}).Marshal()
	if err != nil {
		return nil, err
	}
	return &anypb.Any{TypeUrl: unknownURL, Value: value}, nil
}

// JSON encodes an object as a request body.
func JSON(u *unstructured.Unstructured) (*anypb.Any, error) {
	data, err := json.Marshal(u.Object)
	if err != nil {
		return nil, err
	}
	return Body(runtime.ContentTypeJSON, data)
}

// Get reads one object.
func (s *Server) Get(ctx context.Context, i *apiv1.ResourceInfo, namespace, name string) (*unstructured.Unstructured, error) {
	resp, err := s.resources.Get(ctx, &apiv1.GetRequest{Ref: Ref(i, namespace, name)})
	if err != nil {
		return nil, client.FromGRPC(ctx, err)
	}
	return Decode(i, resp.Object)
}

// GetRaw sends a get and returns the response as it came, with the error in Kubernetes' terms.
func (s *Server) GetRaw(ctx context.Context, req *apiv1.GetRequest) (*apiv1.GetResponse, error) {
	resp, err := s.resources.Get(ctx, req)
	return resp, client.FromGRPC(ctx, err)
}

// List reads all selected objects. The revision is the snapshot's.
func (s *Server) List(ctx context.Context, i *apiv1.ResourceInfo, req *apiv1.ListRequest) (items []*unstructured.Unstructured, revision int64, err error) {
	err = s.ListRaw(ctx, req, func(resp *apiv1.ListResponse) error {
		revision = resp.Revision
		for _, a := range resp.Items {
			u, err := Decode(i, a)
			if err != nil {
				return err
			}
			items = append(items, u)
		}
		return nil
	})
	return items, revision, err
}

// ListRaw calls fn for every message of a list.
func (s *Server) ListRaw(ctx context.Context, req *apiv1.ListRequest, fn func(*apiv1.ListResponse) error) error {
	stream, err := s.resources.List(ctx, req)
	if err != nil {
		return client.FromGRPC(ctx, err)
	}
	return each(ctx, stream, fn)
}

// Watch calls fn for every message of a watch until ctx ends, fn fails, or the stream does.
func (s *Server) Watch(ctx context.Context, req *apiv1.WatchRequest, fn func(*apiv1.WatchResponse) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.resources.Watch(ctx, req)
	if err != nil {
		return client.FromGRPC(ctx, err)
	}
	return each(ctx, stream, fn)
}

// each calls fn for every message of a stream until it ends or fn fails.
func each[T any](ctx context.Context, stream grpc.ServerStreamingClient[T], fn func(*T) error) error {
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return client.FromGRPC(ctx, err)
		}
		if err := fn(resp); err != nil {
			return err
		}
	}
}

// Create sends a create.
func (s *Server) Create(ctx context.Context, req *apiv1.CreateRequest) (*apiv1.CreateResponse, error) {
	resp, err := s.resources.Create(ctx, req)
	s.tell(resp.GetWarnings(), err)
	return resp, client.FromGRPC(ctx, err)
}

// Update sends an update.
func (s *Server) Update(ctx context.Context, req *apiv1.UpdateRequest) (*apiv1.UpdateResponse, error) {
	resp, err := s.resources.Update(ctx, req)
	s.tell(resp.GetWarnings(), err)
	return resp, client.FromGRPC(ctx, err)
}

// Patch sends a patch.
func (s *Server) Patch(ctx context.Context, req *apiv1.PatchRequest) (*apiv1.PatchResponse, error) {
	resp, err := s.resources.Patch(ctx, req)
	s.tell(resp.GetWarnings(), err)
	return resp, client.FromGRPC(ctx, err)
}

// Delete sends a delete.
func (s *Server) Delete(ctx context.Context, req *apiv1.DeleteRequest) (*apiv1.DeleteResponse, error) {
	resp, err := s.resources.Delete(ctx, req)
	s.tell(resp.GetWarnings(), err)
	return resp, client.FromGRPC(ctx, err)
}

// tell passes on the warnings of an answer, or of the status of a refused request.
func (s *Server) tell(warnings []string, err error) {
	for _, d := range status.Convert(err).Details() {
		if w, ok := d.(*apiv1.Warnings); ok {
			warnings = w.GetWarnings()
		}
	}
	for _, w := range warnings {
		s.warn(w)
	}
}

// OwnedBy reports whether an owner reference of u names the uid.
func OwnedBy(u metav1.Object, uid string) bool {
	for _, o := range u.GetOwnerReferences() {
		if string(o.UID) == uid {
			return true
		}
	}
	return false
}

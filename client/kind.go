package client

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/anypb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// typeURLPrefix starts the type URL of every object on the wire.
const typeURLPrefix = "type.googleapis.com/"

// Object is a Kubernetes object: a pointer to a type of k8s.io/api with its generated protobuf codec.
type Object interface {
	metav1.Object
	runtime.Object
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// Kind describes one kind to the client. Kinds are plain values; see Pods and its neighbours.
type Kind[T Object] struct {
	// Group is the API group, empty for core.
	Group string
	// Version is the API version, "v1".
	Version string
	// Resource is the plural name in lower case, "pods".
	Resource string
	// KindName is the kind in upper camel case, "Pod".
	KindName string
	// Namespaced tells whether objects live in namespaces.
	Namespaced bool
	// New returns an empty object to decode into.
	New func() T
}

// GVK returns the kind's group, version and kind.
func (k Kind[T]) GVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.KindName}
}

// Ref names an object, or with an empty name the collection. The namespace of a cluster-scoped kind is ignored.
func (k Kind[T]) Ref(namespace, name string) *apiv1.ResourceRef {
	if !k.Namespaced {
		namespace = ""
	}
	return &apiv1.ResourceRef{Group: k.Group, Version: k.Version, Resource: k.Resource, Namespace: namespace, Name: name}
}

// TypeURL is the type URL of the kind's objects on the wire.
func (k Kind[T]) TypeURL() string {
	return TypeURL(k.GVK())
}

// TypeURL returns the type URL under which objects of a built-in kind travel: the package name that k8s.io/api gives the
// group is the group's first label, and "core" for the empty group. Definitions of custom kinds are published apart from it.
func TypeURL(gvk schema.GroupVersionKind) string {
	if gvk.Group == "apiextensions.k8s.io" {
		return typeURLPrefix + "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions." + gvk.Version + "." + gvk.Kind
	}
	pkg := "core"
	if gvk.Group != "" {
		pkg, _, _ = strings.Cut(gvk.Group, ".")
	}
	return typeURLPrefix + "k8s.io.api." + pkg + "." + gvk.Version + "." + gvk.Kind
}

// Encode packs an object for the wire.
func (k Kind[T]) Encode(obj T) (*anypb.Any, error) {
	value, err := obj.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode %s %s/%s: %w", k.KindName, obj.GetNamespace(), obj.GetName(), err)
	}
	return &anypb.Any{TypeUrl: k.TypeURL(), Value: value}, nil
}

// Decode unpacks an object of this kind; one of another kind is an error.
func (k Kind[T]) Decode(a *anypb.Any) (T, error) {
	return k.decoder()(a)
}

// decoder returns Decode with the type URL computed once, for streams.
func (k Kind[T]) decoder() func(*anypb.Any) (T, error) {
	url, gvk := k.TypeURL(), k.GVK()
	return func(a *anypb.Any) (T, error) {
		var zero T
		if a.GetTypeUrl() != url {
			return zero, fmt.Errorf("decode %s: the server sent %q, want %q", k.KindName, a.GetTypeUrl(), url)
		}
		obj := k.New()
		if err := obj.Unmarshal(a.GetValue()); err != nil {
			return zero, fmt.Errorf("decode %s: %w", k.KindName, err)
		}
		obj.GetObjectKind().SetGroupVersionKind(gvk)
		return obj, nil
	}
}

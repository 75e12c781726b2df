package registry

import (
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/managedfields"
)

// Custom is what the server must know of a custom resource beyond what its Resource says: its objects have no Go type and no
// protobuf form, and are what a schema says they are. It never changes.
type Custom struct {
	// ListKind is the kind of a list of the objects.
	ListKind string
	// Form is the same value for two resources whose stored objects are read in the same way. A cache outlives the
	// replacement of its resource by one of the same Form.
	Form any
	// View returns what readers see of stored bytes: without fields that the schema does not have (any more), with its
	// defaults. It returns its argument if that is the same. Nil means that it always is.
	View func(stored []byte) ([]byte, error)
	// Coerce makes a decoded object what decoding into a Go type would have made of it: unknown fields and nulls for fields
	// that cannot be null are dropped, malformed metadata is an error. It returns the paths of what was unknown if asked to.
	Coerce func(obj map[string]any, paths bool) (unknown []string, err error)
	// Convert returns an object in another of the definition's versions. It does not modify it, and may return it as it is.
	Convert func(obj *CustomObject, to schema.GroupVersion) (*CustomObject, error)
	// Remade: an object in another version has other fields, and it is those that it is selected by.
	Remade bool
	// Converter gives the objects types for managed fields. It is made when first used.
	Converter func() (managedfields.TypeConverter, error)
	// Replicas is where spec.replicas of the scale subresource is kept, by API version, nil where there is none.
	Replicas managedfields.ResourcePathMappings
	// Selectable are the selectable fields of all versions, as read off stored objects in whatever version those are: unless objects are
	// Remade, they are the same in all.
	Selectable map[string]func(Object) string
	// Warnings are sent with every answer: the version is deprecated.
	Warnings []string
	// Terminating: the definition is being deleted and no object may be created any more.
	Terminating bool
	// Schema is the kind's OpenAPI schema as JSON, for version 3 or as far as version 2 can say it.
	Schema func(v2 bool) (map[string]any, error)
}

// CustomObject is an object of a custom resource: a JSON object. Its protobuf methods are those of Object in name only: they
// write and read JSON, in which such objects are kept and sent.
type CustomObject struct {
	unstructured.Unstructured
	// Custom describes the object's kind.
	Custom *Custom
}

// NewCustomObject returns an empty object of a kind.
func NewCustomObject(kind schema.GroupVersionKind, c *Custom) *CustomObject {
	o := &CustomObject{Custom: c}
	o.Object = map[string]any{}
	o.SetGroupVersionKind(kind)
	return o
}

// With returns an object of the same kind with another content, which it takes over.
func (o *CustomObject) With(content map[string]any) *CustomObject {
	return &CustomObject{Unstructured: unstructured.Unstructured{Object: content}, Custom: o.Custom}
}

// Marshal returns the object as JSON.
func (o *CustomObject) Marshal() ([]byte, error) { return json.Marshal(o.Object) }

// Unmarshal replaces the content by a JSON object; numbers without a fraction become int64.
func (o *CustomObject) Unmarshal(text []byte) error {
	content := map[string]any{}
	if err := utiljson.Unmarshal(text, &content); err != nil {
		return err
	}
	if content == nil {
		return fmt.Errorf("registry: null is no object")
	}
	o.Object = content
	return nil
}

// MarshalJSON and UnmarshalJSON are Marshal and Unmarshal: an object is what it holds, whether it says what kind it is or not.
func (o *CustomObject) MarshalJSON() ([]byte, error) { return o.Marshal() }

// UnmarshalJSON implements json.Unmarshaler.
func (o *CustomObject) UnmarshalJSON(text []byte) error { return o.Unmarshal(text) }

// DeepCopyObject implements runtime.Object.
func (o *CustomObject) DeepCopyObject() runtime.Object {
	return o.With(runtime.DeepCopyJSON(o.Object))
}

// NewEmptyInstance implements runtime.Unstructured.
func (o *CustomObject) NewEmptyInstance() runtime.Unstructured {
	return NewCustomObject(o.GroupVersionKind(), o.Custom)
}

// GetObjectMeta returns a copy of the metadata, as far as it is well-formed.
func (o *CustomObject) GetObjectMeta() metav1.Object {
	meta := &metav1.ObjectMeta{}
	content, ok := o.Object["metadata"].(map[string]any)
	if !ok {
		return meta
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, meta); err != nil {
		return &metav1.ObjectMeta{Name: o.GetName(), Namespace: o.GetNamespace(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion()}
	}
	return meta
}

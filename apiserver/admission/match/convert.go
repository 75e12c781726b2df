package match

import (
	"encoding/json"
	"fmt"
	"reflect"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"k8s.io/apimachinery/pkg/runtime"

	"bareboat.dev/apiserver/admission"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/codec"
)

// Convert returns an object in an equivalent form. It does not modify it, and returns it as it is if that is its form.
func Convert(obj registry.Object, from, to *registry.Resource) (registry.Object, error) {
	if obj == nil || from == to || from.Kind == to.Kind {
		return obj, nil
	}
	if custom, ok := obj.(*registry.CustomObject); ok {
		if from.Custom == nil || from.Custom.Convert == nil {
			return nil, fmt.Errorf("%s cannot be converted", from.Kind)
		}
		return from.Custom.Convert(custom, to.Kind.GroupVersion())
	}
	var err error
	if from.Stored != nil {
		if obj, err = from.Stored.To(obj); err != nil {
			return nil, err
		}
	}
	if to.Stored != nil {
		if obj, err = to.Stored.From(obj); err != nil {
			return nil, err
		}
	}
	if from.Stored == nil && to.Stored == nil {
		return nil, fmt.Errorf("%s cannot be converted to %s", from.Kind, to.Kind)
	}
	// What conversion returned may be shared.
	obj = obj.DeepCopyObject().(registry.Object)
	obj.GetObjectKind().SetGroupVersionKind(to.Kind)
	return obj, nil
}

// maxCopied bounds what the copies of a JSON patch come to: copies of copies double an object with every operation.
const maxCopied = codec.MaxBody

// Patch applies a JSON patch (RFC 6902).
func Patch(before []byte, patch jsonpatch.Patch) ([]byte, error) {
	options := jsonpatch.NewApplyOptions()
	options.AccumulatedCopySizeLimit = maxCopied
	return patch.ApplyWithOptions(before, options)
}

// InBody reports whether what mutations change is the write's body, because its subresource has a kind of its own or it is a CONNECT, and
// not its object.
func InBody(a *admission.Attributes) bool {
	sub, ok := a.Resource.Subresources[a.Subresource]
	return a.Body != nil && (a.Operation == admission.Connect || ok && sub.New != nil)
}

// ReplaceBody puts another body, given as JSON, in the place of the write's.
func ReplaceBody(a *admission.Attributes, text []byte) error {
	now := reflect.ValueOf(a.Body).Elem()
	next := reflect.New(now.Type())
	if err := json.Unmarshal(text, next.Interface()); err != nil {
		return err
	}
	want := a.Resource.Subresources[a.Subresource].Kind
	if got := next.Interface().(runtime.Object).GetObjectKind().GroupVersionKind(); got != want {
		return fmt.Errorf("the patch makes %v of %v", got, want)
	}
	now.Set(next.Elem()) // everybody has the pointer to the body, so that what it points to changes
	a.BodyChanged = true
	return nil
}

// Replace puts another object, given as JSON in one of its forms, in the place of the write's.
func Replace(a *admission.Attributes, as *registry.Resource, text []byte) error {
	obj := as.New()
	if err := json.Unmarshal(text, obj); err != nil {
		return err
	}
	obj.GetObjectKind().SetGroupVersionKind(as.Kind)
	if custom, ok := obj.(*registry.CustomObject); ok && as.Custom.Coerce != nil {
		// What the schema does not have is gone before anybody else sees it.
		if _, err := as.Custom.Coerce(custom.Object, false); err != nil {
			return err
		}
	}
	obj, err := Convert(obj, as, a.Resource)
	if err != nil {
		return err
	}
	if d := a.Resource.Strategy.Default; d != nil {
		d(obj)
	}
	// Everybody has the pointer to the object, so that what it points to changes.
	reflect.ValueOf(a.Object).Elem().Set(reflect.ValueOf(obj).Elem())
	return nil
}

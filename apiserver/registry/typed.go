package registry

import (
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"bareboat.dev/apiserver/registry/check"
)

// The functions of this file let a kind write its strategy over its own type.

// On adapts a function that changes an object: Default, PrepareCreate.
func On[T Object](f func(T)) func(Object) {
	return func(obj Object) { f(obj.(T)) }
}

// OnChange adapts PrepareUpdate.
func OnChange[T Object](f func(obj, old T)) func(obj, old Object) {
	return func(obj, old Object) { f(obj.(T), old.(T)) }
}

// Checks adapts Validate.
func Checks[T Object](f func(e *check.Errors, obj T)) func(Object) field.ErrorList {
	return func(obj Object) field.ErrorList {
		var e check.Errors
		f(&e, obj.(T))
		return e.List
	}
}

// ChecksChange adapts ValidateUpdate and Subresource.Validate.
func ChecksChange[T Object](f func(e *check.Errors, obj, old T)) func(obj, old Object) field.ErrorList {
	return func(obj, old Object) field.ErrorList {
		var e check.Errors
		f(&e, obj.(T), old.(T))
		return e.List
	}
}

// Warns adapts Warnings.
func Warns[T Object](f func(T) []string) func(Object) []string {
	return func(obj Object) []string { return f(obj.(T)) }
}

// Differs adapts SpecChanged.
func Differs[T Object](f func(obj, old T) bool) func(obj, old Object) bool {
	return func(obj, old Object) bool { return f(obj.(T), old.(T)) }
}

// Field adapts a selectable field.
func Field[T Object](f func(T) string) func(Object) string {
	return func(obj Object) string { return f(obj.(T)) }
}

// StatusSubresource is the usual "status": an update of it takes the body's status and the labels, annotations and
// managed fields of its metadata, and leaves everything else as it is. take copies the status from body to obj.
func StatusSubresource[T Object](take func(obj, body T), validate func(e *check.Errors, obj, old T)) Subresource {
	sub := Subresource{
		Verbs: []string{"get", "patch", "update"},
		Apply: func(old Object, body runtime.Object, _ time.Time) (Object, error) {
			obj, from := old.DeepCopyObject().(T), body.DeepCopyObject().(T)
			obj.SetLabels(from.GetLabels())
			obj.SetAnnotations(from.GetAnnotations())
			obj.SetManagedFields(from.GetManagedFields())
			take(obj, from)
			return obj, nil
		},
	}
	if validate != nil {
		sub.Validate = ChecksChange(validate)
	}
	return sub
}

// ConnectSubresource is one whose requests the pipeline serves with code of its own.
func ConnectSubresource(verbs ...string) Subresource { return Subresource{Verbs: verbs, Connect: true} }

// StreamSubresource is one that a door serves by passing a stream or a request on; what its caller asks for is an object of the
// options' kind.
func StreamSubresource(options schema.GroupVersionKind, verbs ...string) Subresource {
	return Subresource{Verbs: verbs, Kind: options, Connect: true}
}

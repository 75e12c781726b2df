package engine

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Taken returns a function that reports whether an object of a name exists in a namespace.
func (v *View[T]) Taken(namespace string) func(name string) bool {
	return func(name string) bool {
		_, taken := v.Get(namespace, name)
		return taken
	}
}

// TakenFrom returns a function that reports whether an object of a name exists in o's namespace that o does not control.
func (v *View[T]) TakenFrom(o metav1.Object) func(name string) bool {
	return func(name string) bool {
		obj, exists := v.Get(o.GetNamespace(), name)
		return exists && !metav1.IsControlledBy(obj, o)
	}
}

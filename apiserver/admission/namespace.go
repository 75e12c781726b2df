package admission

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// immortal are the namespaces that nobody can delete.
func immortal(name string) bool {
	return slices.Contains([]string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic}, name)
}

// NamespaceLifecycle refuses objects in namespaces that do not exist or are being deleted, and the deletion of the namespaces
// that the system needs.
func NamespaceLifecycle(reader Reader) Plugin {
	check := func(ctx context.Context, a *Attributes) error {
		isNamespace := a.Resource.Kind.Group == "" && a.Resource.Plural == "namespaces"
		if a.Operation == Delete && isNamespace && immortal(a.Name) {
			return apierrors.NewForbidden(resource(a), a.Name, fmt.Errorf("this namespace may not be deleted"))
		}
		if a.Operation != Create || isNamespace || a.Namespace == "" {
			return nil
		}
		return checkNamespace(ctx, reader, a)
	}
	return Plugin{Name: "NamespaceLifecycle", Mutate: check}
}

func checkNamespace(ctx context.Context, reader Reader, a *Attributes) error {
	obj, ok, err := reader.Object(ctx, "", "namespaces", "", a.Namespace, false)
	if err == nil && !ok {
		// The namespace may have been made a moment ago.
		obj, ok, err = reader.Object(ctx, "", "namespaces", "", a.Namespace, true)
	}
	switch {
	case err != nil:
		return err
	case !ok:
		return apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, a.Namespace)
	case obj.(*corev1.Namespace).DeletionTimestamp == nil:
		return nil
	}
	name := a.Name
	if name == "" {
		name = a.Object.GetGenerateName()
	}
	e := apierrors.NewForbidden(resource(a), name, fmt.Errorf("unable to create new content in namespace %s because it is being terminated", a.Namespace))
	e.ErrStatus.Details.Causes = append(e.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: corev1.NamespaceTerminatingCause, Message: fmt.Sprintf("namespace %s is being terminated", a.Namespace), Field: "metadata.namespace",
	})
	return e
}

func resource(a *Attributes) schema.GroupResource {
	return schema.GroupResource{Group: a.Resource.Kind.Group, Resource: a.Resource.Plural}
}

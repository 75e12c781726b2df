package events

import (
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/client"
)

// Reference names an object in an Event. Objects that were read through the client carry their type; for others it is
// told from their Go type, which k8s.io/api lays out by group and version.
func Reference(obj client.Object) corev1.ObjectReference {
	gvk := obj.GetObjectKind().GroupVersionKind()
	if gvk.Kind == "" {
		gvk = kindOfType(reflect.TypeOf(obj).Elem())
	}
	apiVersion, kind := gvk.ToAPIVersionAndKind()
	return corev1.ObjectReference{
		Kind: kind, APIVersion: apiVersion, Namespace: obj.GetNamespace(), Name: obj.GetName(),
		UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion(),
	}
}

// kindOfType reads "k8s.io/api/<group>/<version>".<Kind>.
func kindOfType(t reflect.Type) schema.GroupVersionKind {
	gvk := schema.GroupVersionKind{Kind: t.Name()}
	parts := strings.Split(t.PkgPath(), "/")
	if len(parts) < 2 {
		return gvk
	}
	gvk.Version = parts[len(parts)-1]
	switch group := parts[len(parts)-2]; group {
	case "core":
	case "apps", "batch", "autoscaling", "policy":
		gvk.Group = group
	case "rbac":
		gvk.Group = "rbac.authorization.k8s.io"
	case "flowcontrol":
		gvk.Group = "flowcontrol.apiserver.k8s.io"
	default:
		gvk.Group = group + ".k8s.io"
	}
	return gvk
}

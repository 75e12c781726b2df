package openapi

import (
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/registry"
)

// custom adds the schemas of a custom kind, which its definition gives, and of its lists. What has no schema, or none that can
// be published, is an object.
func (b *builder) custom(r *registry.Resource) (own, list object) {
	name := customName(r.Kind)
	s, err := r.Custom.Schema(!b.v3)
	if err != nil {
		s = object{"type": "object", "x-kubernetes-group-version-kind": []any{gvkMark(r.Kind)}}
	}
	b.schemas[name] = s
	b.of(reflect.TypeFor[metav1.ObjectMeta]()) // what the schema refers to
	own = object{"$ref": b.refs + name}
	listKind := r.Kind.GroupVersion().WithKind(r.Custom.ListKind)
	b.schemas[customName(listKind)] = b.customList(r, own, listKind)
	return own, object{"$ref": b.refs + customName(listKind)}
}

func (b *builder) customList(r *registry.Resource, own object, kind schema.GroupVersionKind) object {
	docs := metav1.TypeMeta{}.SwaggerDoc()
	meta := b.of(reflect.TypeFor[metav1.ListMeta]())
	if b.v3 {
		meta = object{"allOf": []any{meta}}
	}
	meta["description"] = metav1.PartialObjectMetadataList{}.SwaggerDoc()["metadata"]
	return object{
		"description": r.Custom.ListKind + " is a list of " + r.Kind.Kind,
		"type":        "object",
		"required":    []string{"items"},
		"properties": object{
			"apiVersion": object{"type": "string", "description": docs["apiVersion"]},
			"kind":       object{"type": "string", "description": docs["kind"]},
			"metadata":   meta,
			"items": object{
				"type": "array", "items": own,
				"description": "List of " + r.Plural + ". More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
			},
		},
		"x-kubernetes-group-version-kind": []any{gvkMark(kind)},
	}
}

func gvkMark(k schema.GroupVersionKind) object {
	return object{"group": k.Group, "version": k.Version, "kind": k.Kind}
}

// customName is upstream's name of a custom kind's schema: the group reversed, the version and the kind.
//
//	customName(stable.example.com/v1 CronTab) == "com.example.stable.v1.CronTab"
func customName(k schema.GroupVersionKind) string {
	labels := strings.Split(k.Group, ".")
	slices.Reverse(labels)
	return strings.Join(append(labels, k.Version, k.Kind), ".")
}

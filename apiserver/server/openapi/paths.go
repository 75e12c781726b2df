package openapi

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
)

// operation says how a verb is asked for.
type operation struct {
	verb, method, action string
	// item: the path names an object; list: the answer is a list; body: the request carries an object.
	item, list, body bool
	params           []string
}

func operations() []operation {
	return []operation{
		{"list", "get", "list", false, true, false, []string{"allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion", "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch"}},
		{"create", "post", "post", false, false, true, []string{"dryRun", "fieldManager", "fieldValidation"}},
		{"deletecollection", "delete", "deletecollection", false, false, false, []string{"continue", "dryRun", "fieldSelector", "gracePeriodSeconds", "labelSelector", "limit", "orphanDependents", "propagationPolicy"}},
		{"get", "get", "get", true, false, false, nil},
		{"update", "put", "put", true, false, true, []string{"dryRun", "fieldManager", "fieldValidation"}},
		{"patch", "patch", "patch", true, false, true, []string{"dryRun", "fieldManager", "fieldValidation", "force"}},
		{"delete", "delete", "delete", true, false, false, []string{"dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"}},
	}
}

// resource adds a resource's paths and schemas.
func (b *builder) resource(paths object, r *registry.Resource) {
	own, list := b.kinds(r)
	b.media = builtInMedia()
	if r.Custom != nil {
		b.media = customMedia()
	}
	base := "/" + groupPath(r.Kind.GroupVersion())
	collection := base + "/" + r.Plural
	if r.Namespaced {
		b.path(paths, collection, r, r.Kind, "ForAllNamespaces", []string{"list"}, false, own, list)
		collection = base + "/namespaces/{namespace}/" + r.Plural
	}
	verbs := pipeline.Verbs(r)
	b.path(paths, collection, r, r.Kind, "", verbs, false, own, list)
	item := collection + "/{name}"
	b.path(paths, item, r, r.Kind, "", verbs, true, own, list)
	for _, name := range slices.Sorted(maps.Keys(r.Subresources)) {
		sub := r.Subresources[name]
		kind, body := r.Kind, own
		if sub.New != nil {
			kind = sub.Kind
			body = b.kind(kind, sub.New())
		}
		b.subresource(paths, item+"/"+name, r, kind, name, sub.Verbs, body)
	}
}

func (b *builder) path(paths object, path string, r *registry.Resource, kind schema.GroupVersionKind, suffix string, verbs []string, item bool, own, list object) {
	p := object{"parameters": b.pathParameters(path)}
	for _, op := range operations() {
		if op.item != item || !slices.Contains(verbs, op.verb) {
			continue
		}
		answer := own
		if op.list {
			answer = list
		}
		id := op.verb + strings.NewReplacer("/", "_", ".", "_").Replace(groupPath(kind.GroupVersion())) + r.Kind.Kind + suffix
		p[op.method] = b.operation(id, op.action, kind, op.params, op.body, op.method == "patch", own, answer)
	}
	if len(p) > 1 {
		paths[path] = p
	}
}

func (b *builder) subresource(paths object, path string, r *registry.Resource, kind schema.GroupVersionKind, name string, verbs []string, body object) {
	p := object{"parameters": b.pathParameters(path)}
	for _, op := range operations() {
		if op.list || op.verb == "deletecollection" || !slices.Contains(verbs, op.verb) {
			continue
		}
		p[op.method] = b.operation(op.verb+r.Kind.Version+r.Kind.Kind+name, op.action, kind, op.params, op.body, op.method == "patch", body, body)
	}
	if len(p) > 1 {
		paths[path] = p
	}
}

func (b *builder) pathParameters(path string) []any {
	out := []any{}
	for _, name := range []string{"name", "namespace"} {
		if strings.Contains(path, "{"+name+"}") {
			out = append(out, b.parameter(name, "path", true))
		}
	}
	return append(out, b.parameter("pretty", "query", false))
}

// parameter describes a parameter; integers and booleans are the few that are not strings.
func (b *builder) parameter(name, in string, required bool) object {
	kind := "string"
	switch name {
	case "limit", "timeoutSeconds", "gracePeriodSeconds":
		kind = "integer"
	case "allowWatchBookmarks", "sendInitialEvents", "watch", "orphanDependents", "force":
		kind = "boolean"
	}
	p := object{"name": name, "in": in, "uniqueItems": true, "type": kind}
	if b.v3 {
		p = object{"name": name, "in": in, "schema": object{"type": kind, "uniqueItems": true}}
	}
	if required {
		p["required"] = true
	}
	return p
}

// media are the forms in which a resource's objects and their patches travel.
type media struct{ objects, patches []string }

func builtInMedia() media {
	return media{
		objects: []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"},
		patches: []string{
			"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml",
		},
	}
}

func customMedia() media {
	return media{
		objects: []string{"application/json", "application/yaml"},
		patches: []string{"application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"},
	}
}

// kinds refers to the schemas of a resource's objects and lists.
func (b *builder) kinds(r *registry.Resource) (own, list object) {
	if r.Custom != nil {
		return b.custom(r)
	}
	own = b.kind(r.Kind, r.New())
	if r.NewList == nil {
		return own, own
	}
	listKind := r.Kind
	listKind.Kind += "List"
	return own, b.kind(listKind, r.NewList())
}

func (b *builder) operation(id, action string, kind schema.GroupVersionKind, params []string, hasBody, isPatch bool, body, answer object) object {
	op := object{
		"operationId": id, "tags": []string{strings.ReplaceAll(kind.Group+"_"+kind.Version, ".", "_")}, "x-kubernetes-action": action,
		"x-kubernetes-group-version-kind": object{"group": kind.Group, "version": kind.Version, "kind": kind.Kind},
	}
	parameters := []any{}
	for _, name := range params {
		parameters = append(parameters, b.parameter(name, "query", false))
	}
	media := b.media.objects
	accepts := media
	if isPatch {
		accepts, body = b.media.patches, object{"type": "object"}
	}
	if b.v3 {
		op["responses"] = object{"200": object{"description": "OK", "content": contents(media, answer)}}
		if hasBody {
			op["requestBody"] = object{"required": true, "content": contents(accepts, body)}
		}
	} else {
		op["responses"] = object{"200": object{"description": "OK", "schema": answer}}
		op["produces"], op["consumes"] = media, accepts
		if hasBody {
			parameters = append(parameters, object{"name": "body", "in": "body", "required": true, "schema": body})
		}
	}
	if len(parameters) > 0 {
		op["parameters"] = parameters
	}
	return op
}

func contents(media []string, s object) object {
	out := object{}
	for _, m := range media {
		out[m] = object{"schema": s}
	}
	return out
}

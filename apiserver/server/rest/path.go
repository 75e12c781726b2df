package rest

import "strings"

// target is what a path below /api or /apis names.
type target struct {
	group, version, resource, namespace, name, subresource string
	// rest is what follows the subresource: the path of a proxy request.
	rest string
	// watch: the path is one of the old /watch/ ones.
	watch bool
}

// parsePath reads /api/v1/… and /apis/<group>/<version>/…; ok is false for paths that name no resource.
func parsePath(path string) (t target, ok bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		t.version, parts = parts[1], parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		t.group, t.version, parts = parts[1], parts[2], parts[3:]
	default:
		return t, false
	}
	// The old form of a watch; nothing else has a resource "watch".
	if parts[0] == "watch" && len(parts) > 1 {
		t.watch, parts = true, parts[1:]
	}
	if parts[0] == "namespaces" && len(parts) >= 3 && !(t.group == "" && namespaceSubresource(parts[2])) {
		t.namespace, parts = parts[1], parts[2:]
	}
	t.resource = parts[0]
	if len(parts) > 1 {
		t.name = parts[1]
	}
	if len(parts) > 2 {
		t.subresource = parts[2]
	}
	if len(parts) > 3 {
		t.rest = strings.Join(parts[3:], "/")
	}
	return t, true
}

// namespaceSubresource tells /namespaces/x/status, a part of a namespace, from /namespaces/x/pods, a resource in it.
func namespaceSubresource(s string) bool { return s == "status" || s == "finalize" }

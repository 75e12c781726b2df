package plantest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"bareboat.dev/controllermanager/engine"
	"bareboat.dev/controllermanager/plan"
)

// unclaimed returns the fields that a write changed though no claim covers them.
func unclaimed(claims []engine.Claim, k plan.Kind, before, after plan.Object) error {
	if before == nil || after == nil || claims == nil {
		return nil
	}
	var bad []string
	for _, path := range changed("", fields(before), fields(after)) {
		if strings.HasPrefix(path, "metadata.resourceVersion") || strings.HasPrefix(path, "metadata.generation") {
			continue
		}
		if !slices.ContainsFunc(claims, func(c engine.Claim) bool { return c.Kind == k && covers(c.Field, path) }) {
			bad = append(bad, path)
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("%s: %s changed without being declared", k, strings.Join(bad, ", "))
	}
	return nil
}

// covers reports whether path is the claimed field or lies below it. What a claim says in brackets is which elements it means;
// the element of a map is checked, that of a list is not.
func covers(claim, path string) bool {
	field, element, narrowed := strings.Cut(claim, "[")
	if narrowed && strings.HasPrefix(path, field+".") {
		return strings.HasPrefix(path, field+"."+strings.TrimSuffix(element, "]")) || !strings.HasSuffix(field, "annotations")
	}
	return path == field || strings.HasPrefix(path, field+".")
}

// changed returns the paths at which two objects differ, down to the first thing that is not a map.
func changed(prefix string, a, b map[string]any) []string {
	var out []string
	keys := maps.Clone(a)
	if keys == nil {
		keys = map[string]any{}
	}
	maps.Copy(keys, b)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if reflect.DeepEqual(a[k], b[k]) {
			continue
		}
		x, okA := a[k].(map[string]any)
		y, okB := b[k].(map[string]any)
		if okA && okB {
			out = append(out, changed(prefix+k+".", x, y)...)
			continue
		}
		out = append(out, prefix+k)
	}
	return out
}

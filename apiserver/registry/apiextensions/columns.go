package apiextensions

import (
	"slices"
	"strings"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"bareboat.dev/apiserver/registry"
)

// columns are what `get crd` prints: which names a definition brings, and in which versions they are served.
func columns() []registry.Column {
	type crd = *v1.CustomResourceDefinition
	return []registry.Column{
		registry.NameColumn(),
		registry.Text("Scope", "Cluster/Namespaced", func(d crd) string { return string(d.Spec.Scope) }),
		registry.Text("Versions", "Served versions", servedVersions),
		registry.CreatedColumn(),
		registry.Text("Group", "API group", func(d crd) string { return d.Spec.Group }).Wide(),
		registry.Text("Kind", "CustomResource kind", func(d crd) string { return d.Spec.Names.Kind }).Wide(),
		registry.Text("ShortNames", "Short names", func(d crd) string { return strings.Join(d.Spec.Names.ShortNames, ",") }).Wide(),
		registry.Truth("Established", "Established status", func(d crd) bool { return Is(d, v1.Established) }).Wide(),
	}
}

// servedVersions lists the versions that clients can use, in the order of their names; objects are stored in the marked one.
func servedVersions(d *v1.CustomResourceDefinition) string {
	var served []string
	for _, v := range d.Spec.Versions {
		switch {
		case v.Served && v.Storage:
			served = append(served, v.Name+"(storage)")
		case v.Served:
			served = append(served, v.Name)
		}
	}
	slices.Sort(served)
	return strings.Join(served, ",")
}

package openapi

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/registry/core"
	"bareboat.dev/apiserver/registry/groups"
	"bareboat.dev/apiserver/review"
	"bareboat.dev/apiserver/server/openapi/markergen/markers"
)

// The markers are those of the sources of the types that are served; `go generate ./server/openapi` renews them.
func TestMarkersAreFresh(t *testing.T) {
	want, err := markers.Generate(registry.All(groups.All(core.Config{}), review.Resources()))
	if err != nil {
		t.Fatal(err)
	}
	if want != markersText {
		t.Error("markers.txt is out of date: run `go generate ./server/openapi` in apiserver/")
	}
}

// Required fields and the merging of lists are what Kubernetes publishes of some well-known types.
func TestMarkers(t *testing.T) {
	set, err := registry.NewSet(groups.All(core.Config{})...)
	if err != nil {
		t.Fatal(err)
	}
	b := &builder{refs: "#/components/schemas/", v3: true, schemas: object{}}
	pods, _ := set.ForKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	b.kinds(pods)
	for name, want := range map[string][]string{
		"io.k8s.api.core.v1.PodSpec":       {"containers"},
		"io.k8s.api.core.v1.Container":     {"name"},
		"io.k8s.api.core.v1.ContainerPort": {"containerPort"},
		"io.k8s.api.core.v1.EnvVar":        {"name"},
		"io.k8s.api.core.v1.Pod":           nil,
		"io.k8s.api.core.v1.PodCondition":  {"type", "status"},
	} {
		got, _ := b.schemas[name].(object)["required"].([]string)
		if !slices.Equal(got, want) {
			t.Errorf("%s requires %v instead of %v", name, got, want)
		}
	}
	spec := b.schemas["io.k8s.api.core.v1.PodSpec"].(object)["properties"].(object)
	if c := spec["containers"].(object); c["x-kubernetes-list-type"] != "map" || !slices.Equal(c["x-kubernetes-list-map-keys"].([]string), []string{"name"}) {
		t.Errorf("containers %v", c)
	}
	if c := spec["tolerations"].(object); c["x-kubernetes-list-type"] != "atomic" {
		t.Errorf("tolerations %v", c)
	}
}

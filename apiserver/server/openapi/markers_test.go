package openapi

import (
	"reflect"
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

// What a field may be, what it is by default and how it is merged is said as Kubernetes says it; version 2 has no defaults.
func TestMarkedFields(t *testing.T) {
	set, err := registry.NewSet(groups.All(core.Config{})...)
	if err != nil {
		t.Fatal(err)
	}
	for _, v3 := range []bool{true, false} {
		b := &builder{refs: "#/", v3: v3, schemas: object{}}
		for _, r := range set.All() {
			b.kinds(r)
		}
		field := func(kind, name string) object {
			return b.schemas[kind].(object)["properties"].(object)[name].(object)
		}
		for _, test := range []struct {
			kind, field, key string
			want             any
		}{
			{"io.k8s.api.core.v1.Container", "imagePullPolicy", "enum", []string{"Always", "IfNotPresent", "Never"}},
			{"io.k8s.api.core.v1.Container", "imagePullPolicy", "type", "string"},
			{"io.k8s.api.core.v1.Container", "image", "enum", nil},
			{"io.k8s.api.discovery.v1.EndpointSlice", "addressType", "enum", []string{"FQDN", "IPv4", "IPv6"}}, // made of another package's constants
			{"io.k8s.api.core.v1.AzureDiskVolumeSource", "readOnly", "default", map[bool]any{true: false}[v3]},
			{"io.k8s.api.core.v1.AzureDiskVolumeSource", "kind", "default", map[bool]any{true: "Shared"}[v3]}, // refers to a constant
			{"io.k8s.api.core.v1.ContainerPort", "protocol", "default", map[bool]any{true: "TCP"}[v3]},
			{"io.k8s.api.core.v1.PersistentVolumeSpec", "claimRef", "x-kubernetes-map-type", "granular"},
			{"io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIServiceSpec", "caBundle", "x-kubernetes-list-type", "atomic"},
		} {
			if got := field(test.kind, test.field)[test.key]; !reflect.DeepEqual(got, test.want) {
				t.Errorf("%s.%s: %s is %v instead of %v", test.kind, test.field, test.key, got, test.want)
			}
		}
		if got := field("io.k8s.api.core.v1.PersistentVolumeClaimSpec", "accessModes")["items"].(object)["enum"]; !slices.Contains(got.([]string), "ReadWriteOnce") {
			t.Errorf("access modes: %v", got)
		}
		if got := b.schemas["io.k8s.api.core.v1.ObjectReference"].(object)["x-kubernetes-map-type"]; got != "atomic" {
			t.Errorf("an ObjectReference is merged as %v", got)
		}
		if got, ok := b.schemas["io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON"].(object)["type"]; ok {
			t.Errorf("any JSON is of type %v", got)
		}
	}
}

package cli

import (
	"context"
	"reflect"
	"testing"

	"bareboat.dev/kctl/api"
)

// The question that can-i asks names the resource in full, and a namespace only where there can be one.
func TestAccessQuestion(t *testing.T) {
	m := newModel(t)
	s := &session{namespace: "shop", server: api.New(m.server.NewClient(), nil)}
	t.Cleanup(func() { _ = s.server.Close() })
	resource := func(group, resource, name, subresource, namespace string) map[string]any {
		a := map[string]any{"verb": "get", "group": group, "resource": resource, "name": name, "subresource": subresource}
		if namespace != "" {
			a["namespace"] = namespace
		}
		return map[string]any{"resourceAttributes": a}
	}
	for _, tc := range []struct {
		what, subresource string
		all               bool
		want              map[string]any
	}{
		{"deploy/web", "scale", false, resource("apps", "deployments", "web", "scale", "shop")},
		{"po", "", true, resource("", "pods", "", "", "")},
		{"nodes", "", false, resource("", "nodes", "", "", "")},
		{"*", "", true, resource("*", "*", "", "", "")},
		{"/metrics", "", false, map[string]any{"nonResourceAttributes": map[string]any{"verb": "get", "path": "/metrics"}}},
	} {
		got, err := s.accessSpec(context.Background(), "get", tc.what, tc.subresource, tc.all)
		if err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %v %v", tc.what, got, err)
		}
	}
	if _, err := s.accessSpec(context.Background(), "get", "ships", "", false); err == nil {
		t.Error("an unknown resource was let through")
	}
}

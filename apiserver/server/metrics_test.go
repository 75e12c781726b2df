package server_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"bareboat.dev/apiserver/server"
	"bareboat.dev/apiserver/storage/memory"
	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// Names that clients make up become no labels, so that nobody can fill the server's memory with series.
func TestMadeUpNamesAreNoLabels(t *testing.T) {
	var registry *prometheus.Registry
	h := start(t, memory.New(), func(c *server.Config) { registry = c.Metrics })
	admin := h.admin()
	h.defaultAccount(admin)
	for _, r := range []*apiv1.ResourceRef{
		{Version: "v1", Resource: "madeups", Namespace: "default", Name: "x"},
		{Version: "v1", Resource: "pods", Namespace: "default", Name: "x", Subresource: "madeup"},
	} {
		if _, err := admin.Get(t.Context(), &apiv1.GetRequest{Ref: r}); err == nil {
			t.Errorf("%v is served", r)
		}
	}
	families, err := registry.Gather()
	check(t, err)
	counted := false
	for _, f := range families {
		counted = counted || f.GetName() == "apiserver_request_total"
		if strings.Contains(f.String(), "madeup") {
			t.Errorf("%s has a made-up label", f.GetName())
		}
	}
	if !counted {
		t.Error("nothing was counted")
	}
}

package main

import (
	"sync/atomic"
	"testing"
	"time"

	apiv1 "bareboat.dev/proto/bareboat/api/v1"
)

// TestStatusesAreWrittenOnce shows that a pod that has settled is not written about again.
func TestStatusesAreWrittenOnce(t *testing.T) {
	h := newHost(t)
	h.load()
	var writes atomic.Int64
	h.api.Fail(func(method string, ref *apiv1.ResourceRef) error {
		if method == "Update" && ref.GetResource() == "pods" {
			writes.Add(1)
		}
		return nil
	})
	h.create("web", `containers: [{name: app}]`)
	h.await("web", "Running", running)
	h.create("other", `containers: [{name: app}]`)
	h.await("other", "Running", running)
	time.Sleep(time.Second)
	if n := writes.Load(); n > 12 {
		t.Errorf("%d writes for two pods that started", n)
	}
}

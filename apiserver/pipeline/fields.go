package pipeline

import (
	"time"

	"bareboat.dev/apiserver/registry"
)

// fieldManager keeps metadata.managedFields (KEP-555).
type fieldManager struct{}

func (fieldManager) created(h *handle, r *Request, obj registry.Object, now time.Time) error {
	return nil
}

func (fieldManager) updated(h *handle, r *Request, obj, old registry.Object, now time.Time) error {
	return nil
}

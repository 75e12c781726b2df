package rest

import (
	"net/http"

	"bareboat.dev/apiserver/pipeline"
)

// serveResource serves paths below /api and /apis that name a resource, and returns false for all others.
func (h *Handler) serveResource(w http.ResponseWriter, r *http.Request, caller pipeline.Caller) bool {
	return false
}

package rest

import (
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/server/flow"
)

// Flows classifies requests.
type Flows interface {
	Classify(r *flow.Request) (schema, level types.UID, ok bool)
}

// The headers by which a client learns how its request was classified.
const (
	headerFlowSchema    = "X-Kubernetes-Pf-Flowschema-Uid"
	headerPriorityLevel = "X-Kubernetes-Pf-Prioritylevel-Uid"
)

// classify tells the client to which FlowSchema and priority level its request belongs.
func (h *Handler) classify(w http.ResponseWriter, r *http.Request, caller pipeline.Caller) {
	if h.cfg.Flows == nil {
		return
	}
	q := &flow.Request{User: caller.User, Verb: strings.ToLower(r.Method), Path: r.URL.Path}
	if t, ok := parsePath(r.URL.Path); ok {
		q.Verb, q.Group, q.Resource, q.Subresource, q.Namespace = string(requestVerb(r, t)), t.group, t.resource, t.subresource, t.namespace
	}
	if schema, level, ok := h.cfg.Flows.Classify(q); ok {
		w.Header()[headerFlowSchema] = []string{string(schema)}
		w.Header()[headerPriorityLevel] = []string{string(level)}
	}
}

package rest

import (
	"context"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/aggregator"
	"bareboat.dev/apiserver/authz"
	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/server/inflight"
	"bareboat.dev/apiserver/server/openapi"
)

// Aggregated are the groups and versions that other API servers serve.
type Aggregated interface {
	Lookup(group, version string) (*aggregator.Service, bool)
	Groups() []discoveryv2.APIGroupDiscovery
}

// serveAggregated passes a request below /apis/<group>/<version> on, if another server serves it, and returns false if not.
func (h *Handler) serveAggregated(w http.ResponseWriter, r *http.Request, caller pipeline.Caller) bool {
	if h.cfg.Aggregated == nil || !strings.HasPrefix(r.URL.Path, "/apis/") {
		return false
	}
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/apis/"), "/", 3)
	if len(parts) < 2 {
		return false
	}
	s, ok := h.cfg.Aggregated.Lookup(parts[0], parts[1])
	if !ok {
		return false
	}
	if err := h.passOn(w, r, caller, s); err != nil {
		h.fail(w, r, err)
	}
	return true
}

// passOn authorizes a request for another server, as it would be here; the other server does so again, by its own lights.
func (h *Handler) passOn(w http.ResponseWriter, r *http.Request, caller pipeline.Caller, s *aggregator.Service) error {
	t, resource := parsePath(r.URL.Path)
	req := &pipeline.Request{Caller: caller, Verb: requestVerb(r, t), Ref: pipeline.Ref{
		Group: t.group, Version: t.version, Resource: t.resource, Namespace: t.namespace, Name: t.name, Subresource: t.subresource,
	}}
	a := &authz.Attributes{User: caller.User, Verb: strings.ToLower(r.Method), Path: r.URL.Path}
	if resource {
		a = &authz.Attributes{
			User: caller.User, Verb: string(req.Verb), Group: t.group, Version: t.version, Resource: t.resource, Subresource: t.subresource,
			Namespace: t.namespace, Name: t.name,
		}
	}
	if err := h.cfg.Pipeline.AuthorizeAttributes(r.Context(), a); err != nil {
		return err
	}
	kind := inflight.Write
	switch {
	case upgrades(r):
		kind = inflight.Stream
	case req.Verb == pipeline.Watch:
		kind = inflight.Watch
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		kind = inflight.Read
	}
	leave, err := h.enter(caller, kind)
	if err != nil {
		return err
	}
	defer leave()
	ctx := r.Context()
	if kind == inflight.Read || kind == inflight.Write {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, inflight.RequestTimeout)
		defer cancel()
	}
	req.Served = resource && s.Knows(t.resource)
	start := h.cfg.Now()
	r.Header.Set(auditHeader, caller.AuditID)
	s.ServeHTTP(w, r.WithContext(ctx), caller.User, h.fail)
	h.cfg.Pipeline.Observed(r.Context(), req, start, nil)
	return nil
}

// requestVerb is the verb of a request about resources.
func requestVerb(r *http.Request, t target) pipeline.Verb {
	switch verb := verbOf(r.Method); {
	case verb == "get" && (t.watch || boolean(r.URL.Query(), "watch")):
		return pipeline.Watch
	case verb == "get" && t.name == "":
		return pipeline.List
	case verb == "delete" && t.name == "":
		return pipeline.DeleteCollection
	default:
		return pipeline.Verb(verb)
	}
}

// remoteGroups are the groups of other servers.
func (h *Handler) remoteGroups() []discoveryv2.APIGroupDiscovery {
	if h.cfg.Aggregated == nil {
		return nil
	}
	return h.cfg.Aggregated.Groups()
}

// withRemote adds the groups of other servers to those that are served here; a group may be served by both.
func (h *Handler) withRemote(list []metav1.APIGroup) []metav1.APIGroup {
	for _, remote := range h.remoteGroups() {
		i := slices.IndexFunc(list, func(g metav1.APIGroup) bool { return g.Name == remote.Name })
		if i < 0 {
			i = len(list)
			list = append(list, metav1.APIGroup{Name: remote.Name})
		}
		for _, v := range remote.Versions {
			list[i].Versions = append(list[i].Versions, metav1.GroupVersionForDiscovery{
				GroupVersion: schema.GroupVersion{Group: remote.Name, Version: v.Version}.String(), Version: v.Version,
			})
		}
		list[i].PreferredVersion = list[i].Versions[0]
	}
	return list
}

// withRemoteDiscovery is withRemote for aggregated discovery.
func (h *Handler) withRemoteDiscovery(list []discoveryv2.APIGroupDiscovery) []discoveryv2.APIGroupDiscovery {
	for _, remote := range h.remoteGroups() {
		i := slices.IndexFunc(list, func(g discoveryv2.APIGroupDiscovery) bool { return g.Name == remote.Name })
		if i < 0 {
			list = append(list, remote)
			continue
		}
		list[i].Versions = append(list[i].Versions, remote.Versions...)
	}
	return list
}

// remoteGroup is one group of other servers.
func (h *Handler) remoteGroup(name string) (metav1.APIGroup, bool) {
	for _, g := range h.withRemote(nil) {
		if g.Name == name {
			return g, true
		}
	}
	return metav1.APIGroup{}, false
}

// withRemoteOpenAPI adds the version 3 documents of other servers to the index of those that are made here.
func (h *Handler) withRemoteOpenAPI(index openapi.Document) (openapi.Document, error) {
	groups := h.remoteGroups()
	if len(groups) == 0 {
		return index, nil
	}
	var doc struct {
		Paths map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(index.Body, &doc); err != nil {
		return openapi.Document{}, err
	}
	for _, g := range groups {
		for _, v := range g.Versions {
			s, ok := h.cfg.Aggregated.Lookup(g.Name, v.Version)
			if !ok || s.OpenAPI() == "" {
				continue
			}
			entry, err := json.Marshal(map[string]string{"serverRelativeURL": s.OpenAPI()})
			if err != nil {
				return openapi.Document{}, err
			}
			doc.Paths["apis/"+g.Name+"/"+v.Version] = entry
		}
	}
	b, err := json.Marshal(doc)
	sum := sha512.Sum512(b)
	return openapi.Document{Body: b, Tag: fmt.Sprintf("%X", sum)}, err
}

// remoteSwagger are the version 2 documents of other servers, in the order of their priorities.
func (h *Handler) remoteSwagger() []openapi.Document {
	var all []openapi.Document
	for _, g := range h.remoteGroups() {
		for _, v := range g.Versions {
			if s, ok := h.cfg.Aggregated.Lookup(g.Name, v.Version); ok {
				if doc, ok := s.Swagger(); ok {
					all = append(all, doc)
				}
			}
		}
	}
	return all
}

// remoteOpenAPI passes a request for another server's document on; path is "apis/<group>/<version>".
func (h *Handler) remoteOpenAPI(w http.ResponseWriter, r *http.Request, path string) bool {
	parts := strings.Split(path, "/")
	if h.cfg.Aggregated == nil || len(parts) != 3 || parts[0] != "apis" {
		return false
	}
	s, ok := h.cfg.Aggregated.Lookup(parts[1], parts[2])
	if !ok || s.OpenAPI() == "" {
		return false
	}
	s.ServeHTTP(w, r, callerOf(r.Context()).User, h.fail)
	return true
}

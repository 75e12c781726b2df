package rest

import (
	"context"
	"net/http"
	"net/url"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/server/inflight"
	"bareboat.dev/apiserver/server/relay"
)

// Backends finds what the proxy subresources lead to. ID is "<name>", "<name>:<port>" or "<scheme>:<name>:<port>".
type Backends interface {
	Pod(ctx context.Context, namespace, id string) (*url.URL, http.RoundTripper, error)
	Service(ctx context.Context, namespace, id string) (*url.URL, http.RoundTripper, error)
	Node(ctx context.Context, id string) (*url.URL, http.RoundTripper, error)
}

// proxy passes a request on to a pod, a pod of a Service, or a node: /api/v1/namespaces/<ns>/services/<scheme>:<name>:<port>/proxy/….
func (h *Handler) proxy(w http.ResponseWriter, r *http.Request, ask *pipeline.Request, t target) error {
	if err := h.cfg.Pipeline.Authorize(r.Context(), ask); err != nil {
		return err
	}
	prefix, rest := cutPath(r.URL, segments(t))
	if rest.Path == "" && !upgrades(r) && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		// Relative links need a path that ends in a slash.
		to := url.URL{Path: r.URL.Path + "/", RawQuery: r.URL.RawQuery}
		w.Header().Set("Location", to.String())
		w.WriteHeader(http.StatusMovedPermanently)
		return nil
	}
	find := h.cfg.Backends.Pod
	pod := &corev1.PodProxyOptions{Path: rest.Path}
	var options runtime.Object = pod
	path := &pod.Path
	switch t.resource {
	case "services":
		service := &corev1.ServiceProxyOptions{Path: rest.Path}
		find, options, path = h.cfg.Backends.Service, service, &service.Path
	case "nodes":
		node := &corev1.NodeProxyOptions{Path: rest.Path}
		options, path = node, &node.Path
		find = func(ctx context.Context, _, id string) (*url.URL, http.RoundTripper, error) {
			return h.cfg.Backends.Node(ctx, id)
		}
	}
	if err := h.cfg.Pipeline.AdmitConnect(r.Context(), ask, options); err != nil {
		return err
	}
	if *path != rest.Path { // admission leads it elsewhere
		rest.Path, rest.RawPath = *path, ""
	}
	to, transport, err := find(r.Context(), t.namespace, t.name)
	if err != nil {
		return err
	}
	to.Path, to.RawPath = rest.Path, rest.RawPath
	relay.Serve(w, r, relay.Target{URL: to, Transport: transport, Prefix: prefix, Host: r.Host}, h.fail)
	return nil
}

// verbOf is the verb that a method is authorized as, where the request is not about an object itself.
func verbOf(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead:
		return "get"
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return strings.ToLower(method)
}

func upgrades(r *http.Request) bool {
	for _, v := range r.Header.Values("Connection") {
		if strings.Contains(strings.ToLower(v), "upgrade") {
			return true
		}
	}
	return false
}

// segments is how many parts of a path a target takes, up to and including its subresource.
func segments(t target) int {
	n := len([]string{"api", t.version, t.resource, t.name, t.subresource})
	if t.group != "" {
		n++
	}
	if t.namespace != "" {
		n += len([]string{"namespaces", t.namespace})
	}
	return n
}

// cutPath cuts a URL's path behind its first n parts. The rest keeps its escapes and its slashes, as they are the backend's.
func cutPath(u *url.URL, n int) (prefix string, rest url.URL) {
	prefix, rest.Path = cutParts(u.Path, n)
	if _, raw := cutParts(u.EscapedPath(), n); raw != rest.Path {
		if plain, err := url.PathUnescape(raw); err == nil && plain == rest.Path {
			rest.RawPath = raw
		}
	}
	return path.Clean(prefix), rest
}

func cutParts(s string, n int) (head, tail string) {
	at := 0
	for range n {
		i := strings.IndexByte(s[min(at+1, len(s)):], '/')
		if i < 0 {
			return s, ""
		}
		at += 1 + i
	}
	return s[:at], s[at:]
}

// longRunning counts a stream, and tells the observers when it has ended. An empty verb is that of the method.
func (h *Handler) longRunning(verb string, serve streamFunc) func(w http.ResponseWriter, r *http.Request, caller pipeline.Caller, t target) error {
	return func(w http.ResponseWriter, r *http.Request, caller pipeline.Caller, t target) error {
		leave, err := h.enter(caller, inflight.Stream)
		if err != nil {
			return err
		}
		defer leave()
		as := verb
		if as == "" {
			as = verbOf(r.Method)
		}
		req := &pipeline.Request{Caller: caller, Connect: true, Served: true, Verb: pipeline.Verb(as), Ref: pipeline.Ref{
			Group: t.group, Version: t.version, Resource: t.resource, Namespace: t.namespace, Name: t.name, Subresource: t.subresource,
		}}
		if h.cfg.LongRunning != nil {
			h.cfg.LongRunning(req, 1)
			defer h.cfg.LongRunning(req, -1)
		}
		start := h.cfg.Now()
		err = serve(w, r, req, t)
		h.cfg.Pipeline.Observed(r.Context(), req, start, err)
		return err
	}
}

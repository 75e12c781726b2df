package rest

import (
	"context"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"bareboat.dev/apiserver/pipeline"
	"bareboat.dev/apiserver/registry"
	"bareboat.dev/apiserver/server/inflight"
)

// serveResource serves paths below /api and /apis that name a resource, and returns false for all others.
func (h *Handler) serveResource(w http.ResponseWriter, r *http.Request, caller pipeline.Caller) bool {
	t, ok := parsePath(r.URL.Path)
	if !ok {
		return false
	}
	if err := h.resource(w, r, caller, t); err != nil {
		h.fail(w, r, err)
	}
	return true
}

func (h *Handler) resource(w http.ResponseWriter, r *http.Request, caller pipeline.Caller, t target) error {
	req := &pipeline.Request{Caller: caller, Ref: pipeline.Ref{
		Group: t.group, Version: t.version, Resource: t.resource, Namespace: t.namespace, Name: t.name, Subresource: t.subresource,
	}}
	if serve, ok := h.streams[t.group+"/"+t.resource+"/"+t.subresource]; ok {
		return serve(w, r, caller, t)
	}
	if t.watch && r.Method != http.MethodGet && r.Method != http.MethodHead {
		return pipeline.MethodNotAllowed()
	}
	q := r.URL.Query()
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return h.read(w, r, req, t)
	case http.MethodPost:
		req.Verb = pipeline.Create
	case http.MethodPut:
		req.Verb = pipeline.Update
	case http.MethodPatch:
		req.Verb, req.PatchType = pipeline.Patch, pipeline.PatchType(mediaType(r.Header.Get("Content-Type")))
	case http.MethodDelete:
		req.Verb = pipeline.Delete
		if t.name == "" {
			req.Verb = pipeline.DeleteCollection
			req.LabelSelector, req.FieldSelector = q.Get("labelSelector"), q.Get("fieldSelector")
		}
	default:
		return pipeline.MethodNotAllowed()
	}
	// As in Kubernetes a collection is posted to, and only what is in it is put or patched.
	if collection := t.name == ""; req.Verb == pipeline.Create && !collection && t.subresource == "" ||
		(req.Verb == pipeline.Update || req.Verb == pipeline.Patch) && collection {
		return pipeline.MethodNotAllowed()
	}
	return h.do(w, r, req)
}

// read serves gets, lists and watches.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, req *pipeline.Request, t target) error {
	q := r.URL.Query()
	if t.name != "" && !t.watch {
		// As in Kubernetes, of one object only the resource version counts; it is not watched by a parameter.
		req.Verb, req.ResourceVersion = pipeline.Get, q.Get("resourceVersion")
		return h.do(w, r, req)
	}
	watch := t.watch || boolean(q, "watch")
	if err := checkListOptions(q, watch); err != nil {
		return err
	}
	if err := readOptions(req, q); err != nil {
		return err
	}
	if !watch {
		return h.list(w, r, req)
	}
	if t.name != "" {
		req.Name, req.FieldSelector = "", joinFields(req.FieldSelector, "metadata.name="+t.name)
	}
	req.Match = "" // a watch's only one, NotOlderThan, is how watches are
	return h.watch(w, r, req)
}

// joinFields adds a requirement to a field selector.
func joinFields(selector, more string) string {
	if selector == "" {
		return more
	}
	return selector + "," + more
}

// do serves everything but lists and watches.
func (h *Handler) do(w http.ResponseWriter, r *http.Request, req *pipeline.Request) error {
	f, err := h.formatOf(r, req.Ref)
	if err != nil {
		return err
	}
	kind := inflight.Write
	if req.Verb == pipeline.Get {
		kind = inflight.Read
	}
	leave, err := h.enter(req.Caller, kind)
	if err != nil {
		return err
	}
	defer leave()
	if err := h.body(w, r, req); err != nil {
		return err
	}
	limit, err := deadline(r.URL.Query())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	res, err := h.cfg.Pipeline.Do(ctx, req)
	if err != nil {
		return err
	}
	addWarnings(w, res.Warnings)
	switch {
	case req.Verb == pipeline.DeleteCollection:
		return h.sendList(w, r, f, res.Collection)
	case res.Deleted && !returnsDeleted(req):
		return h.send(w, r, f, http.StatusOK, deletedStatus(req, res))
	case res.Created:
		return h.send(w, r, f, http.StatusCreated, res.Object)
	}
	return h.send(w, r, f, http.StatusOK, res.Object)
}

// body reads what a write carries.
func (h *Handler) body(w http.ResponseWriter, r *http.Request, req *pipeline.Request) error {
	if req.Verb == pipeline.Get {
		return nil
	}
	data, err := readBody(w, r)
	if err != nil {
		return err
	}
	contentType, q := r.Header.Get("Content-Type"), r.URL.Query()
	switch req.Verb {
	case pipeline.Delete, pipeline.DeleteCollection:
		return h.deleteOptions(req, q, contentType, data)
	case pipeline.Create:
		err = writeOptions(req, q, "CreateOptions")
	case pipeline.Update:
		err = writeOptions(req, q, "UpdateOptions")
	case pipeline.Patch:
		err = writeOptions(req, q, "PatchOptions")
	}
	req.Body = pipeline.Body{ContentType: contentType, Data: data}
	return err
}

func statusKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Version: "v1", Kind: "Status"}
}

// returnsDeleted names the kinds whose deletion answers with the object, not a Status, as in Kubernetes.
func returnsDeleted(r *pipeline.Request) bool {
	if r.Group != "" {
		return r.Group == "storage.k8s.io" && r.Resource == "storageclasses"
	}
	switch r.Resource {
	case "pods", "services", "serviceaccounts", "podtemplates", "resourcequotas", "persistentvolumes", "persistentvolumeclaims":
		return true
	}
	return false
}

func deletedStatus(r *pipeline.Request, res *pipeline.Result) *pipeline.Object {
	details := &metav1.StatusDetails{Name: r.Name, Group: r.Group, Kind: r.Resource}
	if obj, err := res.Object.Decoded(); err == nil {
		if meta, ok := obj.(registry.Object); ok {
			details.UID = types.UID(meta.GetUID())
		}
	}
	return pipeline.Answer(statusKind(), &metav1.Status{Status: metav1.StatusSuccess, Code: 200, Details: details}).Object
}

func addWarnings(w http.ResponseWriter, warnings []string) {
	for _, text := range warnings {
		w.Header().Add("Warning", warning(text))
	}
}

// warning is a Warning header's value (RFC 7234, section 5.5).
func warning(text string) string {
	quoted := make([]byte, 0, len(text)+8)
	quoted = append(quoted, "299 - \""...)
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			quoted = append(quoted, '\\', c)
		case c < ' ' || c == 0x7f:
			quoted = append(quoted, ' ')
		default:
			quoted = append(quoted, c)
		}
	}
	return string(append(quoted, '"'))
}

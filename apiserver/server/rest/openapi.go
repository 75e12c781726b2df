package rest

import (
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"bareboat.dev/apiserver/server/openapi"
)

// Media types by which kubectl asks for the version 2 document as protobuf.
const (
	protoV2    = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
	protoV2Old = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
)

func (h *Handler) openapiRoutes() {
	docs := openapi.New(h.cfg.Pipeline.Set, h.cfg.Version.GitVersion)
	h.known("GET /openapi/v3", func(w http.ResponseWriter, r *http.Request) {
		doc, err := docs.Index()
		if err == nil {
			doc, err = h.withRemoteOpenAPI(doc)
		}
		h.openapiDocument(w, r, "application/json", doc, err)
	})
	h.known("GET /openapi/v3/", func(w http.ResponseWriter, r *http.Request) {
		doc, ok, err := docs.V3(strings.TrimPrefix(r.URL.Path, "/openapi/v3/"))
		if err == nil && !ok {
			if h.remoteOpenAPI(w, r, strings.TrimPrefix(r.URL.Path, "/openapi/v3/")) {
				return
			}
			h.fail(w, r, notFound())
			return
		}
		h.openapiDocument(w, r, "application/json", doc, err)
	})
	h.known("GET /openapi/v2", func(w http.ResponseWriter, r *http.Request) {
		accept, contentType := r.Header.Get("Accept"), "application/json"
		asProto := strings.Contains(accept, protoV2) || strings.Contains(accept, protoV2Old)
		make := docs.V2
		if asProto {
			make, contentType = docs.V2Proto, protoV2
		}
		if others := h.remoteSwagger(); len(others) > 0 {
			make = func() (openapi.Document, error) { return docs.V2With(others, asProto) }
		}
		doc, err := make()
		h.openapiDocument(w, r, contentType, doc, err)
	})
}

func (h *Handler) openapiDocument(w http.ResponseWriter, r *http.Request, contentType string, doc openapi.Document, err error) {
	if err != nil {
		h.fail(w, r, apierrors.NewInternalError(err))
		return
	}
	h.cached(w, r, contentType, doc.Tag, doc.Body)
}

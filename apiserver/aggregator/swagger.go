package aggregator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	merge "k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"bareboat.dev/apiserver/server/openapi"
)

// maxSwagger bounds another server's OpenAPI document of version 2: Kubernetes' own, of all its kinds, is 4 MiB.
const maxSwagger = 8 << 20

// swagger is the part of another server's document of version 2 that is about its group.
type swagger struct {
	// etag is what the other server calls the document.
	etag string
	doc  openapi.Document
}

// fetchSwagger asks for the document if it is not the one that is known. A server that has none, or whose document is none, is as one
// that describes nothing.
func (s *Service) fetchSwagger(ctx context.Context, known swagger) swagger {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url("/openapi/v2", "").String(), nil)
	if err != nil {
		return known
	}
	q.Header = identityHeaders(prober())
	q.Header.Set("Accept", "application/json")
	if known.etag != "" {
		q.Header.Set("If-None-Match", known.etag)
	}
	resp, err := s.transport.RoundTrip(q)
	if err != nil {
		return known
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotModified:
		return known
	case http.StatusOK:
	default:
		return swagger{}
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxSwagger+1))
	if err != nil {
		return known // it may come whole the next time
	}
	doc, err := about(s.spec.Group, b)
	if err != nil {
		s.cfg.Log.Debug("an aggregated API's OpenAPI document of version 2 is none", "apiservice", s.name, "error", err)
		return swagger{}
	}
	return swagger{etag: resp.Header.Get("Etag"), doc: doc}
}

// about is what a document says about a group: servers describe everything they serve, and only their group is asked for here.
func about(group string, raw []byte) (openapi.Document, error) {
	if len(raw) > maxSwagger {
		return openapi.Document{}, fmt.Errorf("it is larger than %d bytes", maxSwagger)
	}
	var whole spec.Swagger
	if err := json.Unmarshal(raw, &whole); err != nil {
		return openapi.Document{}, err
	}
	b, err := json.Marshal(merge.FilterSpecByPathsWithoutSideEffects(&whole, []string{"/apis/" + group + "/"}))
	sum := sha256.Sum256(b)
	return openapi.Document{Body: b, Tag: hex.EncodeToString(sum[:])}, err
}

// Swagger is the other server's OpenAPI document of version 2, as far as it is about its group; ok is false if it has none.
func (s *Service) Swagger() (doc openapi.Document, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.swagger.doc, s.swagger.doc.Body != nil
}

// Package openapi describes the API to tools (kubectl explain, kubectl's validation, editors) as OpenAPI documents, version 2
// for all of it and version 3 a group-version at a time. Schemas are read off the Go types of k8s.io/api: fields and their
// order of merging from the struct tags, descriptions from the generated SwaggerDoc methods. So a kind that is registered is
// described.
//
//	docs := openapi.New(set, "v1.37.2")
//	body, etag, ok, err := docs.V3("apis/apps/v1")
package openapi

import (
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"bareboat.dev/apiserver/registry"
)

// object is a JSON object under construction; encoding/json writes it with sorted keys, so documents are deterministic.
type object = map[string]any

// Document is an encoded document with its tag.
type Document struct {
	Body []byte
	// Tag is the body's hash, for ETag headers and the index's URLs.
	Tag string
}

func newDocument(v any) (Document, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return Document{}, fmt.Errorf("openapi: %w", err)
	}
	return tagged(b), nil
}

func tagged(b []byte) Document {
	sum := sha512.Sum512(b)
	return Document{b, strings.ToUpper(hex.EncodeToString(sum[:32]))}
}

// Documents are the descriptions of one set. They are built when first asked for, and kept.
type Documents struct {
	set     *registry.Set
	version string

	v3      func() (map[string]Document, error)
	v2      func() (Document, error)
	v2proto func() (Document, error)
}

// New returns the documents of a set; version is the one that they carry.
func New(set *registry.Set, version string) *Documents {
	d := &Documents{set: set, version: version}
	d.v3 = sync.OnceValues(d.buildV3)
	d.v2 = sync.OnceValues(d.buildV2)
	d.v2proto = sync.OnceValues(d.buildV2Proto)
	return d
}

// groupPath is a group-version's place: "api/v1", "apis/apps/v1".
func groupPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "api/" + gv.Version
	}
	return "apis/" + gv.String()
}

func (d *Documents) groupVersions() []schema.GroupVersion {
	var out []schema.GroupVersion
	for _, r := range d.set.All() {
		if gv := r.Kind.GroupVersion(); !slices.Contains(out, gv) {
			out = append(out, gv)
		}
	}
	return out
}

// Index lists the version 3 documents (/openapi/v3).
func (d *Documents) Index() (Document, error) {
	docs, err := d.v3()
	if err != nil {
		return Document{}, err
	}
	paths := object{}
	for path, doc := range docs {
		paths[path] = object{"serverRelativeURL": "/openapi/v3/" + path + "?hash=" + doc.Tag}
	}
	return newDocument(object{"paths": paths})
}

// V3 returns the document of a group-version by its path, "apis/apps/v1".
func (d *Documents) V3(path string) (Document, bool, error) {
	docs, err := d.v3()
	doc, ok := docs[path]
	return doc, ok, err
}

// V2 returns the one version 2 document, as JSON.
func (d *Documents) V2() (Document, error) { return d.v2() }

// V2Proto returns it as protobuf (gnostic's openapi.v2.Document), which is what kubectl reads.
func (d *Documents) V2Proto() (Document, error) { return d.v2proto() }

func (d *Documents) info() object { return object{"title": "Kubernetes", "version": d.version} }

func (d *Documents) buildV3() (map[string]Document, error) {
	out := map[string]Document{}
	for _, gv := range d.groupVersions() {
		b := &builder{refs: "#/components/schemas/", v3: true, schemas: object{}}
		paths := object{}
		for _, r := range d.set.All() {
			if r.Kind.GroupVersion() == gv {
				b.resource(paths, r)
			}
		}
		doc, err := newDocument(object{
			"openapi": "3.0.0", "info": d.info(), "paths": paths, "components": object{"schemas": b.schemas},
		})
		if err != nil {
			return nil, err
		}
		out[groupPath(gv)] = doc
	}
	return out, nil
}

func (d *Documents) buildV2() (Document, error) {
	b := &builder{refs: "#/definitions/", schemas: object{}}
	paths := object{}
	for _, r := range d.set.All() {
		b.resource(paths, r)
	}
	return newDocument(object{"swagger": "2.0", "info": d.info(), "paths": paths, "definitions": b.schemas})
}

func (d *Documents) buildV2Proto() (Document, error) {
	doc, err := d.v2()
	if err != nil {
		return Document{}, err
	}
	parsed, err := openapiv2.ParseDocument(doc.Body)
	if err != nil {
		return Document{}, fmt.Errorf("openapi: %w", err)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(parsed)
	if err != nil {
		return Document{}, fmt.Errorf("openapi: %w", err)
	}
	return tagged(b), nil
}

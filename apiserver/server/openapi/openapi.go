// Package openapi describes the API to tools (kubectl explain, kubectl's validation, editors) as OpenAPI documents, version 2
// for all of it and version 3 a group-version at a time. Schemas are read off the Go types of k8s.io/api: fields and their
// order of merging from the struct tags, descriptions from the generated SwaggerDoc methods. So a kind that is registered is
// described. The schemas of custom resources are those of their definitions.
//
//	docs := openapi.New(pipeline.Set, "v1.37.2")
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

// Documents are the descriptions of what is served. They are built when first asked for, and kept until what they describe
// changes: a group-version's document of version 3 with its resources, the one document of version 2 with any.
type Documents struct {
	set     func() *registry.Set
	version string

	mu sync.Mutex
	// of is the set that v2 and groups are of.
	of      *registry.Set
	v2      *Document
	v2proto *Document
	groups  map[string]groupDocument // by path
	merged  merged
}

// groupDocument is a group-version's document with the resources that it is of.
type groupDocument struct {
	resources []*registry.Resource
	doc       Document
}

// New returns the documents of a set that may be replaced; version is the one that they carry.
func New(set func() *registry.Set, version string) *Documents {
	return &Documents{set: set, version: version, groups: map[string]groupDocument{}}
}

// groupPath is a group-version's place: "api/v1", "apis/apps/v1".
func groupPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "api/" + gv.Version
	}
	return "apis/" + gv.String()
}

// refreshLocked brings the documents of version 3 up to date, of which it builds anew those whose resources have changed, and
// forgets those of version 2.
func (d *Documents) refreshLocked() error {
	set := d.set()
	if d.of == set {
		return nil
	}
	byPath, versions := map[string][]*registry.Resource{}, map[string]schema.GroupVersion{}
	for _, r := range set.All() {
		path := groupPath(r.Kind.GroupVersion())
		byPath[path], versions[path] = append(byPath[path], r), r.Kind.GroupVersion()
	}
	groups := make(map[string]groupDocument, len(byPath))
	for path, resources := range byPath {
		have, ok := d.groups[path]
		if !ok || !slices.Equal(have.resources, resources) {
			doc, err := d.buildV3(resources)
			if err != nil {
				return err
			}
			have = groupDocument{resources, doc}
		}
		groups[path] = have
	}
	d.of, d.groups, d.v2, d.v2proto = set, groups, nil, nil
	return nil
}

// Index lists the version 3 documents (/openapi/v3).
func (d *Documents) Index() (Document, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.refreshLocked(); err != nil {
		return Document{}, err
	}
	paths := object{}
	for path, g := range d.groups {
		paths[path] = object{"serverRelativeURL": "/openapi/v3/" + path + "?hash=" + g.doc.Tag}
	}
	return newDocument(object{"paths": paths})
}

// V3 returns the document of a group-version by its path, "apis/apps/v1".
func (d *Documents) V3(path string) (Document, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.refreshLocked()
	g, ok := d.groups[path]
	return g.doc, ok, err
}

// V2 returns the one version 2 document, as JSON.
func (d *Documents) V2() (Document, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.v2Locked()
}

func (d *Documents) v2Locked() (Document, error) {
	if err := d.refreshLocked(); err != nil {
		return Document{}, err
	}
	if d.v2 == nil {
		doc, err := d.buildV2(d.of)
		if err != nil {
			return Document{}, err
		}
		d.v2 = &doc
	}
	return *d.v2, nil
}

// V2Proto returns it as protobuf (gnostic's openapi.v2.Document), which is what kubectl reads.
func (d *Documents) V2Proto() (Document, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	doc, err := d.v2Locked()
	if err != nil || d.v2proto != nil {
		return deref(d.v2proto), err
	}
	if doc, err = protoOf(doc); err == nil {
		d.v2proto = &doc
	}
	return doc, err
}

func deref(d *Document) Document {
	if d == nil {
		return Document{}
	}
	return *d
}

func (d *Documents) info() object { return object{"title": "Kubernetes", "version": d.version} }

func (d *Documents) buildV3(resources []*registry.Resource) (Document, error) {
	b := &builder{refs: "#/components/schemas/", v3: true, schemas: object{}}
	paths := object{}
	for _, r := range resources {
		b.resource(paths, r)
	}
	return newDocument(object{
		"openapi": "3.0.0", "info": d.info(), "paths": paths, "components": object{"schemas": b.schemas},
	})
}

func (d *Documents) buildV2(set *registry.Set) (Document, error) {
	b := &builder{refs: "#/definitions/", schemas: object{}}
	paths := object{}
	for _, r := range set.All() {
		b.resource(paths, r)
	}
	return newDocument(object{"swagger": "2.0", "info": d.info(), "paths": paths, "definitions": b.schemas})
}

func protoOf(doc Document) (Document, error) {
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
